//! The fence of this process, shared by everything that acts in the name of its shards. It only keeps the machine's state
//! and reads the monotonic clock for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postrider_dispatch::ownership::{Fence, MonotonicMillis, Renewal};
use postrider_model::Timestamp;

/// How often a step under way looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A clone shows the same fence.
#[derive(Clone, Debug)]
pub struct SharedFence {
    fence: Arc<Mutex<Fence>>,
    origin: Instant,
}

impl Default for SharedFence {
    fn default() -> Self {
        Self { fence: Arc::default(), origin: Instant::now() }
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

    #[tokio::test]
    async fn nothing_is_begun_behind_a_closed_fence() {
        let fence = SharedFence::default();
        assert_eq!(fence.guard(std::future::ready(7)).await, None);
    }

    #[tokio::test]
    async fn a_step_is_broken_off_when_the_fence_closes() {
        let fence = SharedFence { fence: Arc::default(), origin: Instant::now() - Duration::from_secs(60) };
        // Renewed so long ago that it closes within a moment.
        let almost = postrider_dispatch::ownership::FENCE - Duration::from_millis(50);
        fence.renewed_at(Instant::now() - almost);
        assert!(fence.may_act());
        assert_eq!(fence.guard(std::future::pending::<()>()).await, None);
    }
}
