//! Tiers: queues of envelopes that all wait equally long before their next turn.

use std::time::Duration;

use crate::keyword::keyword;

/// One of the five tiers, named after how long it makes wait by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// One minute.
    M1,
    /// Five minutes.
    M5,
    /// A quarter of an hour.
    M15,
    /// An hour.
    H1,
    /// Four hours.
    H4,
}

impl Tier {
    /// All tiers, the shortest first.
    pub const ALL: [Self; 5] = [Self::M1, Self::M5, Self::M15, Self::H1, Self::H4];

    /// The token in subjects and stream names: `1m 5m 15m 1h 4h`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::M1 => "1m",
            Self::M5 => "5m",
            Self::M15 => "15m",
            Self::H1 => "1h",
            Self::H4 => "4h",
        }
    }

    /// The position in [`Tier::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

keyword!(Tier, "tier", "is none of 1m 5m 15m 1h 4h");

/// How long each tier makes wait. Every process of a cluster must hold the same; trials may shorten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierDelays([Duration; 5]);

impl TierDelays {
    /// Delays in the order of [`Tier::ALL`].
    pub const fn new(delays: [Duration; 5]) -> Self {
        Self(delays)
    }

    /// How long `tier` makes wait.
    pub const fn of(&self, tier: Tier) -> Duration {
        self.0[tier.index()]
    }
}

impl Default for TierDelays {
    fn default() -> Self {
        Self([60, 300, 900, 3_600, 14_400].map(Duration::from_secs))
    }
}
