//! Drives settles of one shard, and its journal: each step is one call, repeated until it is acknowledged, with a look at the fence
//! before each. The shape of `services/delivery/src/settlement.rs` and `journal.rs`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::settle::{DoneSet, Settle, SettleStep, SettledThrough, moved_state};
use postrider_model::{Body, EnvelopeId, Record, ShardId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Here, PAUSE};
use crate::jetstream::Token;
use crate::judge::{AFTERWARDS, Work};
use crate::nats::Packet;
use crate::spool::PublishError;

const ACK: &str = AFTERWARDS[0];
const ACCEPTANCE: &str = AFTERWARDS[1];

/// Records in one flush.
const FLUSH: usize = 500;

struct Line {
    record: Record,
    done: Option<oneshot::Sender<()>>,
}

/// What a shard's settles share. Cheap to clone.
#[derive(Clone)]
pub struct Settlements {
    pub here: Here,
    pub shard: ShardId,
    pub epoch: u64,
    pub done: Rc<RefCell<DoneSet>>,
    pub through: Rc<RefCell<SettledThrough>>,
    /// The shard is to be another's.
    pub releasing: CancellationToken,
    pub lost: CancellationToken,
    lines: mpsc::UnboundedSender<Line>,
}

/// Why a settle ended on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The shard is another's.
    Lost,
    /// The shard is being released, and a stream takes nothing.
    Left,
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Done,
    NotYet,
    Full,
}

impl From<bool> for Went {
    fn from(done: bool) -> Self {
        if done { Self::Done } else { Self::NotYet }
    }
}

impl Settlements {
    /// Begins the journal of a shard.
    pub fn begin(here: &Here, shard: ShardId, epoch: u64, settled_through: u64, lost: CancellationToken) -> Self {
        let (lines, receiver) = mpsc::unbounded_channel();
        let settlements = Self {
            here: here.clone(),
            shard,
            epoch,
            done: Rc::default(),
            through: Rc::new(RefCell::new(SettledThrough::starting_at(settled_through))),
            releasing: CancellationToken::new(),
            lost: lost.clone(),
            lines,
        };
        let writer = settlements.clone().without_lines();
        here.spawn(async move { drop(lost.run_until_cancelled(writer.write(receiver)).await) });
        settlements
    }

    /// The writer must not keep its own journal open.
    fn without_lines(mut self) -> Self {
        self.lines = mpsc::unbounded_channel().0;
        self
    }

    /// Appends a record that nothing waits for.
    pub fn note(&self, record: Record) {
        drop(self.lines.send(Line { record, done: None }));
    }

    async fn write(self, mut receiver: mpsc::UnboundedReceiver<Line>) {
        let mut lines = Vec::new();
        while receiver.recv_many(&mut lines, FLUSH).await > 0 {
            let (records, waiting): (Vec<Record>, Vec<_>) =
                lines.drain(..).map(|line| (line.record, line.done)).unzip();
            let moving: Vec<EnvelopeId> =
                records.iter().filter(|record| record.next.is_some()).map(|record| record.id).collect();
            let what = if moving.is_empty() { ACCEPTANCE } else { "a record" };
            let flush = self.through.borrow_mut().flush_begun();
            let name = format!("{}-{}", self.shard, self.here.sim.below(u64::MAX));
            let records = Rc::new(records);
            let sequence = loop {
                if self.here.fence.may_act() {
                    self.here.judge.acts(self.here.life, self.shard, self.epoch, what);
                    if let Ok(sequence) = self.here.spool.publish_events(self.shard, Rc::clone(&records), &name).await {
                        break sequence;
                    }
                }
                self.here.sim.sleep(PAUSE).await;
            };
            self.through.borrow_mut().recorded(flush, sequence, moving);
            for done in waiting.into_iter().flatten() {
                drop(done.send(()));
            }
        }
    }

    /// The rest of the settle of a hop that has its record already.
    pub fn repeat(&self, packet: &Packet) -> Option<Settle> {
        let settle = self.done.borrow_mut().repeat(packet.id(), (&packet.body).into())?;
        self.through.borrow_mut().resumed(&packet.id());
        Some(settle)
    }

    /// Goes through all steps.
    pub async fn settle(&self, settle: Settle, token: Token, packet: Packet) -> Result<(), Unfinished> {
        self.settle_telling(settle, token, packet, || {}).await
    }

