//! Asking the owner of a path's limits: the machine itself where this process owns the limit's shard, else the owner over
//! NATS. The dispatcher cannot tell the two apart.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use postrider_dispatch::limits::{Ask, Grant, LimitOwner, Path, Permit, PermitId, Shaping, Source};
use postrider_model::{ShardId, Timestamp, WaitReason};
use postrider_proto::egress::v1 as wire;
use postrider_proto::{ConvertError, class, wire_class};
use prost::Message;

use crate::fence::SharedFence;

/// How long until an owner that did not answer is asked again.
const UNANSWERED: Duration = Duration::from_secs(1);

/// The limit owners of the shards that this process owns. Cheap to clone.
#[derive(Clone)]
pub struct OwnedLimits {
    owners: Arc<Mutex<Owners>>,
    shaping: Arc<Shaping>,
    fence: SharedFence,
}

#[derive(Default)]
struct Owners {
    now: HashMap<ShardId, OwnedShard>,
    /// Shards that were ever owned: their permits may be in our own hands.
    ever: HashSet<ShardId>,
}

struct OwnedShard {
    owner: LimitOwner,
    // Permits of the owner before may live until then: nothing is granted before.
    quiet_until: Timestamp,
}

/// What can be asked of an owner.
#[derive(Clone, Debug)]
pub enum Question {
    /// A connection and messages.
    Acquire(Ask),
    /// To keep them.
    Renew {
        /// The permit.
        permit: PermitId,
        /// Recipients at MAIL since it was acquired.
        used: u32,
        /// What is wanted from now on.
        ask: Ask,
    },
    /// To give them back.
    Release {
        /// The permit.
        permit: PermitId,
        /// Recipients at MAIL since it was acquired.
        used: u32,
    },
}

impl OwnedLimits {
    /// None owned yet.
    pub fn new(shaping: Shaping, fence: SharedFence) -> Self {
        Self { owners: Arc::default(), shaping: Arc::new(shaping), fence }
    }

    /// The shard is ours from now on, in this epoch; nothing is granted before `quiet_until`.
    pub fn take(&self, shard: ShardId, epoch: u64, now: Timestamp, quiet_until: Timestamp) {
        let owner = LimitOwner::new((*self.shaping).clone(), epoch, now);
        let mut owners = self.lock();
        owners.now.insert(shard, OwnedShard { owner, quiet_until });
        owners.ever.insert(shard);
    }

    /// The shard is no longer ours.
    pub fn drop_shard(&self, shard: ShardId) {
        self.lock().now.remove(&shard);
    }

    /// Whether this process has owned the shard before, or does.
    pub fn has_owned(&self, shard: ShardId) -> bool {
        self.lock().ever.contains(&shard)
    }

    /// Answers a question about a limit of `shard`; `None` if the shard is not ours, or there is no answer (a release).
    pub fn answer(&self, shard: ShardId, question: &Question, now: Timestamp) -> Option<Grant> {
        let mut owners = self.lock();
        let owned = owners.now.get_mut(&shard)?;
        if !self.fence.may_act() {
            return None;
        }
        if now < owned.quiet_until && !matches!(question, Question::Release { .. }) {
            return Some(Grant::Wait { until: owned.quiet_until, reason: WaitReason::LimitOwner });
        }
        let fence_until = self.fence.permits_until(now);
        match question {
            Question::Acquire(ask) => Some(owned.owner.acquire(ask, now, fence_until)),
            Question::Renew { permit, used, ask } => Some(owned.owner.renew(*permit, *used, ask, now, fence_until)),
            Question::Release { permit, used } => {
                owned.owner.release(*permit, *used, now);
                None
            }
        }
    }

