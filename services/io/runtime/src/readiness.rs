//! Whether a process can do its work now, as named conditions. A flag is set by whoever knows; `/readyz` shows them all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::hysteresis::Hysteresis;

/// All conditions of a process. Cheap to clone; clones share the conditions.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<String, Condition>>>,
}

/// One condition; cheap to clone and to set.
#[derive(Clone, Debug)]
pub struct ReadinessFlag {
    name: String,
    conditions: Arc<Mutex<BTreeMap<String, Condition>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Met,
    Unmet(String),
}

impl Readiness {
    /// No conditions: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// A condition by name, unmet ("starting") until it is first set. The same name is the same condition.
    pub fn flag(&self, name: &str) -> ReadinessFlag {
        lock(&self.conditions).entry(name.to_owned()).or_insert_with(|| Condition::Unmet("starting".to_owned()));
        ReadinessFlag { name: name.to_owned(), conditions: Arc::clone(&self.conditions) }
    }

    /// Whether every condition is met.
    pub fn is_ready(&self) -> bool {
        lock(&self.conditions).values().all(|condition| *condition == Condition::Met)
    }
}

impl ReadinessFlag {
    /// The condition is met.
    pub fn met(&self) {
        lock(&self.conditions).insert(self.name.clone(), Condition::Met);
    }

    /// The condition is not met, and why.
    pub fn unmet(&self, why: impl Into<String>) {
        lock(&self.conditions).insert(self.name.clone(), Condition::Unmet(why.into()));
    }
}

/// One line a condition: `ok nats` or `not ready: nats: disconnected`.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, condition) in lock(&self.conditions).iter() {
            match condition {
                Condition::Met => writeln!(f, "ok {name}")?,
                Condition::Unmet(why) => writeln!(f, "not ready: {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Sets a flag by whether there is a connection to NATS, until `stop`: it goes down when that was lost for long enough, and comes back
/// when it was there for long enough.
pub async fn watch_connection(
    connected: impl Fn() -> bool,
    flag: &ReadinessFlag,
    mut patience: Hysteresis,
    stop: &CancellationToken,
) {
    let mut lost = None;
    loop {
        let now = Instant::now();
        lost = if connected() { None } else { lost.or(Some(now)) };
        let away = lost.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if patience.observe(away, now.into_std()) {
            flag.unmet(match lost {
                Some(_) => format!("no connection to NATS for {} s", away.as_secs()),
                None => "the connection to NATS is back, and has yet to last".to_owned(),
            });
        } else {
            flag.met();
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_flag_holds_readiness_back_until_it_is_met() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let nats = readiness.flag("nats");
        assert!(!readiness.is_ready());
        nats.met();
        assert!(readiness.is_ready());
    }

    #[test]
    fn what_is_not_met_is_named_with_its_reason() {
        let readiness = Readiness::new();
        readiness.flag("config").met();
        readiness.clone().flag("nats").unmet("disconnected");
        assert_eq!(readiness.to_string(), "ok config\nnot ready: nats: disconnected\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_counts_when_it_lasts_and_so_does_one_that_is_back() {
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        let connected = std::sync::atomic::AtomicBool::new(true);
        let flag = readiness.flag("nats");
        let is = || connected.load(std::sync::atomic::Ordering::Relaxed);
        let watching = watch_connection(is, &flag, Hysteresis::default(), &stop);
        let story = async {
            // Halfway between two looks.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut told = Vec::new();
            for (there, seconds) in [(true, 2), (false, 4), (true, 3), (false, 8), (true, 4), (true, 2)] {
                connected.store(there, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                told.push(readiness.is_ready());
            }
            stop.cancel();
            told
        };
        let (told, ()) = tokio::join!(story, watching);
        assert_eq!(told, [true, true, true, false, false, true]);
    }
}
