//! Whether the queue keeps up: the oldest publish without acknowledgement, and how long JetStream has said nothing. While it does
//! not, new messages are made to wait and then refused, and the ingress is not ready. Goes to and fro slowly (hysteresis).

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postrider_runtime::Hysteresis;
use tokio::sync::watch;

/// The publishes under way and the judgement.
#[derive(Debug)]
pub(crate) struct Strain {
    under_way: Mutex<UnderWay>,
    judge: Mutex<Hysteresis>,
    strained: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct UnderWay {
    begun: BTreeSet<(Instant, u64)>,
    next: u64,
}

/// A publish that counts as under way until this is dropped.
pub(crate) struct Publishing<'a> {
    strain: &'a Strain,
    key: (Instant, u64),
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        lock(&self.strain.under_way).begun.remove(&self.key);
    }
}

impl Strain {
    /// What counts as strain, and when it is over.
    pub(crate) fn new(judge: Hysteresis) -> Self {
        Self { under_way: Mutex::default(), judge: Mutex::new(judge), strained: watch::Sender::new(false) }
    }

    /// A publish begins.
    pub(crate) fn publishing(&self, now: Instant) -> Publishing<'_> {
        let mut under_way = lock(&self.under_way);
        under_way.next = under_way.next.wrapping_add(1);
        let key = (now, under_way.next);
        under_way.begun.insert(key);
        Publishing { strain: self, key }
    }

    /// How long the oldest publish has been under way.
    pub(crate) fn oldest(&self, now: Instant) -> Duration {
        lock(&self.under_way).begun.first().map_or(Duration::ZERO, |(begun, _)| now.saturating_duration_since(*begun))
    }

    /// Judges anew, given how long something has waited now.
    pub(crate) fn observe(&self, waited: Duration, now: Instant) -> bool {
        let strained = lock(&self.judge).observe(waited, now);
        self.strained.send_if_modified(|known| std::mem::replace(known, strained) != strained);
        strained
    }

    /// The judgement now.
    pub(crate) fn is_strained(&self) -> bool {
        *self.strained.borrow()
    }

    /// Waits until there is no strain, at most for `patience`. Whether there is none.
    pub(crate) async fn eases_within(&self, patience: Duration) -> bool {
        let mut strained = self.strained.subscribe();
        matches!(tokio::time::timeout(patience, strained.wait_for(|strained| !strained)).await, Ok(Ok(_)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn strain_begins_above_the_limit_and_ends_after_a_calm_period() {
        let strain = Strain::new(Hysteresis::new(secs(4), secs(5)));
        let start = Instant::now();
        assert!(!strain.observe(secs(4), start));
        assert!(strain.observe(secs(5), start + secs(1)));
        assert!(strain.observe(secs(0), start + secs(2)), "calm has only begun");
        assert!(strain.observe(secs(3), start + secs(6)), "calm was broken");
        assert!(strain.observe(secs(1), start + secs(7)));
        assert!(strain.observe(secs(1), start + secs(11)));
        assert!(!strain.observe(secs(2), start + secs(12)));
    }

    #[test]
    fn the_oldest_publish_counts_until_it_is_acknowledged() {
        let strain = Strain::new(Hysteresis::new(secs(4), secs(5)));
        let start = Instant::now();
        let first = strain.publishing(start);
        let _second = strain.publishing(start + secs(2));
        assert_eq!(strain.oldest(start + secs(3)), secs(3));
        drop(first);
        assert_eq!(strain.oldest(start + secs(3)), secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_go_when_the_strain_is_over() {
        let strain = Strain::new(Hysteresis::new(secs(4), secs(0)));
        assert!(strain.eases_within(secs(1)).await);
        strain.observe(secs(5), Instant::now());
        assert!(!strain.eases_within(secs(1)).await);
        let ease = async {
            tokio::time::sleep(secs(1)).await;
            strain.observe(secs(0), Instant::now());
        };
        assert!(tokio::join!(strain.eases_within(secs(10)), ease).0);
    }
}
