//! The promoter: moves what has waited long enough from the tiers back to READY, with the same id. Any process may run it,
//! any number of them; a crash half way repeats a publish, which its id shows. Where the owner of a shard says so, it is asked
//! first how much may come, and the rest goes on to the tier nearest its turn, as it is: what waits behind it comes late by two minutes at most.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use postrider_dispatch::promote::{
    BatchDecision, DueMail, HeadDecision, Placement, Stride, Walked, due_at, judge_head, judge_pulled,
};
use postrider_dispatch::retry;
use postrider_dispatch::shard_state::LONGEST_WAIT;
use postrider_model::{Class, Envelope, ShardId, Tier, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::handle::{Leased, Repeat};
use crate::layout::MOVE_WAIT;
use crate::spool::Spool;
use crate::stay::Stay;
use crate::subject::{self, StreamName};
use crate::tier::TierPuller;

/// Publishes under way at a time.
const WINDOW: usize = 256;

/// An owner that has not answered by then is not waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How long mail that falls due is gathered, in a tier that is not shortened.
const GATHER: Duration = Duration::from_secs(2);

/// How long to leave READY alone when it took nothing.
const UNWILLING: Duration = Duration::from_secs(5);

/// What a promoter tells about an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromoterEvent {
    /// It is in READY, and still in the tier.
    Published {
        /// Where it waited.
        tier: Tier,
        /// Its class.
        class: Class,
    },
    /// It is in a tier again, and still in the old place.
    Delayed {
        /// Where it waited.
        tier: Tier,
        /// Its class.
        class: Class,
    },
    /// It is in READY only.
    Promoted {
        /// Where it waited.
        tier: Tier,
        /// Its class.
        class: Class,
    },
}

impl Spool {
    /// Promotes from all tiers until `shutdown`, and tells of every envelope. Of which `is_wanted` an operator has ordered
    /// something, which its owner is to obey: it goes to READY whatever its owner has room for. `promoters` is how many
    /// processes promote now, this one included.
    pub async fn run_promoters(
        &self,
        shutdown: CancellationToken,
        promoters: impl Fn() -> usize + Clone + Send + Sync + 'static,
        is_wanted: impl Fn(&Envelope) -> bool + Clone + Send + Sync + 'static,
        tell: impl Fn(PromoterEvent) + Clone + Send + Sync + 'static,
    ) {
        let mut loops = JoinSet::new();
        for tier in Tier::ALL {
            for class in Class::ALL {
                let (spool, shutdown) = (self.clone(), shutdown.clone());
                let (promoters, is_wanted, tell) = (promoters.clone(), is_wanted.clone(), tell.clone());
                loops.spawn(
                    async move { promote(&spool, (tier, class), &shutdown, &promoters, &is_wanted, &tell).await },
                );
            }
        }
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a promoter ended");
            }
        }
    }
}

