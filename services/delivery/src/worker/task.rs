//! The loop around the worker: waits for whatever comes first, hands it in, and has the actions performed.

use std::sync::Arc;
use std::time::Duration;

use postrider_dispatch::dispatcher::{Conversation, Fact};
use postrider_model::Snapshot;
use postrider_runtime::clock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Input, Worker};
use crate::conversation::Report;

/// Inputs taken in one go before actions are performed.
const BATCH: usize = 256;

/// The worker's loop.
pub struct WorkerTask {
    pub(super) worker: Worker,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) reports: mpsc::Receiver<(Conversation, Report)>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl WorkerTask {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut inputs = Vec::with_capacity(BATCH);
        let mut reports = Vec::with_capacity(BATCH);
        loop {
            let wake = self.worker.dispatcher.wake_at().map(|at| at.since(clock::now()));
            tokio::select! {
                () = stop.cancelled() => break,
                _ = self.reports.recv_many(&mut reports, BATCH) => {}
                _ = self.inputs.recv_many(&mut inputs, BATCH) => {}
                Ok(()) = self.snapshot.changed() => {
                    let snapshot = Arc::clone(&self.snapshot.borrow_and_update());
                    self.worker.follow(&snapshot.rules);
                    let weights = snapshot.tenants.values().map(|tenant| (tenant.id.clone(), tenant.weight));
                    self.worker.dispatcher.set_weights(weights);
                }
                () = tokio::time::sleep(wake.unwrap_or(Duration::from_secs(3600))) => {
                    self.worker.fact(Fact::Tick);
                }
            }
            self.worker.dispatcher.set_full_tiers(self.worker.tools.spool.full_tiers());
            self.worker.dispatcher.set_hold_is_full(self.worker.tools.spool.hold_is_full());
            for (conversation, report) in reports.drain(..) {
                self.worker.report(conversation, report);
            }
            for input in inputs.drain(..) {
                self.worker.take(input);
            }
            self.worker.act();
        }
        for talk in self.worker.talks.values() {
            talk.cut.cancel();
        }
    }
}
