//! From a pulled record to an envelope in the index: known repeats are settled, acceptance is recorded, exchangers are looked
//! up, and parts whose site is another's by now move there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use postrider_dispatch::rules::{Order, Rules};
use postrider_dispatch::settle::{BodyState, Settle, SettlePlan};
use postrider_model::{Domain, Move, ShardId, Snapshot};
use postrider_nats::{Handle, Leased, Undecodable};
use postrider_net::{Resolved, SiteResolver};
use postrider_proto::Packet;
use postrider_runtime::clock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::held::{Arrival, Held, stay};
use crate::settlement::Settlements;
use crate::worker::Input;

/// Counts one pulled record, from the pull until it is held, settled, or forgotten with its shard.
pub struct OnTheWay {
    count: Arc<AtomicUsize>,
    lost: CancellationToken,
}

impl OnTheWay {
    /// One more.
    pub fn new(count: &Arc<AtomicUsize>, lost: &CancellationToken) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(count), lost: lost.clone() }
    }

    /// Whether its shard has been another's since it was pulled: the lease is worth nothing any more.
    pub fn is_void(&self) -> bool {
        self.lost.is_cancelled()
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Turns records into arrivals. Cheap to clone.
#[derive(Clone)]
pub struct Arrivals {
    /// Looks exchangers up.
    pub resolver: SiteResolver,
    /// Routes.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What operators have ordered.
    pub rules: watch::Receiver<Arc<Rules>>,
}

/// How long a hop is handed back for whose record only a newer build can read.
const FOR_NEWER: Duration = Duration::from_secs(60);

impl Arrivals {
    /// Takes one pulled record in. Waits only for room on the way to the worker; what waits for DNS goes on by itself.
    pub async fn arrive(
        &self,
        pulled: Result<Leased, Undecodable>,
        shard: ShardId,
        settlements: &Settlements,
        on_the_way: OnTheWay,
        inputs: &mpsc::Sender<Input>,
    ) {
        let leased = match pulled {
            Ok(leased) => leased,
            Err(undecodable) => {
                let (spool, inputs) = (settlements.spool.clone(), inputs.clone());
                tokio::spawn(async move {
                    spool.bury_undecodable(undecodable).await;
                    leave(on_the_way, &inputs).await;
                });
                return;
            }
        };
        if settlements.done_set().is_for_newer(&leased.packet.id()) {
            leased.handle.hand_back_for(FOR_NEWER).await;
            return leave(on_the_way, inputs).await;
        }
        let repeat = repeat(settlements, &leased.packet);
        if let Some(settle) = repeat {
            return finish(settlements.clone(), settle, leased.handle, leased.packet, on_the_way, inputs.clone());
        }
        let envelope = leased.packet.envelope();
        if envelope.state.hop == 0 {
            settlements.journal.note(stay(&leased.packet, shard).accepted());
        }
        let Some(domain) = envelope.pending().next().map(|(_, recipient)| recipient.domain().clone()) else {
            // Nobody is left to send to.
            let settle = moving(&leased, shard, Move::Finished);
            return finish(settlements.clone(), settle, leased.handle, leased.packet, on_the_way, inputs.clone());
        };
        let order = self.rules.borrow().order(envelope, None, clock::now());
        if let Some(order @ (Order::Suspend { .. } | Order::End { .. })) = order {
            let site = envelope.state.site.clone();
            return pass(inputs, Arrival::Ordered(Held::new(leased, shard, None, site), order), on_the_way).await;
        }
        let arrival = self.clone().look_up(domain, leased, shard, settlements.clone());
        let mut arrival = Box::pin(arrival);
        // What is in the cache keeps its place in the queue; what has to be asked for does not hold up the rest.
        match (&mut arrival).now_or_never() {
            Some(arrival) => pass(inputs, arrival, on_the_way).await,
            None => {
                let inputs = inputs.clone();
                tokio::spawn(async move { pass(&inputs, arrival.await, on_the_way).await });
            }
        }
    }

    async fn look_up(self, domain: Domain, leased: Leased, shard: ShardId, settlements: Settlements) -> Arrival {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        match self.resolver.resolve(&domain, &snapshot).await {
            Ok(resolved) => self.place(resolved, leased, shard, &settlements),
            Err(failure) => {
                let site = leased.packet.envelope().state.site.clone();
                Arrival::Unresolvable(Held::new(leased, shard, None, site), failure)
            }
        }
    }

    fn place(&self, resolved: Resolved, leased: Leased, shard: ShardId, settlements: &Settlements) -> Arrival {
        let Resolved { site, slices, plan } = resolved;
        match stay(&leased.packet, shard).elsewhere(&site, slices, &settlements.spool.layout()) {
            None => Arrival::Dispatch(Held::new(leased, shard, Some(plan), site)),
            Some(next) => {
                let settle = moving(&leased, shard, next);
                let site = leased.packet.envelope().state.site.clone();
                Arrival::Elsewhere(Held::new(leased, shard, None, site), Box::new(settle))
            }
        }
    }
}

fn moving(leased: &Leased, shard: ShardId, next: Move) -> Settle {
    let (packet, body) = (&leased.packet, BodyState::from(leased.packet.body()));
    let record = Some(stay(packet, shard).moved(next.clone(), clock::now()));
    Settle::new(SettlePlan { id: packet.id(), record, body, next })
}

/// The rest of the settle of a hop that has its record already; `None` if it has none.
pub fn repeat(settlements: &Settlements, packet: &Packet) -> Option<Settle> {
    let id = packet.id();
    let settle = settlements.done_set().repeat(id, BodyState::from(packet.body()))?;
    settlements.journal.tracker().resumed(&id);
    Some(settle)
}

/// Settles a record that never reaches the index.
pub fn finish(
    settlements: Settlements,
    settle: Settle,
    handle: Handle,
    packet: Packet,
    on_the_way: OnTheWay,
    inputs: mpsc::Sender<Input>,
) {
    tokio::spawn(async move {
        if settlements.settle(settle, handle, packet).await.is_err() {
            tracing::debug!("a settle is left to the next owner of its shard");
        }
        leave(on_the_way, &inputs).await;
    });
}

/// The worker may have waited for this one to be gone.
async fn leave(on_the_way: OnTheWay, inputs: &mpsc::Sender<Input>) {
    drop(on_the_way);
    // The worker ends only with the process.
    drop(inputs.send(Input::Left).await);
}

/// To the worker, which alone knows whether the same envelope is held already.
async fn pass(inputs: &mpsc::Sender<Input>, arrival: Arrival, on_the_way: OnTheWay) {
    // The worker ends only with the process.
    drop(inputs.send(Input::Arrived(Box::new(arrival), on_the_way)).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_way_is_counted_until_it_is_dropped() {
        let (count, lost) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let one = OnTheWay::new(&count, &lost);
        let other = OnTheWay::new(&count, &lost);
        drop(one);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(other);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_was_pulled_in_an_earlier_life_of_a_shard_counts_nowhere_in_the_next() {
        let (before, lost) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let late = OnTheWay::new(&before, &lost);
        lost.cancel();
        let (after, alive) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let fresh = OnTheWay::new(&after, &alive);
        assert!(late.is_void() && !fresh.is_void());
        drop(late);
        assert_eq!(after.load(Ordering::Relaxed), 1);
    }
}
