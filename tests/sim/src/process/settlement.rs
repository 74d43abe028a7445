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
    pub lost: CancellationToken,
    lines: mpsc::UnboundedSender<Line>,
}

/// The shard is another's.
pub struct ShardIsLost;

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
    pub async fn settle(&self, mut settle: Settle, token: Token, mut packet: Packet) -> Result<(), ShardIsLost> {
        let (id, life) = (settle.id(), self.here.life);
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
                    _ => self.here.fence.guard(work).await.unwrap_or(false),
                }
            };
            let done = tokio::select! {
                biased;
                () = self.lost.cancelled() => return Err(ShardIsLost),
                done = work => done,
            };
            self.here.judge.tell((id.message, id.part), || format!("{life:?} hop {} {step:?}: {done}", id.hop));
            if done {
                settle.done();
            } else if step == SettleStep::AckOld {
                self.done.borrow_mut().copied(id);
                let (beside, token) = (self.clone(), token.clone());
                self.here.spawn(async move { beside.acknowledge(settle, token, packet).await });
                return Ok(());
            } else {
                self.pause().await?;
            }
        }
        self.finished(&id);
        Ok(())
    }

    async fn perform(&self, settle: &Settle, step: SettleStep, token: &Token, packet: &mut Packet) -> bool {
        let spool = &self.here.spool;
        if step != SettleStep::Record {
            let what = match step {
                SettleStep::AckOld | SettleStep::DeleteBody => ACK,
                _ => "a step of a settle",
            };
            self.here.judge.acts(self.here.life, self.shard, self.epoch, what);
        }
        let moved = |packet: &Packet| {
            moved_state(&packet.envelope.state, settle.next_move()).map(|state| packet.with_state(state))
        };
        match step {
            SettleStep::Record => self.record(settle).await,
            SettleStep::SpillBody => match spool.spill_body(&packet.body).await {
                Ok(stored) => {
                    packet.body = Body::Stored(stored);
                    true
                }
                Err(_) => false,
            },
            SettleStep::CopyToTier(tier) => match moved(packet) {
                Some(copy) => spool.copy_to_tier(&copy, tier).await.is_ok(),
                None => true,
            },
            SettleStep::CopyToReady => match moved(packet) {
                Some(copy) => spool.publish_ready(&copy).await.is_ok(),
                None => true,
            },
            SettleStep::CopyToHold => match moved(packet) {
                Some(copy) => spool.copy_to_hold(&copy).await.is_ok(),
                None => true,
            },
            SettleStep::BuryDead => spool.bury(settle.id()).await.is_ok(),
            SettleStep::AckOld => spool.confirm_ack(token).await,
            SettleStep::DeleteBody => {
                if let Body::Stored(stored) = &packet.body {
                    spool.delete_body(stored).await;
                }
                true
            }
            SettleStep::Finished => true,
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
                done = self.here.fence.guard(self.perform(&settle, step, &token, &mut packet)) => done.unwrap_or(false),
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

    async fn pause(&self) -> Result<(), ShardIsLost> {
        tokio::select! {
            () = self.here.sim.sleep(Duration::from_millis(500)) => Ok(()),
            () = self.lost.cancelled() => Err(ShardIsLost),
        }
    }
}
