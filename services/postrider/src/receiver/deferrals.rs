//! How often what was deferred: the memory behind `defer2` and `defer2-data`. Keeps a hash a key and nothing of its text.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// The most keys remembered; beyond, all are forgotten, and some mail is deferred more often than it asked for.
const MOST_KEYS: usize = 8_000_000;

#[derive(Default)]
pub(super) struct Deferrals {
    hasher: RandomState,
    counts: Mutex<HashMap<u64, u32>>,
}

impl Deferrals {
    /// Whether this key is deferred once more; counts it if so.
    pub(super) fn defers(&self, key: &[&str], times: u32) -> bool {
        let key = self.hasher.hash_one(key);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST_KEYS {
            counts.clear();
        }
        let count = counts.entry(key).or_default();
        let defers = *count < times;
        *count += u32::from(defers);
        defers
    }

    /// The key was accepted: its next message is counted anew.
    pub(super) fn accepted(&self, key: &[&str]) {
        let key = self.hasher.hash_one(key);
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_deferred_so_often_and_then_let_through() {
        let deferrals = Deferrals::default();
        let asked: Vec<bool> = (0..4).map(|_| deferrals.defers(&["a", "b"], 2)).collect();
        assert_eq!(asked, [true, true, false, false]);
    }

    #[test]
    fn keys_are_counted_apart() {
        let deferrals = Deferrals::default();
        assert!(deferrals.defers(&["a", "b"], 1));
        assert!(deferrals.defers(&["ab", ""], 1));
    }

    #[test]
    fn what_was_accepted_is_counted_anew() {
        let deferrals = Deferrals::default();
        assert!(deferrals.defers(&["a"], 1));
        deferrals.accepted(&["a"]);
        assert!(deferrals.defers(&["a"], 1));
    }
}
