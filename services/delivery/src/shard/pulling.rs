//! Pulling the mail of a shard that is ours, as much as there is room for, until it is to be given back or is another's.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postrider_nats::{Leased, Puller};
use postrider_runtime::clock;

use super::lease::Kept;
use super::{Owned, PAUSE, ShardTask};
use crate::arrivals::OnTheWay;
use crate::worker::Input;

/// Bytes asked for in one pull.
const PULL_BYTES: usize = 8 << 20;

/// Envelopes asked for in one pull.
const PULL_MESSAGES: usize = 1_000;

/// How often the lease is told how far the shard is settled.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// Mail that may be lost on its way is not asked for more often: all that is unacknowledged comes again each time.
const ASK_ANEW_EVERY: Duration = Duration::from_secs(10);

#[derive(PartialEq, Eq)]
pub(super) enum Pulled {
    Release,
    Lost,
}

impl ShardTask {
    pub(super) async fn pull(&self, owned: &mut Owned, puller: &mut Puller) -> Pulled {
        let mut keep = tokio::time::interval(KEEP_EVERY);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut caught_up, mut has_all) = (false, false);
        let taken_at = self.tools.spool.server_now();
        let mut reconnects = self.tools.spool.reconnects();
        reconnects.mark_unchanged();
        let mut missed = false;
        let mut asked_anew: Option<Instant> = None;
        loop {
            missed |= puller.take_missed();
            let may_ask = asked_anew.is_none_or(|at| at.elapsed() > ASK_ANEW_EVERY);
            if missed && may_ask && self.tools.fence.may_act() && ask_anew(puller).await {
                (missed, has_all) = (false, false);
                asked_anew = Some(Instant::now());
            }
            // What was pulled and has not reached the index has its place there, whether or not the worker has heard of it.
            let free = *owned.room.borrow_and_update();
            let room = free.saturating_sub(owned.arriving.load(Ordering::Relaxed)).min(PULL_MESSAGES);
            // Once others may have the shard, a pull would take mail that is theirs.
            let open = self.tools.fence.may_act();
            tokio::select! {
                () = self.release.cancelled() => return Pulled::Release,
                _ = keep.tick() => {
                    owned.settlements.done_set().sweep(clock::now());
                    if self.keep(owned).await == Kept::Lost {
                        return Pulled::Lost;
                    }
                }
                () = self.look.notified() => {
                    if self.is_overwritten(owned).await {
                        return Pulled::Lost;
                    }
                }
                batch = puller.pull(room, PULL_BYTES), if room > 0 && open => {
                    let pending = puller.pending();
                    if std::mem::replace(&mut owned.pending, pending) != pending {
                        // The worker ends only with the process.
                        drop(self.inputs.send(Input::Pending(self.shard, pending)).await);
                    }
                    let younger = batch.iter().flatten().any(|leased: &Leased| leased.stored > taken_at);
                    let batch: Vec<_> =
                        batch.into_iter().map(|pulled| (pulled, OnTheWay::new(&owned.arriving, &self.lost))).collect();
                    for (pulled, on_the_way) in batch {
                        self.arrivals.arrive(pulled, self.shard, &owned.settlements, on_the_way, &self.inputs).await;
                    }
                    // Not before what came just now has met its record.
                    if !has_all && has_caught_up(puller, younger).await {
                        has_all = true;
                        if !std::mem::replace(&mut caught_up, true) {
                            owned.settlements.done_set().caught_up(clock::now());
                            owned.settlements.journal.tracker().caught_up();
                        }
                    }
                }
                changed = owned.room.changed(), if room == 0 => {
                    if changed.is_err() {
                        return Pulled::Lost;
                    }
                }
                // What was on its way over the connection that was lost counts as handed out, as does what a server handed out
                // that died: without a RESET it would come again after the ack wait alone. What we hold is known when it
                // comes again.
                Ok(()) = reconnects.changed() => missed = true,
                () = tokio::time::sleep(PAUSE), if !open || missed => {}
            }
        }
    }
}

/// Lets all unacknowledged mail come again. Whether that is done.
async fn ask_anew(puller: &mut Puller) -> bool {
    match puller.reset().await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "what went elsewhere comes later");
            false
        }
    }
}

/// Whether all that was there at the takeover has come: there is no more, or something `younger` has come, and nothing of it went to
/// an owner before, whose last request reached the server late.
async fn has_caught_up(puller: &mut Puller, younger: bool) -> bool {
    if younger && puller.has_no_gap() {
        return true;
    }
    match puller.is_exhausted() {
        true => puller.has_all().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "not certain to have all mail yet");
            false
        }),
        false => false,
    }
}
