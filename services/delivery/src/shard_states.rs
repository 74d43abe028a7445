//! Tells others how our shards stand, looks how much of what is jammed lies in tiers, and answers promoters that ask how
//! much may come. The dispatcher knows; nothing is decided here.

use std::collections::HashMap;
use std::time::Duration;

use postrider_dispatch::shard_state::ShardState;
use postrider_model::{ShardId, SiteName};
use postrider_nats::Spool;
use postrider_runtime::clock;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::worker::Input;

/// How often the worker is asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What has not changed much is told again after this.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Between two looks at the tiers; each is about one site.
const DEPTH_EVERY: Duration = Duration::from_millis(250);

/// How long to wait where nothing is jammed, or nobody answers.
const PAUSE: Duration = Duration::from_secs(1);

async fn ask<T>(worker: &mpsc::Sender<Input>, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    worker.send(input(sender)).await.ok()?;
    receiver.await.ok()
}

/// Tells until `stop`. A calm shard is told of once, when it becomes so.
pub async fn tell(spool: Spool, worker: mpsc::Sender<Input>, stop: CancellationToken) {
    let mut told: HashMap<ShardId, (ShardState, postrider_model::Timestamp)> = HashMap::new();
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Some(states) = ask(&worker, Input::ShardStates).await else { continue };
        let now = clock::now();
        told.retain(|shard, _| states.iter().any(|(owned, _)| owned == shard));
        for (shard, state) in states {
            let before = told.get(&shard);
            let is_news = match before {
                None => !state.is_calm(),
                Some((before, at)) => !is_like(before, &state) || now.since(*at) >= TELL_EVERY,
            };
            if !is_news {
                continue;
            }
            if let Err(error) = spool.tell_shard_state(shard, &state).await {
                tracing::debug!(%shard, %error, "the state of a shard is told later");
                continue;
            }
            match state.is_calm() {
                true => drop(told.remove(&shard)),
                false => drop(told.insert(shard, (state, now))),
            }
        }
    }
}

/// Whether nobody would act otherwise on one than on the other.
fn is_like(one: &ShardState, other: &ShardState) -> bool {
    let kinds = |state: &ShardState| -> Vec<_> {
        state.jams.iter().map(|jam| (jam.site.clone(), jam.tenant.clone(), jam.probing)).collect()
    };
    one.asks_for_credit == other.asks_for_credit && kinds(one) == kinds(other)
}

/// Looks until `stop`, at one site after the other.
pub async fn look(spool: Spool, worker: mpsc::Sender<Input>, stop: CancellationToken) {
    let mut todo: Vec<(ShardId, SiteName)> = Vec::new();
    loop {
        let pause = if todo.is_empty() { PAUSE } else { DEPTH_EVERY };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        if todo.is_empty() {
            todo = ask(&worker, Input::Jammed).await.unwrap_or_default();
        }
        let Some((shard, site)) = todo.pop() else { continue };
        match spool.tier_depths(shard, &site).await {
            // The worker ends only with the process.
            Ok(depths) => drop(worker.send(Input::Deep(shard, site, depths)).await),
            Err(error) => tracing::debug!(%shard, %site, %error, "cannot see how much lies in the tiers"),
        }
    }
}

/// Answers promoters about a shard that is ours.
pub async fn answer_credit(shard: ShardId, spool: Spool, worker: mpsc::Sender<Input>, lost: CancellationToken) {
    loop {
        match spool.credit_questions(shard).await {
            Ok(mut questions) => {
                while let Some(Some(question)) = lost.run_until_cancelled(questions.next()).await {
                    match question.credit_lines() {
                        Ok(lines) => {
                            let credits = ask(&worker, |answer| Input::Credit(shard, lines, answer)).await;
                            if let Some(credits) = credits {
                                question.answer_credit(&credits).await;
                            }
                        }
                        Err(error) => tracing::warn!(%shard, %error, "a promoter's question cannot be read"),
                    }
                }
            }
            Err(error) => tracing::debug!(%shard, %error, "cannot listen to promoters"),
        }
        if lost.is_cancelled() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
