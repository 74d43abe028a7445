//! Asking the owner of a path's limits: the machine itself where this process owns the limit's shard, else the owner over
//! NATS. The dispatcher cannot tell the two apart.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_dispatch::limits::{Ask, Grant, LimitOwner, Path, Permit, PermitId, Shaping, Source};
use postrider_model::{ShardId, Timestamp, WaitReason};
use postrider_proto::egress::v1 as wire;
use postrider_proto::{ConvertError, class, wire_class};
use prost::Message;

use crate::fence::SharedFence;

/// The limit owners of the shards that this process owns. Cheap to clone.
#[derive(Clone)]
pub struct OwnedLimits {
    owners: Arc<Mutex<Owners>>,
    shaping: Arc<Shaping>,
    fence: SharedFence,
    clock: LimitClock,
}

/// The clock of limits, which nobody can set: the time since the process began. A window of an hour must not end because
/// somebody set the machine's clock forth. Its moments are of use among themselves only.
#[derive(Clone, Copy, Debug)]
struct LimitClock {
    began: Instant,
    began_at: Timestamp,
}

impl LimitClock {
    fn now(self) -> Timestamp {
        self.began_at.after(self.began.elapsed())
    }
}

#[derive(Default)]
struct Owners {
    now: HashMap<ShardId, OwnedShard>,
    /// Shards that were ever owned: their permits may be in our own hands.
    ever: HashSet<ShardId>,
}

struct OwnedShard {
    owner: LimitOwner,
    // Permits of the owner before may live until then, by the clock of limits: nothing is granted before.
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
        let clock = LimitClock { began: Instant::now(), began_at: postrider_runtime::clock::now() };
        Self { owners: Arc::default(), shaping: Arc::new(shaping), fence, clock }
    }

    /// The shard is ours from now on, in this epoch; nothing is granted for as long as `quiet`.
    pub fn take(&self, shard: ShardId, epoch: u64, quiet: Duration) {
        let now = self.clock.now();
        let quiet_until = now.after(quiet);
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
    /// The moments of the answer are told by the clock of whoever asks, which says `now`.
    pub fn answer(&self, shard: ShardId, question: &Question, now: Timestamp) -> Option<Grant> {
        let mut owners = self.lock();
        let owned = owners.now.get_mut(&shard)?;
        if !self.fence.may_act() {
            return None;
        }
        let own = self.clock.now();
        if own < owned.quiet_until && !matches!(question, Question::Release { .. }) {
            let wait = Grant::Wait { until: owned.quiet_until, reason: WaitReason::LimitOwner };
            return Some(told(wait, own, now));
        }
        let fence_until = self.fence.permits_until(own);
        let grant = match question {
            Question::Acquire(ask) => Some(owned.owner.acquire(ask, own, fence_until)),
            Question::Renew { permit, used, ask } => Some(owned.owner.renew(*permit, *used, ask, own, fence_until)),
            Question::Release { permit, used } => {
                owned.owner.release(*permit, *used, own);
                None
            }
        };
        grant.map(|grant| told(grant, own, now))
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

/// A grant given at `own` by the clock of limits, told by a clock that says `now`.
fn told(grant: Grant, own: Timestamp, now: Timestamp) -> Grant {
    let at = |moment: Timestamp| now.after(moment.since(own));
    match grant {
        Grant::Granted(permit) => {
            let (until, messages_until) = (at(permit.until), at(permit.messages_until));
            Grant::Granted(Permit { until, messages_until, ..permit })
        }
        Grant::Wait { until, reason } => Grant::Wait { until: at(until), reason },
    }
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

#[cfg(test)]
mod tests {
    use postrider_dispatch::limits::PathLimits;
    use postrider_model::Class;

    use super::*;

    #[test]
    fn a_clock_that_is_set_forth_ends_no_window() {
        let fence = SharedFence::default();
        fence.renewed_at(Instant::now());
        let limits = PathLimits { message_rate: Some("20/h".parse().unwrap()), ..PathLimits::default() };
        let mut owned = OwnedLimits::new(Shaping { default: limits, ..Shaping::default() }, fence);
        let shard: ShardId = "b00".parse().unwrap();
        owned.take(shard, 1, Duration::ZERO);
        // By now an hour has passed since it was taken, so that nothing of the owner before weighs.
        owned.clock.began_at = owned.clock.began_at.after(Duration::from_secs(3_700));
        let path = Path { source: Source::new("one"), site: "example.net".parse().unwrap() };
        let ask = Ask { path, class: Class::Bulk, least: 1, messages: 20, connections: 1 };
        let wall = postrider_runtime::clock::now();
        let mut granted = 0;
        for hours in 0..200 {
            let now = wall.after(Duration::from_secs(3_600 * hours));
            let Some(Grant::Granted(permit)) = owned.answer(shard, &Question::Acquire(ask.clone()), now) else {
                continue;
            };
            assert!(permit.until > now && permit.until <= now.after(Duration::from_secs(10)));
            granted += permit.messages;
            let release = Question::Release { permit: permit.id, used: permit.messages };
            assert!(owned.answer(shard, &release, now).is_none());
        }
        assert!((1..=20).contains(&granted), "{granted}");
    }
}
