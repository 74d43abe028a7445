//! Asking the owner of a path's limits, here or in another process. The shape of `services/delivery/src/limits.rs`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::limits::{Ask, Grant, LimitOwner, Permit, PermitId, Shaping};
use postrider_model::{ShardId, Timestamp, WaitReason};
use tokio::sync::{mpsc, oneshot};

use super::{Here, SharedFence};
use crate::exec::{Life, Sim};
use crate::judge::Judge;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub enum Question {
    Acquire(Ask),
    Renew { permit: PermitId, used: u32, ask: Ask },
    Release { permit: PermitId, used: u32 },
}

/// An answer as it travels: with times to live, not moments of a clock.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Granted { permit: Permit, valid: Duration, messages_valid: Duration },
    Wait { time: Duration, reason: WaitReason },
    Nothing,
}

fn encode(grant: Option<Grant>, now: Timestamp) -> Answer {
    match grant {
        Some(Grant::Granted(permit)) => {
            Answer::Granted { valid: permit.until.since(now), messages_valid: permit.messages_until.since(now), permit }
        }
        Some(Grant::Wait { until, reason }) => Answer::Wait { time: until.since(now), reason },
        None => Answer::Nothing,
    }
}

/// Counted from the question: a permit never outlives the owner's view of it.
fn decode(answer: Answer, asked: Timestamp) -> Option<Grant> {
    match answer {
        Answer::Granted { permit, valid, messages_valid } => Some(Grant::Granted(Permit {
            until: asked.after(valid),
            messages_until: asked.after(messages_valid),
            ..permit
        })),
        Answer::Wait { time, reason } => Some(Grant::Wait { until: asked.after(time), reason }),
        Answer::Nothing => None,
    }
}

struct OwnedShard {
    owner: LimitOwner,
    quiet_until: Timestamp,
}

/// The limits that a process owns.
#[derive(Clone)]
pub struct OwnedLimits {
    owners: Rc<RefCell<BTreeMap<ShardId, OwnedShard>>>,
    ever: Rc<RefCell<BTreeSet<ShardId>>>,
    shaping: Shaping,
    fence: SharedFence,
    judge: Judge,
    life: Life,
}

impl OwnedLimits {
    pub fn new(shaping: Shaping, fence: SharedFence, judge: Judge, life: Life) -> Self {
        Self { owners: Rc::default(), ever: Rc::default(), shaping, fence, judge, life }
    }

    pub fn take(&self, shard: ShardId, epoch: u64, now: Timestamp, quiet_until: Timestamp) {
        let owner = LimitOwner::new(self.shaping.clone(), epoch, now);
        self.owners.borrow_mut().insert(shard, OwnedShard { owner, quiet_until });
        self.ever.borrow_mut().insert(shard);
    }

    pub fn drop_shard(&self, shard: ShardId) {
        self.owners.borrow_mut().remove(&shard);
    }

    pub fn has_owned(&self, shard: ShardId) -> bool {
        self.ever.borrow().contains(&shard)
    }

    pub fn owns(&self, shard: ShardId) -> bool {
        self.owners.borrow().contains_key(&shard)
    }

    pub fn answer(&self, shard: ShardId, question: &Question, now: Timestamp) -> Option<Grant> {
        let mut owners = self.owners.borrow_mut();
        let owned = owners.get_mut(&shard)?;
        if !self.fence.may_act() {
            return None;
        }
        if now < owned.quiet_until && !matches!(question, Question::Release { .. }) {
            return Some(Grant::Wait { until: owned.quiet_until, reason: WaitReason::LimitOwner });
        }
        let fence_until = now.after(self.fence.permits_for());
        let answer = match question {
            Question::Acquire(ask) => Some(owned.owner.acquire(ask, now, fence_until)),
            Question::Renew { permit, used, ask } => Some(owned.owner.renew(*permit, *used, ask, now, fence_until)),
            Question::Release { permit, used } => {
                owned.owner.release(*permit, *used, now);
                None
            }
        };
        self.judge.hear(|| format!("{:?} is asked {question:?} and says {answer:?} at {now:?}", self.life));
        answer
    }
}

type Asked = (Question, oneshot::Sender<Answer>);

/// The owner of a shard's limits.
type Owner = (ShardId, Life, mpsc::UnboundedSender<Asked>);

/// Who answers questions about which limits, as subjects of the server.
#[derive(Clone)]
pub struct LimitBus {
    sim: Sim,
    listeners: Rc<RefCell<Vec<Owner>>>,
    losses: Rc<RefCell<u64>>,
}

impl LimitBus {
    pub fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), listeners: Rc::default(), losses: Rc::default() }
    }

    /// How many questions and answers in a thousand are lost from now on.
    pub fn set_losses(&self, thousandths: u64) {
        *self.losses.borrow_mut() = thousandths;
    }

    fn is_lost(&self) -> bool {
        self.sim.chance(*self.losses.borrow())
    }

    fn listen(&self, shard: ShardId, life: Life) -> mpsc::UnboundedReceiver<Asked> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.listeners.borrow_mut().push((shard, life, sender));
        receiver
    }

    /// Asks whoever listens; the first answer counts.
    async fn ask(&self, shard: ShardId, question: Question) -> Option<Answer> {
        let (first, mut answers) = mpsc::unbounded_channel();
        self.listeners.borrow_mut().retain(|(_, _, sender)| !sender.is_closed());
        for (_, _, listener) in self.listeners.borrow().iter().filter(|(of, ..)| *of == shard) {
            let (listener, question, first, bus) = (listener.clone(), question.clone(), first.clone(), self.clone());
            self.sim.spawn(Life::WORLD, async move {
                bus.sim.sleep(bus.sim.some_time(6)).await;
                let (sender, answer) = oneshot::channel();
                if bus.is_lost() || listener.send((question, sender)).is_err() {
                    return;
                }
                let Ok(answer) = answer.await else { return };
                bus.sim.sleep(bus.sim.some_time(6)).await;
                if !bus.is_lost() {
                    drop(first.send(answer));
                }
            });
        }
        drop(first);
        tokio::select! {
            biased;
            Some(answer) = answers.recv() => Some(answer),
            () = self.sim.sleep(ANSWER_WITHIN) => None,
        }
    }
}

/// Answers questions about limits of a shard that is ours, until the task is dropped with it.
pub async fn answer_limits(shard: ShardId, here: Here) {
    let mut questions = here.world.bus.listen(shard, here.life);
    while let Some((question, answer)) = questions.recv().await {
        let now = here.now();
        if here.limits.owns(shard) {
            let grant = here.limits.answer(shard, &question, now);
            drop(answer.send(encode(grant, now)));
        }
    }
}

/// Asks a limit's owner, wherever it is: at once if it is here.
pub fn ask_here(here: &Here, shard: ShardId, question: &Question) -> Option<Grant> {
    let now = here.now();
    here.limits.owns(shard).then(|| here.limits.answer(shard, question, now).unwrap_or_else(|| Grant::unanswered(now)))
}

/// Asks the owner in another process.
pub async fn ask_there(here: Here, shard: ShardId, question: Question) -> Grant {
    let asked = here.now();
    let answer = here.world.bus.ask(shard, question).await;
    answer.and_then(|answer| decode(answer, asked)).unwrap_or_else(|| Grant::unanswered(here.now()))
}

/// Gives a permit back.
pub fn give_back(here: &Here, shard: ShardId, question: Question) {
    if here.limits.owns(shard) {
        here.limits.answer(shard, &question, here.now());
        return;
    }
    let bus = here.world.bus.clone();
    here.spawn(async move { drop(bus.ask(shard, question).await) });
}
