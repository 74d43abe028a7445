//! The limits themselves: numbers for each path, by default and by site. Never counts anything.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use postrider_model::SiteName;
use thiserror::Error;

/// A text that is no rate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no rate: expected a number of at least 1, '/' and one of s, m, h, d, as in \"5000/h\"")]
pub struct RateError(String);

/// At most so many in any window of one second, minute, hour or day: `100/s`, `5000/m`, `5000/h`, `20000/d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    unit: char,
}

impl Rate {
    /// At most so many in any second; at least one.
    pub const fn per_second(count: u32) -> Self {
        Self { count: if count == 0 { 1 } else { count }, unit: 's' }
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.count
    }

    fn per_day(self) -> u64 {
        u64::from(self.count) * (86_400 / self.window().as_secs())
    }

    /// In any window of this length.
    pub fn window(self) -> Duration {
        Duration::from_secs(match self.unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            _ => 86_400,
        })
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let no = || RateError(text.chars().take(40).collect());
        let (count, unit) = text.split_once('/').ok_or_else(no)?;
        if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(no());
        }
        let count = count.parse().ok().filter(|&count| count > 0 && count < u32::MAX).ok_or_else(no)?;
        let mut units = unit.chars();
        match (units.next(), units.next()) {
            (Some(unit @ ('s' | 'm' | 'h' | 'd')), None) => Ok(Self { count, unit }),
            _ => Err(no()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

/// The limits of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLimits {
    /// Connections at the same time; at least 1.
    pub connections: u32,
    /// Messages (transactions) over one connection; at least 1.
    pub messages_per_connection: u32,
    /// Recipients at MAIL per time.
    pub message_rate: Option<Rate>,
}

impl Default for PathLimits {
    fn default() -> Self {
        Self { connections: 10, messages_per_connection: 100, message_rate: None }
    }
}

impl PathLimits {
    /// The stricter of the two in each number. Of two rates the one that allows less in the long run.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        let slower = |one: &Rate| one.per_day();
        Self {
            connections: self.connections.min(other.connections),
            messages_per_connection: self.messages_per_connection.min(other.messages_per_connection),
            message_rate: self.message_rate.into_iter().chain(other.message_rate).min_by_key(slower),
        }
    }

    /// Connections kept for transactional mail: a fifth, at least one, but never all of them.
    pub fn reserved_connections(&self) -> u32 {
        (self.connections / 5).max(1).min(self.connections.saturating_sub(1))
    }
}

/// The limits of all paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shaping {
    /// Of every path whose site is not named below.
    pub default: PathLimits,
    /// Of the paths to a site.
    pub sites: BTreeMap<SiteName, PathLimits>,
}

impl Shaping {
    /// The limits of the paths to `site`.
    pub fn of(&self, site: &SiteName) -> &PathLimits {
        self.sites.get(site).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_number_counts() {
        let limits = |connections, messages_per_connection, rate: &str| PathLimits {
            connections,
            messages_per_connection,
            message_rate: rate.parse().ok(),
        };
        assert_eq!(limits(5, 100, "1/s").strictest(limits(10, 20, "5000/h")), limits(5, 20, "1/s"));
        assert_eq!(limits(5, 100, "").strictest(limits(10, 20, "5000/h")), limits(5, 20, "5000/h"));
        assert_eq!(limits(5, 100, "2/s").strictest(limits(10, 20, "5000/h")), limits(5, 20, "5000/h"));
    }

    #[test]
    fn rates_print_as_they_are_written() {
        for text in ["100/s", "5000/m", "5000/h", "20000/d", "1/s"] {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("5000/h".parse::<Rate>().unwrap().window(), Duration::from_secs(3_600));
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        for bad in ["", "100", "0/s", "-1/s", "+1/s", "1/w", "1/ss", "/s", "1/", " 1/s", "99999999999/s", "1.5/s"] {
            let error = bad.parse::<Rate>().unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_fifth_of_the_connections_is_kept_but_never_all() {
        let reserved = |connections| PathLimits { connections, ..PathLimits::default() }.reserved_connections();
        assert_eq!([1, 2, 4, 10, 20].map(reserved), [0, 1, 1, 2, 4]);
    }
}
