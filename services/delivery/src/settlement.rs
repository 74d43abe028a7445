//! Drives a settle: each step of the machine is one call to JetStream, repeated until it is acknowledged. The fence is looked
//! at before each; once the shard is another's, nothing more is written in its name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_dispatch::settle::{DoneSet, Settle, SettleStep, moved_state};
use postrider_model::{Body, Move, ShardId};
use postrider_nats::{Handle, Spool};
use postrider_proto::Packet;
use postrider_runtime::{clock, fault};
use tokio_util::sync::CancellationToken;

use crate::fence::SharedFence;
use crate::journal::Journal;

/// Between tries of a step that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// What a shard's settles share. Cheap to clone.
#[derive(Clone)]
pub struct Settlements {
    /// The way to JetStream.
    pub spool: Spool,
    /// The shard's journal.
    pub journal: Journal,
    /// What was settled lately.
    pub done: Arc<Mutex<DoneSet>>,
    /// Looked at before each step.
    pub fence: SharedFence,
    /// The shard is another's.
    pub lost: CancellationToken,
}

/// The shard is another's: the settle is the new owner's business.
#[derive(Debug)]
pub struct ShardIsLost;

impl Settlements {
    /// The set of what was settled lately.
    pub fn done_set(&self) -> MutexGuard<'_, DoneSet> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes through all steps. The packet is the one that the handle leases.
    ///
    /// # Errors
    /// If the shard is lost on the way.
    pub async fn settle(&self, mut settle: Settle, handle: Handle, packet: Packet) -> Result<(), ShardIsLost> {
        let id = settle.id();
        let (mut handle, mut packet) = (Some(handle), packet);
        loop {
            if self.lost.is_cancelled() || !self.fence.may_act() {
                return Err(ShardIsLost);
            }
            let step = settle.step();
            let done = match step {
                SettleStep::Finished => break,
                SettleStep::Record => self.record(&settle).await?,
                SettleStep::SpillBody => match self.spool.spill_body(packet.body()).await {
                    Ok(stored) => {
                        packet = packet.with_body(Body::Stored(stored));
                        true
                    }
                    Err(error) => failed(&id, "store the body", &error),
                },
                SettleStep::CopyToTier(tier) => match moved(&packet, settle.next_move()) {
                    Some(copy) => match self.spool.copy_to_tier(&copy, tier).await {
                        Ok(()) => true,
                        Err(error) => failed(&id, "copy to a tier", &error),
                    },
                    None => true,
                },
                SettleStep::CopyToReady => match moved(&packet, settle.next_move()) {
                    Some(copy) => match self.spool.publish_ready(&copy).await {
                        Ok(()) => true,
                        Err(error) => failed(&id, "move to another shard", &error),
                    },
                    None => true,
                },
                SettleStep::BuryDead => {
                    let reason = if let Move::Dead { reason } = settle.next_move() { reason } else { "unknown" };
                    match self.spool.bury(reason, &id.to_string(), reason, packet.encode()).await {
                        Ok(()) => true,
                        Err(error) => failed(&id, "bury", &error),
                    }
                }
                SettleStep::AckOld => {
                    if let Some(handle) = handle.take()
                        && let Err(error) = handle.ack_confirmed(self.spool.publish_budget()).await
                    {
                        // It comes again, and is known then.
                        tracing::warn!(%id, %error, "an envelope will come again");
                    }
                    true
                }
                SettleStep::DeleteBody => {
                    if let Body::Stored(stored) = packet.body()
                        && let Err(error) = self.spool.delete_body(stored).await
                    {
                        tracing::debug!(%id, %error, "a body is left to age out");
                    }
                    true
                }
            };
            if done {
                fault::point(fault_name(&step));
                settle.done();
            } else {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = self.lost.cancelled() => return Err(ShardIsLost),
                }
            }
        }
        self.done_set().finished(id, clock::now());
        self.journal.settled(&id);
        Ok(())
    }

    /// As [`Self::settle`], for a packet whose inline body may have been dropped from memory: a move reads it again first.
    ///
    /// # Errors
    /// If the shard is lost on the way.
    pub async fn settle_dropped(
        &self,
        settle: Settle,
        handle: Handle,
        mut packet: Packet,
        shard: ShardId,
        sequence: u64,
    ) -> Result<(), ShardIsLost> {
        let dropped = matches!(packet.body(), Body::Inline { bytes, .. } if bytes.is_empty());
        while dropped && *settle.next_move() != Move::Finished {
            match self.spool.reread_packet(shard, sequence).await {
                Ok(whole) => {
                    packet = packet.with_body(whole.body().clone());
                    break;
                }
                Err(error) => failed(&settle.id(), "read the body again", &error),
            };
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.lost.cancelled() => return Err(ShardIsLost),
            }
        }
        self.settle(settle, handle, packet).await
    }

    async fn record(&self, settle: &Settle) -> Result<bool, ShardIsLost> {
        let Some(record) = settle.record() else { return Ok(true) };
        tokio::select! {
            recorded = self.journal.append(record.clone()) => recorded.map_err(|_| ShardIsLost)?,
            () = self.lost.cancelled() => return Err(ShardIsLost),
        }
        self.done_set().recorded(settle.id(), settle.next_move().clone());
        Ok(true)
    }
}

const fn fault_name(step: &SettleStep) -> &'static str {
    match step {
        SettleStep::Record => "settle-recorded",
        SettleStep::SpillBody => "settle-spilled",
        SettleStep::CopyToTier(_) | SettleStep::CopyToReady | SettleStep::BuryDead => "settle-copied",
        SettleStep::AckOld => "settle-acked",
        SettleStep::DeleteBody => "settle-deleted",
        SettleStep::Finished => "settle-finished",
    }
}

fn moved(packet: &Packet, next: &Move) -> Option<Packet> {
    let state = moved_state(&packet.envelope().state, next)?;
    Some(packet.clone().with_state(state))
}

fn failed(id: &postrider_model::EnvelopeId, what: &str, error: &dyn std::fmt::Display) -> bool {
    tracing::warn!(%id, %error, "cannot {what} yet; trying again");
    false
}
