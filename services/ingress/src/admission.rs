//! How many connections there are, in all and from one address, and how often an address guessed a password wrong. Bounded
//! in memory; never blocks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What counts as one origin: an IPv4 address, or an IPv6 /64, which is what one host is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IpAddr::V4(v4)),
            IpAddr::V6(v6) => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))),
        }
    }
}

/// Counts connections.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    most_per_origin: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_origin: HashMap<Origin, usize>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    origin: Origin,
}

/// Who has too many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// All together.
    Everybody,
    /// This origin.
    Origin,
}

impl Admission {
    /// Nobody is here yet.
    pub fn new(most: usize, most_per_origin: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_origin, counts: Mutex::default() })
    }

    /// Counts one more, if there is room.
    pub fn enter(self: &Arc<Self>, origin: Origin) -> Result<Admitted, Crowded> {
        let mut counts = lock(&self.counts);
        if counts.all >= self.most {
            return Err(Crowded::Everybody);
        }
        let of_origin = counts.by_origin.entry(origin).or_default();
        if *of_origin >= self.most_per_origin {
            return Err(Crowded::Origin);
        }
        *of_origin += 1;
        counts.all += 1;
        Ok(Admitted { admission: Arc::clone(self), origin })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = lock(&self.admission.counts);
        counts.all -= 1;
        if let Some(of_origin) = counts.by_origin.get_mut(&self.origin) {
            *of_origin -= 1;
            if *of_origin == 0 {
                counts.by_origin.remove(&self.origin);
            }
        }
    }
}

/// Counts wrong passwords by origin.
#[derive(Debug)]
pub struct Failures {
    most: u32,
    window: Duration,
    by_origin: Mutex<HashMap<Origin, Failed>>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    since: Instant,
}

impl Failures {
    /// The most origins that are remembered; beyond that, the one that began first is forgotten.
    const ORIGINS: usize = 50_000;

    /// None so far.
    pub fn new(most: u32, window: Duration) -> Self {
        Self { most, window, by_origin: Mutex::default() }
    }

    /// Whether the origin has failed too often lately to be heard again.
    pub fn too_many(&self, origin: Origin, now: Instant) -> bool {
        let by_origin = lock(&self.by_origin);
        by_origin.get(&origin).is_some_and(|failed| self.is_recent(failed, now) && failed.times >= self.most)
    }

    /// One more.
    pub fn count(&self, origin: Origin, now: Instant) {
        let mut by_origin = lock(&self.by_origin);
        if by_origin.len() >= Self::ORIGINS && !by_origin.contains_key(&origin) {
            by_origin.retain(|_, failed| self.is_recent(failed, now));
            if by_origin.len() >= Self::ORIGINS
                && let Some(oldest) = by_origin.iter().min_by_key(|(_, failed)| failed.since).map(|(origin, _)| *origin)
            {
                by_origin.remove(&oldest);
            }
        }
        let failed = by_origin.entry(origin).or_insert(Failed { times: 0, since: now });
        if !self.is_recent(failed, now) {
            *failed = Failed { times: 0, since: now };
        }
        failed.times = failed.times.saturating_add(1);
    }

    fn is_recent(&self, failed: &Failed, now: Instant) -> bool {
        now.saturating_duration_since(failed.since) < self.window
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str) -> Origin {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_origin_is_a_whole_64() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
    }

    #[test]
    fn connections_are_bounded_in_all_and_per_origin_and_leave_room_behind() {
        let admission = Admission::new(3, 2);
        let first = admission.enter(origin("192.0.2.1")).unwrap();
        let _second = admission.enter(origin("192.0.2.1")).unwrap();
        assert_eq!(admission.enter(origin("192.0.2.1")).unwrap_err(), Crowded::Origin);
        let _third = admission.enter(origin("192.0.2.2")).unwrap();
        assert_eq!(admission.enter(origin("192.0.2.3")).unwrap_err(), Crowded::Everybody);
        drop(first);
        assert!(admission.enter(origin("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_origin_that_left_is_forgotten() {
        let admission = Admission::new(3, 2);
        drop(admission.enter(origin("192.0.2.1")).unwrap());
        assert!(lock(&admission.counts).by_origin.is_empty());
    }

    #[test]
    fn too_many_failures_bar_an_origin_until_the_window_has_passed() {
        let (failures, start) = (Failures::new(2, Duration::from_secs(60)), Instant::now());
        let guesser = origin("192.0.2.1");
        failures.count(guesser, start);
        assert!(!failures.too_many(guesser, start));
        failures.count(guesser, start + Duration::from_secs(59));
        assert!(failures.too_many(guesser, start + Duration::from_secs(59)));
        assert!(!failures.too_many(origin("192.0.2.2"), start));
        assert!(!failures.too_many(guesser, start + Duration::from_secs(60)));
    }

    #[test]
    fn failures_of_ever_new_origins_do_not_grow_without_bound() {
        let (failures, start) = (Failures::new(2, Duration::from_secs(60)), Instant::now());
        for number in 0..u32::try_from(Failures::ORIGINS).unwrap() + 10 {
            failures.count(IpAddr::from(number.to_be_bytes()).into(), start);
        }
        assert_eq!(lock(&failures.by_origin).len(), Failures::ORIGINS);
    }
}
