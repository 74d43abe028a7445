//! Drives a settle: each step of the machine is one call to JetStream, repeated until it is acknowledged. The fence is looked
//! at before each; once the shard is another's, nothing more is written in its name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_dispatch::settle::{DoneSet, Settle, SettleStep, moved_state};
use postrider_model::{Body, BodyRef, EnvelopeId, Move, ShardId};
use postrider_nats::{BodyError, Handle, Spool};
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
    /// The shard.
    pub shard: ShardId,
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

    /// Goes through all steps. The packet is the one that the handle leases. While the fence is closed nothing is done; if it
    /// opens again without a gap, the shard is still ours, and the settle goes on.
    ///
    /// # Errors
    /// If the shard is lost on the way.
    pub async fn settle(&self, settle: Settle, handle: Handle, packet: Packet) -> Result<(), ShardIsLost> {
        self.settle_telling(settle, handle, packet, || {}).await
    }

    /// The same, and says so once if it has to wait for a stream and the body is in memory no more.
    ///
    /// # Errors
    /// If the shard is lost on the way.
    pub async fn settle_telling(
        &self,
        mut settle: Settle,
        handle: Handle,
        mut packet: Packet,
        spilled: impl FnOnce(),
    ) -> Result<(), ShardIsLost> {
        let id = settle.id();
        let mut spilled = Some(spilled);
        loop {
            let step = settle.step();
            if step == SettleStep::Finished {
                break;
            }
            let work = async {
                let work = std::pin::pin!(self.perform(&settle, step, &handle, &mut packet));
                match step {
                    // The journal looks at the fence itself, and what it was given it writes once.
                    SettleStep::Record => work.await,
                    _ => self.fence.guard(work).await.unwrap_or(false),
                }
            };
            let done = tokio::select! {
                biased;
                () = self.lost.cancelled() => return Err(ShardIsLost),
                done = work => done,
            };
            if done {
                fault::point(fault_name(&step));
                settle.done();
            } else if step == SettleStep::AckOld {
                // All that counts is stored. It leaves memory, and its end goes on beside: an envelope that comes again meanwhile is
                // only acknowledged. A consumer that was made anew since never confirms what the one before it handed out.
                tracing::warn!(%id, "an acknowledgement is not confirmed yet; looking for the record");
                self.done_set().copied(id);
                let body = match packet.body() {
                    Body::Stored(stored) => Some(stored.clone()),
                    Body::Inline { .. } => None,
                };
                tokio::spawn(self.clone().acknowledge(settle, handle, body));
                return Ok(());
            } else {
                if matches!(packet.body(), Body::Stored(_))
                    && let Some(spilled) = spilled.take()
                {
                    spilled();
                }
                self.pause().await?;
            }
        }
        self.finished(&id);
        Ok(())
    }

    /// One step. Whether it is acknowledged.
    async fn perform(&self, settle: &Settle, step: SettleStep, handle: &Handle, packet: &mut Packet) -> bool {
        let id = settle.id();
        match step {
            SettleStep::Finished => true,
            SettleStep::Record => self.record(settle).await,
            SettleStep::SpillBody => match self.spool.spill_body(packet.body()).await {
                Ok(stored) => {
                    *packet = packet.clone().with_body(Body::Stored(stored));
                    true
                }
                Err(error) => failed(&id, "store the body", &error),
            },
            SettleStep::CopyToTier(tier) => match moved(packet, settle.next_move()) {
                Some(copy) => match self.spool.copy_to_tier(&copy, tier).await {
                    Ok(()) => true,
                    Err(error) => failed(&id, "copy to a tier", &error),
                },
                None => true,
            },
            SettleStep::CopyToReady => match moved(packet, settle.next_move()) {
                Some(copy) => match self.spool.publish_ready(&copy).await {
                    Ok(()) => true,
                    Err(error) => failed(&id, "move to another shard", &error),
                },
                None => true,
            },
            SettleStep::CopyToHold => match moved(packet, settle.next_move()) {
                Some(copy) => match self.spool.copy_to_hold(&copy).await {
                    Ok(()) => true,
                    Err(error) => failed(&id, "copy to HOLD", &error),
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
            SettleStep::AckOld => handle.confirm_ack(self.spool.publish_budget()).await.is_ok(),
            SettleStep::DeleteBody => match packet.body() {
                Body::Stored(stored) => self.delete(&id, stored).await,
                Body::Inline { .. } => true,
            },
        }
    }

    /// Ends the old record's stay by its sequence, until somebody says that it is over, and does what is left.
    async fn acknowledge(self, mut settle: Settle, handle: Handle, body: Option<BodyRef>) {
        let id = settle.id();
        while settle.step() != SettleStep::Finished {
            let work = async {
                match (settle.step(), &body) {
                    (SettleStep::AckOld, _) => self.spool.end_unconfirmed(self.shard, &handle).await.is_ok(),
                    (_, Some(body)) => self.delete(&id, body).await,
                    (_, None) => true,
                }
            };
            let done = tokio::select! {
                biased;
                () = self.lost.cancelled() => return,
                done = self.fence.guard(work) => done.unwrap_or(false),
            };
            if done {
                settle.done();
            } else if self.pause().await.is_err() {
                return;
            }
        }
        self.finished(&id);
    }

    async fn delete(&self, id: &EnvelopeId, body: &BodyRef) -> bool {
        if let Err(error) = self.spool.delete_body(body).await {
            tracing::debug!(%id, %error, "a body is left to age out");
        }
        true
    }

    fn finished(&self, id: &EnvelopeId) {
        self.done_set().finished(*id, clock::now());
        self.journal.settled(id);
    }

    async fn pause(&self) -> Result<(), ShardIsLost> {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            () = self.lost.cancelled() => Err(ShardIsLost),
        }
    }

    /// Reads a packet that was dropped from memory again. `None` if its record is gone from its stream: then nothing is left of
    /// the envelope that could be settled.
    ///
    /// # Errors
    /// If the shard is lost on the way.
    pub async fn reread(&self, shard: ShardId, sequence: u64) -> Result<Option<Packet>, ShardIsLost> {
        loop {
            match self.spool.reread_packet(shard, sequence).await {
                Ok(packet) => return Ok(Some(packet)),
                Err(error @ BodyError::Unavailable(_)) => {
                    tracing::warn!(%shard, sequence, %error, "cannot read an envelope again yet; trying again");
                }
                Err(error) => {
                    tracing::error!(%shard, sequence, %error, "an envelope has gone from its stream, and is lost");
                    return Ok(None);
                }
            }
            self.pause().await?;
        }
    }

    async fn record(&self, settle: &Settle) -> bool {
        let Some(record) = settle.record() else { return true };
        if self.journal.append(record.clone()).await.is_err() {
            // The journal ends with the shard; should it have ended by itself, the shard is to be taken anew.
            self.lost.cancel();
            return false;
        }
        self.done_set().recorded(settle.id(), settle.next_move().clone());
        true
    }
}

const fn fault_name(step: &SettleStep) -> &'static str {
    match step {
        SettleStep::Record => "settle-recorded",
        SettleStep::SpillBody => "settle-spilled",
        SettleStep::CopyToTier(_) | SettleStep::CopyToReady | SettleStep::CopyToHold | SettleStep::BuryDead => {
            "settle-copied"
        }
        SettleStep::AckOld => "settle-acked",
        SettleStep::DeleteBody => "settle-deleted",
        SettleStep::Finished => "settle-finished",
    }
}

fn moved(packet: &Packet, next: &Move) -> Option<Packet> {
    let state = moved_state(&packet.envelope().state, next)?;
    Some(packet.clone().with_state(state))
}

fn failed(id: &EnvelopeId, what: &str, error: &dyn std::fmt::Display) -> bool {
    tracing::warn!(%id, %error, "cannot {what} yet; trying again");
    false
}

#[cfg(test)]
mod tests;
