//! Answers what control asks: what is held here, and why a message waits.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use postrider_model::{MemberId, MessageId, RuleFilter, ShardId, WaitReason};
use postrider_proto::control::v1::delivery_query::Ask;
use postrider_proto::control::v1::{DeliveryAnswer, DeliveryQuery, ReadyPlace, ReasonCount, SummaryRow, WaitingPart};
use postrider_proto::message_id;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::keeper::Scans;
use crate::metrics::Metrics;
use crate::worker::Input;
use postrider_dispatch::dispatcher;
use postrider_nats::Spool;
use postrider_runtime::clock;

/// How often the gauges of the index are set.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// How often the gauges of the streams are set: each time costs the servers some milliseconds.
const STREAM_GAUGES_EVERY: Duration = Duration::from_secs(30);

/// Answers until `stop`. `source` is the address that mail leaves from, if one is configured.
pub async fn answer(
    spool: Spool,
    me: MemberId,
    worker: mpsc::Sender<Input>,
    scans: Scans,
    source: Option<IpAddr>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        match spool.delivery_questions().await {
            Ok(mut questions) => {
                while let Some(Some(question)) = stop.run_until_cancelled(questions.next()).await {
                    match question.delivery_query() {
                        Ok(query) => {
                            let answer = reply(query, &me, &worker, &scans, source).await;
                            question.answer_delivery(answer).await;
                        }
                        Err(error) => tracing::warn!(%error, "a question of control cannot be read"),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot listen to questions of control"),
        }
        stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
    }
}

async fn reply(
    query: DeliveryQuery,
    me: &MemberId,
    worker: &mpsc::Sender<Input>,
    scans: &Scans,
    source: Option<IpAddr>,
) -> DeliveryAnswer {
    let mut answer = DeliveryAnswer { member: me.to_string(), ..DeliveryAnswer::default() };
    match query.ask {
        Some(Ask::Summary(_)) => answer.rows = summary(worker).await.into_iter().map(row).collect(),
        Some(Ask::Waiting(bytes)) => {
            if let Ok(message) = message_id(&bytes) {
                answer.parts = waiting(worker, message).await.into_iter().map(|found| part(found, source)).collect();
            }
        }
        Some(Ask::Matches(asked)) => match RuleFilter::try_from(asked.filter.unwrap_or_default()) {
            Ok(filter) => {
                let mut found = matching(worker, filter).await;
                answer.matching = count(found.len());
                found.sort_unstable();
                found.truncate(usize::try_from(asked.limit).unwrap_or(usize::MAX));
                let place = |(shard, sequence): (ShardId, u64)| ReadyPlace { shard: shard.to_string(), sequence };
                answer.ready = found.into_iter().map(place).collect();
            }
            Err(error) => tracing::warn!(%error, "a filter cannot be read"),
        },
        Some(Ask::Scans(_)) => answer.scans = scans.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        None => {}
    }
    answer
}

async fn summary(worker: &mpsc::Sender<Input>) -> Vec<dispatcher::SummaryRow> {
    let (sender, receiver) = oneshot::channel();
    if worker.send(Input::Summary(sender)).await.is_err() {
        return Vec::new();
    }
    receiver.await.unwrap_or_default()
}

async fn matching(worker: &mpsc::Sender<Input>, filter: RuleFilter) -> Vec<(ShardId, u64)> {
    let (sender, receiver) = oneshot::channel();
    if worker.send(Input::Matching(filter, sender)).await.is_err() {
        return Vec::new();
    }
    receiver.await.unwrap_or_default()
}

async fn waiting(worker: &mpsc::Sender<Input>, message: MessageId) -> Vec<dispatcher::WaitingPart> {
    let (sender, receiver) = oneshot::channel();
    if worker.send(Input::Waiting(message, sender)).await.is_err() {
        return Vec::new();
    }
    receiver.await.unwrap_or_default()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn row(row: dispatcher::SummaryRow) -> SummaryRow {
    SummaryRow {
        site: row.site.to_string(),
        tenant: row.tenant.to_string(),
        class: row.class.to_string(),
        ready: count(row.ready),
        in_flight: count(row.in_flight),
        waiting: row
            .waiting
            .into_iter()
            .map(|(reason, number)| ReasonCount { reason: reason.to_string(), count: count(number) })
            .collect(),
        oldest_arrival_ms: row.oldest_arrival.as_millis(),
    }
}

fn part(part: dispatcher::WaitingPart, source: Option<IpAddr>) -> WaitingPart {
    let lifted_by = match (part.reason, source) {
        (WaitReason::SourceUnavailable, Some(source)) => {
            format!("the machine that has {source} (delivery.source_address); an operator if it stays")
        }
        (reason, _) => reason.lifted_by().to_owned(),
    };
    WaitingPart {
        part: part.id.part,
        hop: part.id.hop,
        site: part.site.to_string(),
        reason: part.reason.to_string(),
        until_ms: part.until.as_millis(),
        lifted_by,
    }
}

/// Sets the gauges of the tiers until `stop`: they are the same for all processes, so each shows all of them.
pub async fn stream_gauges(metrics: Metrics, spool: Spool, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(STREAM_GAUGES_EVERY)).await.is_some() {
        match spool.depths().await {
            Ok(depths) => {
                metrics.tiers.reset();
                for depth in depths {
                    if let Some(tier) = depth.tier {
                        let count = i64::try_from(depth.count).unwrap_or(i64::MAX);
                        metrics.tiers.with_label_values(&[tier.as_str(), depth.class.as_str()]).add(count);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot count the tiers"),
        }
        if let Ok(count) = spool.intake_depth().await {
            metrics.intake.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if let Ok(state) = spool.dead_state().await {
            metrics.dead.show(&state);
        }
    }
}

/// Sets the gauges of the index until `stop`.
pub async fn gauges(metrics: Metrics, worker: mpsc::Sender<Input>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(GAUGES_EVERY)).await.is_some() {
        let rows = summary(&worker).await;
        metrics.depth.reset();
        metrics.oldest.reset();
        let now = clock::now();
        for row in rows {
            let class = row.class.as_str();
            let add = |state: &str, number: usize| {
                metrics.depth.with_label_values(&[class, state]).add(i64::try_from(number).unwrap_or(i64::MAX));
            };
            add("ready", row.ready);
            add("in-flight", row.in_flight);
            for (reason, number) in &row.waiting {
                add(reason.as_str(), *number);
            }
            let age = i64::try_from(now.since(row.oldest_arrival).as_secs()).unwrap_or(i64::MAX);
            let oldest = metrics.oldest.with_label_values(&[class]);
            oldest.set(oldest.get().max(age));
        }
    }
}
