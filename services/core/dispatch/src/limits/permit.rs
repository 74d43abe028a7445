//! What is asked of the owner of a path's limits, and what it answers. Plain values: they travel between processes.

use std::time::Duration;

use std::fmt;

use postrider_model::{Class, Timestamp, WaitReason};

use super::Path;

/// A request for one connection, or for more messages on one that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The path.
    pub path: Path,
    /// On whose behalf: a share of the connections is kept for transactional mail.
    pub class: Class,
    /// Recipients of the next message. Fewer are granted only if the whole limit is smaller, or all of them would take long.
    pub least: u32,
    /// Recipients that could go now: more are of no use. 0 in a renewal that only keeps the connection.
    pub messages: u32,
    /// Connections the asker holds on this path already: who holds fewer is served first.
    pub connections: u32,
}

/// Names a permit for ever: the epoch of the owner that gave it, and a number within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PermitId {
    /// The epoch of the owner's lease.
    pub epoch: u64,
    /// Counted up by the owner, from a number that tells when it began.
    pub number: u64,
}

impl fmt::Debug for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.number)
    }
}

/// Leave to hold one connection and to send some messages over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Its name.
    pub id: PermitId,
    /// Which mail the connection may carry: one from the share of transactional mail carries nothing else, one for bulk
    /// carries both.
    pub class: Class,
    /// The connection counts as ended at this moment unless the permit is renewed before.
    pub until: Timestamp,
    /// How many messages may be begun on top of what was used of earlier grants, counted in recipients at MAIL;
    /// [`Permit::UNLIMITED`] on a path without a message rate. May be 0: then ask again once the connection stands.
    pub messages: u32,
    /// None of them may be begun at or after this moment; never after `until`.
    pub messages_until: Timestamp,
    /// How many messages (transactions) one connection may carry in its life.
    pub messages_per_connection: u32,
}

impl Permit {
    /// `messages` of a path without a message rate.
    pub const UNLIMITED: u32 = u32::MAX;
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Yes. A renewal's answer takes the place of the permit before it.
    Granted(Permit),
    /// Not now. A permit that was to be renewed stays as it is, except that what was left of its messages is taken back.
    Wait {
        /// Ask again at this time, not before.
        until: Timestamp,
        /// Which limit it is.
        reason: WaitReason,
    },
}

/// How long until an owner that did not answer is asked again.
const UNANSWERED: Duration = Duration::from_secs(1);

impl Grant {
    /// What stands for the answer of an owner that cannot be reached.
    pub fn unanswered(now: Timestamp) -> Self {
        Self::Wait { until: now.after(UNANSWERED), reason: WaitReason::LimitOwner }
    }
}
