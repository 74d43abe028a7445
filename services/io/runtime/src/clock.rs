//! The wall clock, read here and handed inwards as an argument: nothing under `services/core` reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use postrider_model::Timestamp;

/// The present moment. A clock before 1970 reads as the epoch.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_reads_this_century() {
        assert!(super::now().to_string().starts_with("20"));
    }
}
