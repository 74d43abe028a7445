//! Gives out permits so that no limit of a path is ever exceeded.

use postrider_model::{Timestamp, WaitReason};

use super::{Ask, Grant, PermitId, Shaping};

/// Gives out permits for the paths whose limits it owns: one for each limit shard that this process owns.
#[derive(Debug)]
pub struct LimitOwner {
    shaping: Shaping,
    epoch: u64,
}

impl LimitOwner {
    /// An owner that begins now, in the given epoch of its shard's lease, with every bucket empty.
    pub fn new(shaping: Shaping, epoch: u64, _now: Timestamp) -> Self {
        Self { shaping, epoch }
    }

    /// New limits, in force from the next question on.
    pub fn set_shaping(&mut self, shaping: Shaping) {
        self.shaping = shaping;
    }

    /// Asks for one connection and some messages over it. No permit lives beyond `fence_until` (the last renewal of this
    /// process's membership plus its TTL), so that a successor that waited for it finds none alive.
    pub fn acquire(&mut self, _ask: &Ask, now: Timestamp, _fence_until: Timestamp) -> Grant {
        let _ = self.epoch;
        Grant::Wait { until: now, reason: WaitReason::LimitOwner }
    }

    /// Asks to keep a connection and for more messages over it. `used` counts all recipients at MAIL since the permit was
    /// acquired; what was granted and not used is taken back. A permit that is not known (its owner was another) is
    /// acquired anew: the answer then bears another id.
    pub fn renew(&mut self, _permit: PermitId, _used: u32, ask: &Ask, now: Timestamp, fence_until: Timestamp) -> Grant {
        self.acquire(ask, now, fence_until)
    }

    /// The connection ended; `used` as in [`LimitOwner::renew`]. Unknown permits are none of our business.
    pub fn release(&mut self, _permit: PermitId, _used: u32, _now: Timestamp) {}
}
