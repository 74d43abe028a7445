//! The fence of this process, shared by everything that acts in the name of its shards. It only keeps the machine's state
//! and reads the monotonic clock for it. It also knows for how long EVENTS has taken nothing: what is sent meanwhile would be sent
//! again, should the shard be lost before it is recorded, so no further body is begun.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postrider_dispatch::ownership::{Fence, MonotonicMillis, Renewal};
use postrider_model::Timestamp;

/// How often a step under way looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A PubAck for EVENTS that takes longer than this is more than a slow one.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);

/// A clone shows the same fence.
#[derive(Clone, Debug)]
pub struct SharedFence {
    fence: Arc<Mutex<Fence>>,
    unrecorded: Arc<Mutex<Unrecorded>>,
    origin: Instant,
}

/// Flushes of journals that have no PubAck yet, with their beginnings, oldest first.
#[derive(Debug, Default)]
struct Unrecorded {
    flushes: BTreeMap<u64, Instant>,
    last: u64,
}

/// A flush without a PubAck; it has one, or is given up, when this is dropped.
#[derive(Debug)]
pub struct Flush {
    unrecorded: Arc<Mutex<Unrecorded>>,
    number: u64,
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).flushes.remove(&self.number);
    }
}

impl Default for SharedFence {
    fn default() -> Self {
        Self { fence: Arc::default(), unrecorded: Arc::default(), origin: Instant::now() }
    }
}

impl SharedFence {
    /// The monotonic clock now.
    pub fn clock(&self) -> MonotonicMillis {
        MonotonicMillis::new(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// A renewal that was sent at `sent` has succeeded.
    pub fn renewed_at(&self, sent: Instant) -> Renewal {
        let since = sent.saturating_duration_since(self.origin);
        self.lock().renewed(MonotonicMillis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whether anything may be sent or published in the name of our shards.
    pub fn may_act(&self) -> bool {
        self.lock().may_act(self.clock())
    }

    /// A journal begins to write.
    pub fn flush_begun(&self) -> Flush {
        let mut unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        unrecorded.last += 1;
        let number = unrecorded.last;
        unrecorded.flushes.insert(number, Instant::now());
        Flush { unrecorded: Arc::clone(&self.unrecorded), number }
    }

    /// Whether a journal has written for so long that nothing further should be sent.
    fn is_stuck(&self) -> bool {
        let unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        unrecorded.flushes.values().next().is_some_and(|begun| begun.elapsed() > LONGEST_FLUSH)
    }

    /// Waits until what was sent can be recorded. Whether anything may be sent then.
    pub async fn may_send(&self) -> bool {
        while self.may_act() {
            if !self.is_stuck() {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY / 5).await;
        }
        false
    }

    /// Does `step` as long as anything may be done; `None` if the fence closes first. What was frozen finds it closed before it
    /// goes on.
    pub async fn guard<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(step);
        while self.may_act() {
            tokio::select! {
                biased;
                () = tokio::time::sleep(LOOK_EVERY) => {}
                done = &mut step => return Some(done),
            }
        }
        None
    }

    /// The moment up to which permits of the limits we own may run.
    pub fn permits_until(&self, now: Timestamp) -> Timestamp {
        now.after(self.lock().permits_for(self.clock()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Fence> {
        self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_goes_on_while_the_fence_is_open() {
        let fence = SharedFence::default();
        fence.renewed_at(Instant::now());
        assert_eq!(fence.guard(std::future::ready(7)).await, Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_while_a_journal_is_stuck() {
        let fence = SharedFence::default();
        fence.renewed_at(Instant::now());
        let slow = fence.flush_begun();
        assert!(fence.may_send().await);
        let Some(begun) = Instant::now().checked_sub(LONGEST_FLUSH * 2) else { return };
        for flush in fence.unrecorded.lock().unwrap().flushes.values_mut() {
            *flush = begun;
        }
        assert!(tokio::time::timeout(Duration::from_secs(60), fence.may_send()).await.is_err());
        drop(slow);
        assert!(fence.may_send().await);
    }

    #[tokio::test]
    async fn nothing_is_begun_behind_a_closed_fence() {
        let fence = SharedFence::default();
        assert_eq!(fence.guard(std::future::ready(7)).await, None);
    }

    #[tokio::test]
    async fn a_step_is_broken_off_when_the_fence_closes() {
        let fence = SharedFence { origin: Instant::now() - Duration::from_secs(60), ..SharedFence::default() };
        // Renewed so long ago that it closes within a moment.
        let almost = postrider_dispatch::ownership::FENCE - Duration::from_millis(50);
        fence.renewed_at(Instant::now() - almost);
        assert!(fence.may_act());
        assert_eq!(fence.guard(std::future::pending::<()>()).await, None);
    }
}