async fn promote(
    spool: &Spool,
    (tier, class): (Tier, Class),
    shutdown: &CancellationToken,
    promoters: &(impl Fn() -> usize + Sync),
    is_wanted: &(impl Fn(&Envelope) -> bool + Sync),
    tell: &(impl Fn(PromoterEvent) + Sync),
) {
    let delay = spool.tier_delays().of(tier);
    let mut puller = TierPuller::new(spool, tier, class);
    let mut reconnects = spool.reconnects();
    let mut connected = spool.server_now();
    let mut stride = Stride::default();
    while !shutdown.is_cancelled() {
        let now = spool.server_now();
        if reconnects.has_changed().unwrap_or(false) {
            reconnects.mark_unchanged();
            connected = now;
        }
        let pause = match spool.tier_head(tier, class).await.map(|head| judge_head(head, delay, now)) {
            Ok(HeadDecision::Promote) => {
                let most = stride.most();
                let batch = promote_batch(spool, &mut puller, (tier, class), (most, connected), is_wanted, tell).await;
                let Batch { again, late, .. } = batch;
                let pause = stride.pause(Walked { again, left: puller.left(), late, delay, promoters: promoters() });
                match batch {
                    // All of what is due is in the hands of another promoter.
                    Batch { promoted: 0, unwilling: false, .. } => Duration::from_millis(100).min(delay),
                    Batch { promoted: 0, unwilling: true, .. } => UNWILLING,
                    // What falls due one by one goes together: each look, question and pull costs as much as a message.
                    Batch { promoted, .. } if promoted < most as u64 => pause.max(GATHER.min(delay / 10)),
                    Batch { .. } => pause,
                }
            }
            // Short tiers, as in trials, are looked at more often.
            Ok(HeadDecision::Sleep { until }) => {
                until.since(now).min(delay / 4).max(Duration::from_millis(20).min(delay))
            }
            Err(error) => {
                tracing::debug!(%tier, %error, "promoting later");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
    puller.stop().await;
}

/// What became of a batch.
#[derive(Default)]
struct Batch {
    promoted: u64,
    /// Those that went into the same tier again.
    again: u64,
    /// Since when the first of it was due.
    late: Duration,
    unwilling: bool,
}

async fn promote_batch(
    spool: &Spool,
    puller: &mut TierPuller,
    (tier, class): (Tier, Class),
    (most, connected): (usize, Timestamp),
    is_wanted: &(impl Fn(&Envelope) -> bool + Sync),
    tell: &(impl Fn(PromoterEvent) + Sync),
) -> Batch {
    let delay = spool.tier_delays().of(tier);
    let now = spool.server_now();
    let mut due: HashMap<ShardId, DueMail<Leased>> = HashMap::new();
    let mut wanted = Vec::new();
    let batch = puller.pull(most).await;
    let until = puller.ours_until();
    let mut late = Duration::ZERO;
    for pulled in batch {
        match pulled {
            Err(undecodable) => spool.bury_undecodable(undecodable).await,
            Ok(leased) => match judge_pulled(leased.stored, delay, now) {
                // What may be in READY already, from a promoter that died, goes there and not to a tier: the shard's owner knows it
                // for the first ten minutes only.
                BatchDecision::Promote
                    if is_wanted(leased.packet.envelope())
                        || may_be_in_ready(
                            leased.handle.may_be_a_repeat(),
                            due_at(leased.stored, delay),
                            (connected, now),
                        ) =>
                {
                    wanted.push((leased, Placement::Ready))
                }
                BatchDecision::Promote => {
                    late = late.max(now.since(due_at(leased.stored, delay)));
                    let envelope = leased.packet.envelope();
                    let (site, tenant) = (envelope.state.site.clone(), envelope.tenant.clone());
                    let (arrival, expiry) = (envelope.arrival, envelope.expiry);
                    let shard = subject::shard_of(&spool.layout(), envelope);
                    due.entry(shard).or_insert_with(|| DueMail::new(tier)).add(site, tenant, arrival, expiry, leased);
                }
                BatchDecision::PutBack { delay } => leased.handle.hand_back_for(delay).await,
            },
        }
    }
    let placed = join_all(due.into_iter().map(|(shard, due)| place(spool, shard, due))).await;
    let full = spool.full_tiers();
    let with_room = |(leased, placement): (Leased, Placement)| {
        let Placement::Tier(wanted) = placement else { return (leased, placement) };
        let (expiry, delays) = (leased.packet.envelope().expiry, spool.tier_delays());
        // Where it lies there is room for it, once it has left.
        let wanted = if full[wanted.index()] { tier } else { wanted };
        let found = retry::with_room(wanted, LONGEST_WAIT, &full, now, expiry, &delays);
        (leased, found.map_or(Placement::Ready, Placement::Tier))
    };
    let moved = stream::iter(placed.into_iter().flatten().map(with_room).chain(wanted))
        .map(|(leased, placement)| async move {
            let moved = move_one(spool, leased, (tier, placement), until, || {
                tell(match placement {
                    Placement::Ready => PromoterEvent::Published { tier, class },
                    Placement::Tier(_) => PromoterEvent::Delayed { tier, class },
                });
            })
            .await;
            if moved && placement == Placement::Ready {
                tell(PromoterEvent::Promoted { tier, class });
            }
            (moved, placement == Placement::Tier(tier))
        })
        .buffer_unordered(WINDOW)
        .fold(Batch { late, ..Batch::default() }, |mut batch, (moved, again)| {
            batch.promoted += u64::from(moved);
            batch.again += u64::from(moved && again);
            batch.unwilling |= !moved;
            std::future::ready(batch)
        });
    moved.await
}

/// Whether a promoter that is gone may have published it: then it was due when that one had it, before the consumer was made
/// anew or before the ack wait. What was put back because it was not due comes again when it is.
fn may_be_in_ready(repeat: Repeat, due: Timestamp, (connected, now): (Timestamp, Timestamp)) -> bool {
    match repeat {
        Repeat::No => false,
        Repeat::AfterARestart => due < connected,
        Repeat::Likely => due.after(MOVE_WAIT) <= now || due < connected,
    }
}

/// Where the due mail of a shard goes: as its owner answers, if it wants to be asked.
async fn place(spool: &Spool, shard: ShardId, due: DueMail<Leased>) -> Vec<(Leased, Placement)> {
    let (delays, jams) = (spool.tier_delays(), spool.jams(shard));
    if jams.as_ref().is_some_and(|jams| jams.asks_for_credit()) {
        match spool.ask_credit(shard, &due.question(), ANSWER_WITHIN).await {
            Ok(credits) => return due.by_credit(&credits, spool.server_now(), &delays),
            Err(error) => tracing::debug!(%shard, %error, "promoting without credit"),
        }
    }
    due.by_state(jams.as_deref(), spool.server_now(), &delays)
}

async fn move_one(
    spool: &Spool,
    leased: Leased,
    (from, to): (Tier, Placement),
    until: Instant,
    published: impl Fn(),
) -> bool {
    let Leased { packet, handle, sequence, stored } = leased;
    let moved = match to {
        Placement::Ready => spool.move_leased(&packet, to, until).await,
        Placement::Tier(tier) => spool.delay_again(&packet, tier, (from, sequence), until).await,
    };
    if let Err(error) = moved {
        tracing::warn!(id = %packet.id(), %error, "not promoted now");
        // What may be stored after all comes again when the ack wait is over, as from a promoter that died.
        if !error.is_in_doubt() {
            handle.hand_back_for(UNWILLING).await;
        }
        return false;
    }
    published();
    let stay = Stay { stream: StreamName::Retry(from), sequence, stored, handle, until };
    if let Err(error) = spool.end_stay(stay).await {
        tracing::debug!(id = %packet.id(), %error, "a promoted envelope comes again");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_another_promoters_when_it_was_due_may_be_in_ready() {
        let at = |seconds: u64| Timestamp::from_millis(1_000_000 + 1_000 * seconds);
        let check = |repeat, connected: u64, now: u64| may_be_in_ready(repeat, at(100), (at(connected), at(now)));
        for repeat in [Repeat::Likely, Repeat::AfterARestart] {
            assert!(check(repeat, 101, 102), "{repeat:?}: we came later than it was due");
            assert!(!check(repeat, 50, 110), "{repeat:?}: it was put back before it was due");
        }
        assert!(!check(Repeat::No, 101, 1_000));
        let lease = MOVE_WAIT.as_secs();
        assert!(check(Repeat::Likely, 50, 100 + lease), "another's lease is over");
        assert!(!check(Repeat::Likely, 50, 99 + lease));
        assert!(!check(Repeat::AfterARestart, 50, 100 + lease));
    }
}