    /// Whether the shard is ours.
    pub fn owns(&self, shard: ShardId) -> bool {
        self.lock().now.contains_key(&shard)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Owners> {
        // A panic while the lock was held cannot leave a bucket half changed: every change is one call.
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the dispatcher hears when an owner cannot be reached.
pub fn unanswered(now: Timestamp) -> Grant {
    Grant::Wait { until: now.after(UNANSWERED), reason: WaitReason::LimitOwner }
}

fn wire_ask(ask: &Ask) -> wire::Ask {
    wire::Ask {
        source: ask.path.source.to_string(),
        site: ask.path.site.to_string(),
        class: wire_class(ask.class).into(),
        least: ask.least,
        messages: ask.messages,
        connections: ask.connections,
    }
}

fn read_ask(ask: &wire::Ask) -> Result<Ask, ConvertError> {
    Ok(Ask {
        path: Path { source: Source::new(&ask.source), site: ask.site.parse()? },
        class: class(ask.class)?,
        least: ask.least,
        messages: ask.messages,
        connections: ask.connections,
    })
}

const fn wire_permit_id(id: PermitId) -> wire::PermitId {
    wire::PermitId { epoch: id.epoch, number: id.number }
}

fn read_permit_id(id: Option<wire::PermitId>) -> Result<PermitId, ConvertError> {
    let id = id.ok_or(ConvertError::Missing("permit"))?;
    Ok(PermitId { epoch: id.epoch, number: id.number })
}

/// Encodes a question.
pub fn encode_question(question: &Question) -> Bytes {
    use wire::limit_request::Ask as Wish;
    let ask = match question {
        Question::Acquire(ask) => Wish::Acquire(wire_ask(ask)),
        Question::Renew { permit, used, ask } => {
            Wish::Renew(wire::Renew { permit: Some(wire_permit_id(*permit)), used: *used, ask: Some(wire_ask(ask)) })
        }
        Question::Release { permit, used } => {
            Wish::Release(wire::Release { permit: Some(wire_permit_id(*permit)), used: *used })
        }
    };
    wire::LimitRequest { ask: Some(ask) }.encode_to_vec().into()
}

/// Reads a question.
pub fn decode_question(bytes: Bytes) -> Result<Question, ConvertError> {
    use wire::limit_request::Ask as Wish;
    Ok(match wire::LimitRequest::decode(bytes)?.ask.ok_or(ConvertError::Missing("ask"))? {
        Wish::Acquire(ask) => Question::Acquire(read_ask(&ask)?),
        Wish::Renew(renew) => Question::Renew {
            permit: read_permit_id(renew.permit)?,
            used: renew.used,
            ask: read_ask(&renew.ask.ok_or(ConvertError::Missing("ask"))?)?,
        },
        Wish::Release(release) => Question::Release { permit: read_permit_id(release.permit)?, used: release.used },
    })
}

fn millis(from: Timestamp, until: Timestamp) -> u32 {
    u32::try_from(until.since(from).as_millis()).unwrap_or(u32::MAX)
}

/// Encodes an answer given at `now`; `None` is the answer to a release.
pub fn encode_answer(grant: Option<&Grant>, now: Timestamp) -> Bytes {
    use wire::limit_reply::Answer;
    let answer = match grant {
        Some(Grant::Granted(permit)) => Answer::Granted(wire::Permit {
            id: Some(wire_permit_id(permit.id)),
            class: wire_class(permit.class).into(),
            valid_for_ms: millis(now, permit.until),
            messages: permit.messages,
            messages_valid_for_ms: millis(now, permit.messages_until),
            messages_per_connection: permit.messages_per_connection,
        }),
        Some(Grant::Wait { until, reason }) => {
            Answer::Wait(wire::Wait { for_ms: millis(now, *until), reason: reason.to_string() })
        }
        None => Answer::Released(wire::Released {}),
    };
    wire::LimitReply { answer: Some(answer) }.encode_to_vec().into()
}

/// Reads an answer to a question that was asked at `asked`: counted from there, a permit never outlives the owner's view.
pub fn decode_answer(bytes: Bytes, asked: Timestamp) -> Result<Option<Grant>, ConvertError> {
    use wire::limit_reply::Answer;
    let after = |ms: u32| asked.after(Duration::from_millis(ms.into()));
    Ok(match wire::LimitReply::decode(bytes)?.answer.ok_or(ConvertError::Missing("answer"))? {
        Answer::Granted(permit) => Some(Grant::Granted(Permit {
            id: read_permit_id(permit.id)?,
            class: class(permit.class)?,
            until: after(permit.valid_for_ms),
            messages: permit.messages,
            messages_until: after(permit.messages_valid_for_ms),
            messages_per_connection: permit.messages_per_connection,
        })),
        Answer::Wait(wait) => Some(Grant::Wait { until: after(wait.for_ms), reason: wait.reason.parse()? }),
        Answer::Released(wire::Released {}) => None,
    })
}
