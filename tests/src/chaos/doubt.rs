//! Whose conversations and settles a fault may have cut, from when to when: what may come twice, and nothing else may.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sink::Line;

/// A settle is recorded within this time of its 250 while NATS works, on a busy machine, in milliseconds.
const SETTLE: u64 = 2_000;
/// What a dead process had sent may arrive so much later, in milliseconds.
const ON_THE_WIRE: u64 = 2_000;
/// What waited in a tier, and what came of it, is through after this, in milliseconds.
const TIERS: u64 = 30_000;
const DAY: u64 = 86_400_000;

/// Milliseconds since midnight, UTC, as the ledger has them.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() % DAY
}

/// From one moment of a day to a later one, perhaps of the next, in milliseconds.
pub const fn between(earlier: u64, later: u64) -> u64 {
    (later + DAY - earlier) % DAY
}

/// Whether one moment lies before another, and not by more than half a day.
pub const fn is_before(one: u64, other: u64) -> bool {
    between(one, other) < DAY / 2
}

/// The same doubts, those of one source that overlap being one.
pub fn united(mut doubts: Vec<Doubt>) -> Vec<Doubt> {
    doubts.sort_by_key(|doubt| (doubt.source, doubt.from));
    let mut united: Vec<Doubt> = Vec::new();
    for doubt in doubts {
        match united.last_mut() {
            Some(last) if last.source == doubt.source && is_before(doubt.from, last.to) => {
                if is_before(last.to, doubt.to) {
                    last.to = doubt.to;
                }
            }
            _ => united.push(doubt),
        }
    }
    united
}

/// What was in flight in a fault.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// Whose; of all if nobody is named.
    pub source: Option<IpAddr>,
    from: u64,
    to: u64,
}

impl Doubt {
    /// What this process, or any, had in flight between two moments.
    pub const fn between(source: Option<IpAddr>, from: u64, to: u64) -> Self {
        Self { source, from: (from + DAY - SETTLE) % DAY, to: (to + ON_THE_WIRE) % DAY }
    }

    /// Whether a line of the ledger is part of it. What was deferred, and so moved, is in no ledger before its last turn: that its
    /// move was cut shows later, from wherever it is sent then.
    pub fn covers(&self, line: &Line) -> bool {
        if line.rcpt_to.starts_with("defer") {
            return between(self.from, line.millis_of_day()) <= between(self.from, self.to) + TIERS;
        }
        between(self.from, line.millis_of_day()) <= between(self.from, self.to)
            && self.source.is_none_or(|source| source == line.source)
    }
}

/// The most repeats that are allowed: of each doubt, the conversations that could be open and what was sent meanwhile.
pub fn bound(doubts: &[Doubt], lines: &[Line], conversations: usize) -> usize {
    doubts.iter().map(|doubt| conversations + lines.iter().filter(|line| doubt.covers(line)).count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_that_overlap_are_one() {
        let (one, other) = (Some([127, 0, 0, 1].into()), Some([127, 0, 0, 2].into()));
        let doubts = vec![
            Doubt::between(one, 10_000, 11_000),
            Doubt::between(other, 10_000, 11_000),
            Doubt::between(one, 12_000, 13_000),
            Doubt::between(one, 60_000, 61_000),
        ];
        let united = united(doubts);
        assert_eq!(
            united.iter().map(|doubt| (doubt.from, doubt.to)).collect::<Vec<_>>(),
            [(8_000, 15_000), (58_000, 63_000), (8_000, 13_000)]
        );
    }

    #[test]
    fn midnight_is_a_moment_like_any() {
        assert_eq!(between(DAY - 10, 5), 15);
        assert!(is_before(DAY - 10, 5) && !is_before(5, DAY - 10));
    }
}
