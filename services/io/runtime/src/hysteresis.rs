//! A judgement that goes to and fro slowly. Pure: the time is handed in.

use std::time::{Duration, Instant};

/// Whether something has waited, or been away, for too long: yes above a limit, and no again only after a calm period in which nothing
/// was above half of it.
#[derive(Clone, Debug)]
pub struct Hysteresis {
    limit: Duration,
    calm: Duration,
    strained: bool,
    calm_since: Option<Instant>,
}

impl Hysteresis {
    /// Longer than `limit` is too long, until nothing has taken half as long for the time of `calm`.
    pub const fn new(limit: Duration, calm: Duration) -> Self {
        Self { limit, calm, strained: false, calm_since: None }
    }

    /// Judges anew, given how long something has waited now.
    pub fn observe(&mut self, waited: Duration, now: Instant) -> bool {
        if waited > self.limit {
            self.strained = true;
        }
        if waited > self.limit / 2 {
            self.calm_since = None;
        } else {
            let since = *self.calm_since.get_or_insert(now);
            self.strained &= now.saturating_duration_since(since) < self.calm;
        }
        self.strained
    }
}

/// Five seconds to go down, five of calm to come back.
impl Default for Hysteresis {
    fn default() -> Self {
        Self::new(Duration::from_secs(5), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_within_the_limit_changes_nothing() {
        let mut judge = Hysteresis::default();
        let start = Instant::now();
        let mut observe =
            |second: u64, waited: u64| judge.observe(Duration::from_secs(waited), start + Duration::from_secs(second));
        assert!(!observe(0, 0) && !observe(4, 4) && !observe(5, 5) && !observe(6, 0));
        assert!(observe(12, 6));
        assert!(observe(13, 0) && observe(17, 0), "not back at once");
        assert!(!observe(18, 0));
    }
}
