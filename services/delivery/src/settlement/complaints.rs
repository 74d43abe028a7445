//! What the settles of a process cannot do: thousands may wait for the same stream, so the log says it once at the beginning
//! and then every half minute, with a count.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The log says the same again after this at the earliest.
const EVERY: Duration = Duration::from_secs(30);

/// Failed tries by what they were to do: a bounded set.
#[derive(Debug, Default)]
pub struct Complaints {
    by_what: Mutex<BTreeMap<String, Complaint>>,
}

#[derive(Debug)]
struct Complaint {
    said: Instant,
    unsaid: u64,
}

impl Complaints {
    /// Counts a failed try. The number of tries that failed since the log last said so, if it is to say it now.
    pub fn failed(&self, what: &str, now: Instant) -> Option<u64> {
        let mut by_what = self.by_what.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(complaint) = by_what.get_mut(what) else {
            by_what.insert(what.to_owned(), Complaint { said: now, unsaid: 0 });
            return Some(1);
        };
        complaint.unsaid += 1;
        if now.saturating_duration_since(complaint.said) < EVERY {
            return None;
        }
        complaint.said = now;
        Some(std::mem::take(&mut complaint.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_are_counted() {
        let (complaints, begun) = (Complaints::default(), Instant::now());
        let at = |secs| begun + Duration::from_secs(secs);
        assert_eq!(complaints.failed("copy to tier 1h", at(0)), Some(1));
        assert_eq!(complaints.failed("copy to tier 1h", at(1)), None);
        assert_eq!(complaints.failed("copy to tier 5m", at(1)), Some(1));
        assert_eq!(complaints.failed("copy to tier 1h", at(29)), None);
        assert_eq!(complaints.failed("copy to tier 1h", at(31)), Some(3));
        assert_eq!(complaints.failed("copy to tier 1h", at(32)), None);
        assert_eq!(complaints.failed("copy to tier 1h", at(600)), Some(2));
    }
}
