//! Drives a settle: each step of the machine is one call to JetStream, repeated until it is acknowledged. The fence is looked
//! at before each; once the shard is another's, nothing more is written in its name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postrider_dispatch::settle::{DoneSet, Settle, SettleStep, moved_state};
use postrider_model::{Body, BodyRef, EnvelopeId, Move, ShardId};
use postrider_nats::{BodyError, Handle, PublishError, Spool};
use postrider_proto::Packet;
use postrider_runtime::{clock, fault};
use tokio_util::sync::CancellationToken;

use crate::fence::SharedFence;
use crate::journal::Journal;

mod complaints;
pub use complaints::Complaints;

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
    /// Of all shards of the process: they wait for the same streams.
    pub complaints: Arc<Complaints>,
    /// The shard is to be another's: what would wait for a full stream is left to that one.
    pub releasing: CancellationToken,
    /// The shard is another's.
    pub lost: CancellationToken,
}

/// The shard is another's: the settle is the new owner's business.
#[derive(Debug)]
pub struct ShardIsLost;

/// Why a settle ended on the way. The next owner of the shard finds its record, if it has one, and does the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The shard is another's.
    Lost,
    /// The shard is being released, and a stream takes nothing.
    Left,
}

impl From<ShardIsLost> for Unfinished {
    fn from(_: ShardIsLost) -> Self {
        Self::Lost
    }
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// It is acknowledged.
    Done,
    /// Not yet.
    NotYet,
    /// It was refused: the stream is full.
    Full,
}

impl From<bool> for Went {
    fn from(done: bool) -> Self {
        if done { Self::Done } else { Self::NotYet }
    }
}

impl Settlements {
    /// The set of what was settled lately.
    pub fn done_set(&self) -> MutexGuard<'_, DoneSet> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes through all steps. The packet is the one that the handle leases. While the fence is closed nothing is done; if it
    /// opens again without a gap, the shard is still ours, and the settle goes on. What a full stream does not take waits for it, but
    /// not if the shard is being released: whoever has it next may be what makes room.
    ///
    /// # Errors
    /// If the shard is lost on the way, or the settle left to the next owner.
    pub async fn settle(&self, settle: Settle, handle: Handle, packet: Packet) -> Result<(), Unfinished> {
        self.settle_telling(settle, handle, packet, || {}).await
    }

    /// The same, and says so once if it has to wait for a stream and the body is in memory no more.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub async fn settle_telling(
        &self,
        mut settle: Settle,
        handle: Handle,
        mut packet: Packet,
        spilled: impl FnOnce(),
    ) -> Result<(), Unfinished> {
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
                    _ => self.fence.guard(work).await.unwrap_or(Went::NotYet),
                }
            };
            let went = tokio::select! {
                biased;
                () = self.lost.cancelled() => return Err(Unfinished::Lost),
                went = work => went,
            };
            if went == Went::Done {
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
            } else if went == Went::Full && self.releasing.is_cancelled() {
                tracing::info!(%id, shard = %self.shard, "a stream is full; the next owner of the shard does the rest");
                return Err(Unfinished::Left);
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

    async fn perform(&self, settle: &Settle, step: SettleStep, handle: &Handle, packet: &mut Packet) -> Went {
        let id = settle.id();
        let copy = match step {
            SettleStep::CopyToTier(_) | SettleStep::CopyToReady | SettleStep::CopyToHold => {
                moved(packet, settle.next_move())
            }
            _ => None,
        };
        let copied = match (step, &copy) {
            (SettleStep::Record, _) => return self.record(settle).await.into(),
            (SettleStep::SpillBody, _) => self.spool.spill_body(packet.body()).await.map(|stored| {
                *packet = packet.clone().with_body(Body::Stored(stored));
            }),
            (SettleStep::CopyToTier(tier), Some(copy)) => self.spool.copy_to_tier(copy, tier).await,
            (SettleStep::CopyToReady, Some(copy)) => self.spool.publish_ready(copy).await,
            (SettleStep::CopyToHold, Some(copy)) => self.spool.copy_to_hold(copy).await,
            (SettleStep::BuryDead, _) => {
                let reason = if let Move::Dead { reason } = settle.next_move() { reason } else { "unknown" };
                self.spool.bury(reason, &id.to_string(), reason, packet.encode()).await
            }
            (SettleStep::AckOld, _) => return handle.confirm_ack(self.spool.publish_budget()).await.is_ok().into(),
            (SettleStep::DeleteBody, _) => match packet.body() {
                Body::Stored(stored) => return self.delete(&id, stored).await.into(),
                Body::Inline { .. } => Ok(()),
            },
            (SettleStep::CopyToTier(_) | SettleStep::CopyToReady | SettleStep::CopyToHold, None)
            | (SettleStep::Finished, _) => Ok(()),
        };
        match copied {
            Ok(()) => Went::Done,
            Err(error) => {
                let what = what(step);
                if let Some(tries) = self.complaints.failed(&what, Instant::now()) {
                    tracing::warn!(%id, %error, tries, "cannot {what} yet; trying again");
                }
                if matches!(error, PublishError::Full { .. }) { Went::Full } else { Went::NotYet }
            }
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

fn what(step: SettleStep) -> String {
    let what = match step {
        SettleStep::CopyToTier(tier) => return format!("copy to tier {tier}"),
        SettleStep::SpillBody => "store the body",
        SettleStep::CopyToReady => "move to another shard",
        SettleStep::CopyToHold => "copy to HOLD",
        SettleStep::BuryDead => "bury",
        SettleStep::Record | SettleStep::AckOld | SettleStep::DeleteBody | SettleStep::Finished => "go on",
    };
    what.to_owned()
}

#[cfg(test)]
mod tests;
