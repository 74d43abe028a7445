//! Self-fencing: a member that cannot renew stops by its own clock before others may take over. The clock is a monotonic
//! one that goes on while the process is frozen; this never reads it.

use std::time::Duration;

/// How long `member.<pod>` lives without a renewal.
pub const MEMBER_TTL: Duration = Duration::from_secs(15);

/// How often it is renewed. A server that hangs for 10 s must not outlast the fence: what is left for the last renewal before it
/// and the first one after it is two seconds.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How long after the last successful renewal a member may still act.
pub const FENCE: Duration = Duration::from_secs(12);

/// Milliseconds of a monotonic clock of this process. Never compared to a moment of the calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicMillis(u64);

impl MonotonicMillis {
    /// A reading of the clock.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// The reading.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The moment `delay` later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What a renewal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The membership has been held without a gap.
    Held,
    /// It is new, or had run out: others may have taken our shards, so all that were held are lost and claimed anew.
    New,
}

/// The fence of one member. It is looked at before each body and each publish.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fence {
    renewed_at: Option<MonotonicMillis>,
}

impl Fence {
    /// A fence that permits nothing before the first renewal.
    pub fn new() -> Self {
        Self::default()
    }

    /// A renewal succeeded that was *sent* at `sent` (the server's TTL begins after that, never before). Renewals are
    /// compare-and-swap over the one before: one that arrives after the key has run out fails, and joining anew counts as
    /// another life.
    pub fn renewed(&mut self, sent: MonotonicMillis) -> Renewal {
        let renewal = match self.renewed_at {
            Some(last) if sent.since(last) < MEMBER_TTL => Renewal::Held,
            Some(_) | None => Renewal::New,
        };
        self.renewed_at = Some(self.renewed_at.map_or(sent, |last| last.max(sent)));
        renewal
    }

    /// Whether anything may be sent or published in the name of our shards.
    pub fn may_act(&self, now: MonotonicMillis) -> bool {
        self.renewed_at.is_some_and(|last| now.since(last) < FENCE)
    }

    /// The moment up to which permits of the limits we own may run: others may own them from then on.
    pub fn permits_until(&self) -> Option<MonotonicMillis> {
        self.renewed_at.map(|last| last.after(MEMBER_TTL))
    }

    /// How long permits may run from `now`: the same as [`Self::permits_until`], for callers with another clock.
    pub fn permits_for(&self, now: MonotonicMillis) -> Duration {
        self.permits_until().map_or(Duration::ZERO, |until| until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicMillis {
        MonotonicMillis::new(seconds * 1000)
    }

    #[test]
    fn nothing_is_permitted_before_the_first_renewal() {
        let fence = Fence::new();
        assert!(!fence.may_act(at(0)));
        assert_eq!(fence.permits_until(), None);
        assert_eq!(fence.permits_for(at(0)), Duration::ZERO);
    }

    #[test]
    fn a_member_stops_twelve_seconds_after_its_last_renewal() {
        let mut fence = Fence::new();
        fence.renewed(at(100));
        assert!(fence.may_act(at(111)));
        assert!(!fence.may_act(at(112)));
    }

    #[test]
    fn a_member_stops_before_others_may_take_over() {
        assert!(FENCE < MEMBER_TTL && RENEW_EVERY * 4 <= FENCE);
    }

    #[test]
    fn permits_run_until_the_membership_ends() {
        let mut fence = Fence::new();
        fence.renewed(at(100));
        assert_eq!(fence.permits_until(), Some(at(115)));
        assert_eq!(fence.permits_for(at(103)), Duration::from_secs(12));
        assert_eq!(fence.permits_for(at(200)), Duration::ZERO);
    }

    #[test]
    fn a_renewal_after_the_end_is_a_new_membership() {
        let mut fence = Fence::new();
        assert_eq!(fence.renewed(at(100)), Renewal::New);
        assert_eq!(fence.renewed(at(103)), Renewal::Held);
        // Fenced for a moment, but never gone.
        assert_eq!(fence.renewed(at(117)), Renewal::Held);
        assert_eq!(fence.renewed(at(132)), Renewal::New);
    }

    #[test]
    fn an_answer_that_comes_late_does_not_turn_the_clock_back() {
        let mut fence = Fence::new();
        fence.renewed(at(103));
        fence.renewed(at(100));
        assert_eq!(fence.permits_until(), Some(at(118)));
    }
}