    /// The same, and says so once if it has to wait and the body is in memory no more.
    pub async fn settle_telling(
        &self,
        mut settle: Settle,
        token: Token,
        mut packet: Packet,
        spilled: impl FnOnce(),
    ) -> Result<(), Unfinished> {
        let (id, life) = (settle.id(), self.here.life);
        let mut spilled = Some(spilled);
        self.here.judge.begins(life, id, Work::Settling(self.shard));
        loop {
            let step = settle.step();
            if step == SettleStep::Finished {
                break;
            }
            let work = async {
                let work = self.perform(&settle, step, &token, &mut packet);
                match step {
                    SettleStep::Record => work.await,
                    _ => self.here.fence.guard(work).await.unwrap_or(Went::NotYet),
                }
            };
            let went = tokio::select! {
                biased;
                () = self.lost.cancelled() => return Err(Unfinished::Lost),
                went = work => went,
            };
            self.here.judge.tell((id.message, id.part), || format!("{life:?} hop {} {step:?}: {went:?}", id.hop));
            if went == Went::Done {
                settle.done();
            } else if step == SettleStep::AckOld {
                self.done.borrow_mut().copied(id);
                let (beside, token) = (self.clone(), token.clone());
                self.here.spawn(async move { beside.acknowledge(settle, token, packet).await });
                return Ok(());
            } else if went == Went::Full && self.releasing.is_cancelled() {
                return Err(Unfinished::Left);
            } else {
                if matches!(packet.body, Body::Stored(_))
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

    async fn perform(&self, settle: &Settle, step: SettleStep, token: &Token, packet: &mut Packet) -> Went {
        let spool = &self.here.spool;
        if step != SettleStep::Record {
            let what = match step {
                SettleStep::AckOld | SettleStep::DeleteBody => ACK,
                _ => "a step of a settle",
            };
            self.here.judge.acts(self.here.life, self.shard, self.epoch, what);
        }
        let copy = moved_state(&packet.envelope.state, settle.next_move()).map(|state| packet.with_state(state));
        let copied = match (step, &copy) {
            (SettleStep::Record, _) => return self.record(settle).await.into(),
            (SettleStep::SpillBody, _) => {
                spool.spill_body(&packet.body).await.map(|stored| packet.body = Body::Stored(stored))
            }
            (SettleStep::CopyToTier(tier), Some(copy)) => spool.copy_to_tier(copy, tier).await,
            (SettleStep::CopyToReady, Some(copy)) => spool.publish_ready(copy).await,
            (SettleStep::CopyToHold, Some(copy)) => spool.copy_to_hold(copy).await,
            (SettleStep::BuryDead, _) => spool.bury(settle.id()).await,
            (SettleStep::AckOld, _) => return spool.confirm_ack(token).await.into(),
            (SettleStep::DeleteBody, _) => {
                if let Body::Stored(stored) = &packet.body {
                    spool.delete_body(stored).await;
                }
                Ok(())
            }
            (SettleStep::CopyToTier(_) | SettleStep::CopyToReady | SettleStep::CopyToHold, None)
            | (SettleStep::Finished, _) => Ok(()),
        };
        match copied {
            Ok(()) => Went::Done,
            Err(PublishError::Full) => Went::Full,
            Err(PublishError::Unavailable) => Went::NotYet,
        }
    }

    async fn record(&self, settle: &Settle) -> bool {
        let Some(record) = settle.record().cloned() else { return true };
        let (done, wait) = oneshot::channel();
        let sent = self.lines.send(Line { record, done: Some(done) });
        if sent.is_err() || wait.await.is_err() {
            self.lost.cancel();
            return false;
        }
        self.done.borrow_mut().recorded(settle.id(), settle.next_move().clone());
        true
    }

    async fn acknowledge(self, mut settle: Settle, token: Token, mut packet: Packet) {
        let id = settle.id();
        while settle.step() != SettleStep::Finished {
            let step = settle.step();
            let done = tokio::select! {
                biased;
                () = self.lost.cancelled() => return,
                went = self.here.fence.guard(self.perform(&settle, step, &token, &mut packet)) => went == Some(Went::Done),
            };
            if done {
                settle.done();
            } else if self.pause().await.is_err() {
                return;
            }
        }
        self.finished(&id);
    }

    fn finished(&self, id: &EnvelopeId) {
        self.done.borrow_mut().finished(*id, self.here.now());
        self.through.borrow_mut().settled(id);
        self.here.judge.finishes(self.here.life, *id, (self.shard, self.epoch));
    }

    async fn pause(&self) -> Result<(), Unfinished> {
        tokio::select! {
            () = self.here.sim.sleep(Duration::from_millis(500)) => Ok(()),
            () = self.lost.cancelled() => Err(Unfinished::Lost),
        }
    }
}
