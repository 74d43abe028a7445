//! Bytes in flight: one budget for the messages that all sessions are receiving or making durable. Who finds none waits
//! a little, in order of arrival, and is then refused.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget.
#[derive(Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    whole_kib: usize,
    patience: Duration,
}

/// There was no room in time.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no room among the bytes in flight")]
pub struct NoRoom;

/// What a session holds of the budget. Dropping it gives it back.
#[derive(Debug, Default)]
pub struct Held {
    permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// A budget of `bytes`, for which one waits at most `patience`.
    pub fn new(bytes: usize, patience: Duration) -> Self {
        let whole_kib = kib(bytes).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(whole_kib)), whole_kib, patience }
    }

    /// Makes `held` cover `bytes`, waiting for others to finish if need be.
    ///
    /// # Errors
    /// If there is no room in time; what was held before is still held.
    pub async fn cover(&self, held: &mut Held, bytes: usize) -> Result<(), NoRoom> {
        let missing = kib(bytes).saturating_sub(held.kib());
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| NoRoom)?;
        let more = match Arc::clone(&self.free).try_acquire_many_owned(missing) {
            Ok(more) => more,
            Err(_) => tokio::time::timeout(self.patience, Arc::clone(&self.free).acquire_many_owned(missing))
                .await
                .map_err(|_| NoRoom)?
                .map_err(|_| NoRoom)?,
        };
        match &mut held.permit {
            Some(permit) => permit.merge(more),
            None => held.permit = Some(more),
        }
        Ok(())
    }

    /// Bytes that are held now.
    pub fn held_bytes(&self) -> usize {
        self.whole_kib.saturating_sub(self.free.available_permits()).saturating_mul(1024)
    }
}

impl Held {
    /// Gives everything back.
    pub fn release(&mut self) {
        self.permit = None;
    }

    fn kib(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_is_refused_after_waiting() {
        let room = Room::new(10 * 1024, Duration::from_secs(5));
        let (mut first, mut second) = (Held::default(), Held::default());
        room.cover(&mut first, 8 * 1024).await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(room.cover(&mut second, 4 * 1024).await, Err(NoRoom));
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(second.kib(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_is_given_back_goes_to_who_waits() {
        let room = Room::new(10 * 1024, Duration::from_secs(5));
        let (mut first, mut second) = (Held::default(), Held::default());
        room.cover(&mut first, 8 * 1024).await.unwrap();
        let give_back = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            first.release();
        };
        let (covered, ()) = tokio::join!(room.cover(&mut second, 4 * 1024), give_back);
        assert_eq!(covered, Ok(()));
        assert_eq!(room.held_bytes(), 4 * 1024);
    }

    #[tokio::test]
    async fn covering_what_is_covered_takes_nothing() {
        let room = Room::new(10 * 1024, Duration::ZERO);
        let mut held = Held::default();
        room.cover(&mut held, 4_000).await.unwrap();
        room.cover(&mut held, 4_096).await.unwrap();
        assert_eq!(held.kib(), 4);
        room.cover(&mut held, 4_097).await.unwrap();
        assert_eq!(room.held_bytes(), 5 * 1024);
        drop(held);
        assert_eq!(room.held_bytes(), 0);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_never_waited_for_without_end() {
        let room = Room::new(1024, Duration::ZERO);
        assert_eq!(room.cover(&mut Held::default(), 2_048).await, Err(NoRoom));
    }
}
