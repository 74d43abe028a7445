//! Whose conversations and settles a fault may have cut, from when to when: what may come twice, and nothing else may.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sink::Line;

/// A settle is recorded within this time of its 250 while NATS works, on a busy machine, in milliseconds.
const SETTLE: u64 = 2_000;
/// What a dead process had sent may arrive so much later, in milliseconds.
const ON_THE_WIRE: u64 = 2_000;
const DAY: u64 = 86_400_000;

/// Milliseconds since midnight, UTC, as the ledger has them.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() % DAY
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

    /// Whether a line of the ledger is part of it.
    pub fn covers(&self, line: &Line) -> bool {
        let at = (line.millis_of_day() + DAY - self.from) % DAY;
        let long = (self.to + DAY - self.from) % DAY;
        at <= long && self.source.is_none_or(|source| source == line.source)
    }
}

/// The most repeats that are allowed: of each doubt, the conversations that could be open and what was sent meanwhile.
pub fn bound(doubts: &[Doubt], lines: &[Line], conversations: usize) -> usize {
    doubts.iter().map(|doubt| conversations + lines.iter().filter(|line| doubt.covers(line)).count()).sum()
}
