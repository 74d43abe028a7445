//! Taking a shard over: its lease, the RESET of its consumer, what was settled lately. In the order that the machine says.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use postrider_dispatch::settle::DoneSet;
use postrider_dispatch::takeover::{Takeover, TakeoverFailure, TakeoverStep};
use postrider_nats::{BucketError, Expected, Next, Puller, Replayed};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lease::wire;
use super::{Owned, PAUSE, ShardTask};
use crate::journal::Journal;
use crate::settlement::Settlements;
use crate::worker::{Input, ShardFloor};

impl ShardTask {
    pub(super) async fn take_over(&self, mut takeover: Takeover, seen: Option<u64>) -> Option<(Owned, Puller)> {
        let mut puller = self.tools.spool.puller(self.shard);
        let store = self.tools.spool.lease_store();
        let done = Arc::new(Mutex::new(DoneSet::new()));
        let mut revision = 0;
        let mut journal = None;
        loop {
            if !self.tools.fence.may_act() {
                takeover.failed(TakeoverFailure::Fenced);
            }
            let result = match takeover.step() {
                TakeoverStep::Claim(lease) => {
                    let expected = seen.map_or(Expected::Absent, Expected::Revision);
                    let claimed = store.put_shard(self.shard, &wire(&lease), expected).await;
                    claimed.map(|written| revision = written).map_err(|error| match error {
                        BucketError::Conflict { .. } => TakeoverFailure::LeaseLost,
                        _ => TakeoverFailure::Unavailable,
                    })
                }
                TakeoverStep::Reset => puller.reset().await.map_err(|error| {
                    tracing::warn!(%error, "takeover waits");
                    TakeoverFailure::Unavailable
                }),
                TakeoverStep::Replay { from } => {
                    let begun = self.begin_journal(from.saturating_sub(1));
                    let replayed = self.replay(&begun, &done, from.saturating_sub(1)).await;
                    journal = Some(begun);
                    replayed
                }
                TakeoverStep::Pull => break,
                TakeoverStep::GiveUp => return None,
            };
            match result {
                Ok(()) => takeover.done(),
                Err(failure) => {
                    takeover.failed(failure);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let journal = journal?;
        let settlements = Settlements {
            shard: self.shard,
            spool: self.tools.spool.clone(),
            journal,
            done,
            fence: self.tools.fence.clone(),
            complaints: Arc::clone(&self.tools.complaints),
            releasing: CancellationToken::new(),
            lost: self.lost.clone(),
        };
        let (room, room_receiver) = watch::channel(0);
        let arriving = Arc::new(AtomicUsize::new(0));
        let floor = ShardFloor { settlements: settlements.clone(), room, arriving: Arc::clone(&arriving) };
        self.inputs.send(Input::Taken(self.shard, floor)).await.ok()?;
        tracing::info!(shard = %self.shard, epoch = takeover.lease().epoch, "shard taken");
        let lease = takeover.lease().clone();
        Some((Owned { lease, revision, settlements, room: room_receiver, arriving, pending: 0 }, puller))
    }

    fn begin_journal(&self, settled_through: u64) -> Journal {
        Journal::begin(
            self.tools.spool.clone(),
            self.shard,
            settled_through,
            self.tools.fence.clone(),
            self.tools.metrics.publish.clone(),
            self.lost.clone(),
        )
    }

    async fn replay(&self, journal: &Journal, done: &Mutex<DoneSet>, after: u64) -> Result<(), TakeoverFailure> {
        let see = |sequence, record: Replayed| {
            let mut tracker = journal.tracker();
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match record.next {
                Next::Move(next) => {
                    tracker.replayed(sequence, record.hop);
                    done.replayed(record.hop, next);
                }
                Next::ForNewer => {
                    // Not finished until a newer build has finished it.
                    tracker.replayed(sequence, record.hop);
                    tracker.resumed(&record.hop);
                    done.leave_to_newer(record.hop);
                }
                Next::Nowhere => tracker.replayed_batch(sequence),
            }
        };
        match self.tools.spool.replay_events(self.shard, after, see).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "takeover waits");
                Err(TakeoverFailure::Unavailable)
            }
        }
    }
}
