//! How fast a lane has lately been served while something was ready in it: the base of every estimate of a turn. Idle time
//! does not count, so that a quiet lane is not taken for a slow one.

use std::time::Duration;

use postrider_model::Timestamp;

/// A measurement is old, and begun anew, after so many recipients...
const ENOUGH: u64 = 50;
/// ... seen in no less than this, ...
const SHORTEST: Duration = Duration::from_secs(5);
/// ... or after this.
const LONGEST: Duration = Duration::from_secs(300);
/// What was measured before a pause of this length says nothing any more.
const STALE: Duration = Duration::from_secs(60);

/// The speed of one lane.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when something has been ready, as far as it is counted in neither of the two below.
    busy_since: Option<Timestamp>,
    idle_since: Option<Timestamp>,
    current: Measured,
    previous: Measured,
}

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    busy: Duration,
    served: u64,
}

impl Pace {
    /// Says whether something is ready from now on.
    pub(super) fn set_busy(&mut self, busy: bool, now: Timestamp) {
        match (busy, self.busy_since) {
            (true, None) => {
                if self.idle_since.is_some_and(|since| now.since(since) > STALE) {
                    *self = Self::default();
                }
                self.busy_since = Some(now);
            }
            (false, Some(_)) => {
                self.count_until(now);
                self.busy_since = None;
                self.idle_since = Some(now);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Says that so many recipients were tried.
    pub(super) fn served(&mut self, recipients: u32, now: Timestamp) {
        self.count_until(now);
        self.current.served += u64::from(recipients);
        let enough = self.current.served >= ENOUGH && self.current.busy >= SHORTEST;
        if enough || self.current.busy >= LONGEST {
            self.previous = std::mem::take(&mut self.current);
        }
    }

    /// How long `cost` recipients take; `None` while too little has been seen to say.
    pub(super) fn time_for(&self, cost: u64, now: Timestamp) -> Option<Duration> {
        let (busy, served) = self.total(now);
        let known = (served >= ENOUGH && busy >= SHORTEST) || busy >= 6 * SHORTEST;
        known.then(|| time_for(cost, busy, served))
    }

    /// A bold guess for the same from less evidence: `None` only if nothing has been served at all.
    pub(super) fn guess_for(&self, cost: u64, now: Timestamp) -> Option<Duration> {
        let (busy, served) = self.total(now);
        (served > 0).then(|| time_for(cost, busy.max(Duration::from_millis(100)), served))
    }

    /// Recipients a minute, if anything has been served.
    pub(super) fn per_minute(&self, now: Timestamp) -> Option<u64> {
        let (busy, served) = self.total(now);
        let millis = u64::try_from(busy.as_millis()).unwrap_or(u64::MAX).max(100);
        (served > 0).then(|| (served.saturating_mul(60_000) / millis).max(1))
    }

    /// Whether it is too early to wonder that nothing has been served.
    pub(super) fn is_young(&self, now: Timestamp) -> bool {
        let (busy, served) = self.total(now);
        served == 0 && busy < 2 * SHORTEST
    }

    fn total(&self, now: Timestamp) -> (Duration, u64) {
        let running = self.busy_since.map_or(Duration::ZERO, |since| now.since(since));
        (self.current.busy + self.previous.busy + running, self.current.served + self.previous.served)
    }

    fn count_until(&mut self, now: Timestamp) {
        if let Some(since) = self.busy_since.replace(now) {
            self.current.busy += now.since(since);
        } else {
            self.busy_since = None;
        }
    }
}

/// One more than was seen is taken for served: a lane where nothing moves is slow, not endless.
fn time_for(cost: u64, busy: Duration, served: u64) -> Duration {
    let millis = u128::from(cost) * busy.as_millis() / (u128::from(served) + 1);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + secs * 1_000)
    }

    #[test]
    fn idle_time_does_not_make_a_lane_slow() {
        let mut pace = Pace::default();
        for minute in 0..10 {
            pace.set_busy(true, at(minute * 30));
            pace.served(10, at(minute * 30 + 1));
            pace.set_busy(false, at(minute * 30 + 1));
        }
        pace.set_busy(true, at(300));
        let time = pace.time_for(100, at(300)).unwrap();
        assert!(time <= Duration::from_secs(10), "{time:?}");
    }

    #[test]
    fn nothing_is_said_before_enough_was_seen() {
        let mut pace = Pace::default();
        pace.set_busy(true, at(0));
        pace.served(3, at(1));
        assert_eq!(pace.time_for(1_000, at(1)), None);
        assert!(pace.guess_for(1_000, at(1)).is_some());
    }

    #[test]
    fn a_lane_where_nothing_moves_is_slow() {
        let mut pace = Pace::default();
        pace.set_busy(true, at(0));
        assert_eq!(pace.time_for(10, at(60)), Some(Duration::from_secs(600)));
    }
}
