//! From a pulled record to an envelope in the index: known repeats are settled, acceptance is recorded, exchangers are looked
//! up, and parts whose site is another's by now move there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use postrider_dispatch::settle::{Settle, SettlePlan};
use postrider_model::{Domain, ShardId, Snapshot};
use postrider_nats::{Leased, Undecodable};
use postrider_net::{Resolved, SiteResolver};
use postrider_runtime::clock;
use tokio::sync::{mpsc, watch};

use crate::held::{Arrival, Held, Turn, accepted, body_state, moved, turn};
use crate::metrics::Metrics;
use crate::settlement::Settlements;
use crate::worker::Input;

/// Turns records into arrivals. Cheap to clone.
#[derive(Clone)]
pub struct Arrivals {
    /// Looks exchangers up.
    pub resolver: SiteResolver,
    /// Routes.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Arrivals {
    /// Takes one pulled record in. Waits only for room on the way to the worker; what waits for DNS goes on by itself.
    pub async fn arrive(
        &self,
        pulled: Result<Leased, Undecodable>,
        shard: ShardId,
        settlements: &Settlements,
        arriving: &Arc<AtomicUsize>,
        inputs: &mpsc::Sender<Input>,
    ) {
        let leased = match pulled {
            Ok(leased) => leased,
            Err(undecodable) => {
                arriving.fetch_sub(1, Ordering::Relaxed);
                let spool = settlements.spool.clone();
                tokio::spawn(async move { spool.bury_undecodable(undecodable).await });
                return;
            }
        };
        let id = leased.packet.id();
        let repeat = settlements.done_set().repeat(id, body_state(&leased));
        if let Some(settle) = repeat {
            arriving.fetch_sub(1, Ordering::Relaxed);
            settlements.journal.tracker().resumed(&id);
            finish(settlements.clone(), settle, leased);
            return;
        }
        let envelope = leased.packet.envelope();
        if envelope.state.hop == 0 {
            settlements.journal.note(accepted(&leased, shard, clock::now()));
        }
        let Some(domain) = envelope.pending().next().map(|(_, recipient)| recipient.domain().clone()) else { return };
        let arrival = self.clone().look_up(domain, leased, shard, settlements.clone(), Arc::clone(arriving));
        let mut arrival = Box::pin(arrival);
        // What is in the cache keeps its place in the queue; what has to be asked for does not hold up the rest.
        match (&mut arrival).now_or_never() {
            Some(done) => pass(inputs, done).await,
            None => {
                let inputs = inputs.clone();
                tokio::spawn(async move { pass(&inputs, arrival.await).await });
            }
        }
    }

    async fn look_up(
        self,
        domain: Domain,
        leased: Leased,
        shard: ShardId,
        settlements: Settlements,
        arriving: Arc<AtomicUsize>,
    ) -> Option<Arrival> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        let resolved = self.resolver.resolve(&domain, &snapshot).await;
        match resolved {
            Ok(resolved) => self.place(resolved, leased, shard, settlements, &arriving),
            Err(failure) => {
                let site = leased.packet.envelope().state.site.clone();
                Some(Arrival::Unresolvable(Held::new(leased, shard, None, site), failure))
            }
        }
    }

    fn place(
        &self,
        resolved: Resolved,
        leased: Leased,
        shard: ShardId,
        settlements: Settlements,
        arriving: &AtomicUsize,
    ) -> Option<Arrival> {
        match turn(&leased, shard, resolved, &settlements.spool.layout()) {
            Turn::Stays(plan, site) => Some(Arrival::Dispatch(Held::new(leased, shard, Some(plan), site))),
            Turn::Moves(next) => {
                arriving.fetch_sub(1, Ordering::Relaxed);
                self.metrics.moved("site", leased.packet.envelope().class);
                let record = moved(&leased, shard, next.clone(), clock::now());
                let plan = SettlePlan { id: record.id, record: Some(record), body: body_state(&leased), next };
                finish(settlements, Settle::new(plan), leased);
                None
            }
        }
    }
}

fn finish(settlements: Settlements, settle: Settle, leased: Leased) {
    tokio::spawn(async move {
        let Leased { packet, handle, .. } = leased;
        if settlements.settle(settle, handle, packet).await.is_err() {
            tracing::debug!("a settle is left to the next owner of its shard");
        }
    });
}

async fn pass(inputs: &mpsc::Sender<Input>, arrival: Option<Arrival>) {
    if let Some(arrival) = arrival {
        // The worker ends only with the process.
        drop(inputs.send(Input::Arrived(Box::new(arrival))).await);
    }
}
