//! The wall clock, read here and handed inwards as an argument: nothing under `services/core` reads it.
//!
//! Clocks of machines are set, by an hour and more. What waits for a moment must not wait an hour longer because somebody set the
//! clock back. So the time here never goes backwards in a process: it follows the machine's clock forth at once, and where
//! that falls back it goes on at its own pace, slightly slower, until both agree again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postrider_model::Timestamp;

/// How much slower time goes while it is ahead of the machine's clock: one part in this many. Slow enough that no duration is
/// wrong by more than 2 %; an hour is made up for in under three days.
const SLOWER: u32 = 64;

/// The present moment. A clock before 1970 reads as the epoch.
pub fn now() -> Timestamp {
    // One process has one clock: this holds no state of any service.
    static CLOCK: Mutex<Option<Steady>> = Mutex::new(None);
    let (wall, at) = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Instant::now());
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let steady = clock.get_or_insert(Steady { time: wall, at });
    let time = steady.read(wall, at);
    Timestamp::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that never goes backwards: what it said last, and when that was by the clock that nobody can set.
#[derive(Clone, Copy, Debug)]
struct Steady {
    time: Duration,
    at: Instant,
}

impl Steady {
    /// The time when the machine's clock says `wall`.
    fn read(&mut self, wall: Duration, at: Instant) -> Duration {
        let passed = at.saturating_duration_since(self.at);
        let own = self.time + (passed - passed / SLOWER);
        *self = Self { time: wall.max(own), at };
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_reads_this_century() {
        assert!(now().to_string().starts_with("20"));
    }

    #[test]
    fn a_clock_set_forth_is_followed_and_one_set_back_is_waited_for() {
        let begun = Instant::now();
        let (hour, start) = (Duration::from_secs(3_600), Duration::from_secs(1_700_000_000));
        let mut clock = Steady { time: start, at: begun };
        let mut read = |seconds: u64, set: i64| {
            let passed = Duration::from_secs(seconds);
            let wall =
                if set < 0 { start + passed - hour } else { start + passed + hour * u32::try_from(set).unwrap() };
            clock.read(wall, begun + passed) - start
        };
        assert_eq!(read(10, 0), Duration::from_secs(10));
        assert_eq!(read(20, 1), hour + Duration::from_secs(20));
        // Set back: it goes on, a little slower.
        assert_eq!(read(84, 0), hour + Duration::from_secs(20 + 63));
        assert_eq!(read(148, -1), hour + Duration::from_secs(20 + 126));
        // Until the machine's clock has caught up.
        let long = 64 * 3_600;
        assert_eq!(read(long + 200, 0), Duration::from_secs(long + 200));
    }
}
