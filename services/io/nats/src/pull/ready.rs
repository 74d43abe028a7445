//! Pulling a shard's mail from READY, for its owner: begun by a RESET, and with an eye on what was handed out and never came.

use std::time::Duration;

use postrider_model::ShardId;
use thiserror::Error;

use super::{RawPuller, Wish, decode};
use crate::handle::{Leased, Undecodable};
use crate::layout::{self, Consumer, consumer_of};
use crate::spool::Spool;

/// How long a request stays open at the server.
const OPEN: Duration = Duration::from_secs(1);

/// A consumer could not be reset.
#[derive(Debug, Error)]
#[error("the consumer {what} does not do what is asked: {why}")]
pub struct ResetError {
    what: String,
    why: String,
}

/// Pulls a shard's mail. Made by the shard's owner, who begins with [`Puller::reset`].
pub struct Puller {
    raw: RawPuller,
}

impl Puller {
    /// Waits up to a second for mail, and returns what has arrived: an empty batch is nothing special. At most
    /// `max_messages` are under way at a time, counted from when they are asked for: hand in the room that is left now,
    /// and it is never exceeded; without room the answer is empty at once. Ask for 100 and more where there is room.
    /// `max_bytes` below 512 KiB counts as that. Safe to drop half way (`select!`).
    pub async fn pull(&mut self, max_messages: usize, max_bytes: usize) -> Vec<Result<Leased, Undecodable>> {
        let wish = Wish { messages: max_messages, bytes: max_bytes, expires: OPEN };
        self.raw.pull(wish).await.into_iter().filter_map(decode).collect()
    }

    /// Whether the last request ended because there was no more mail: everything that was in the stream when it was made has
    /// been handed out. An empty batch alone may as well mean that nobody answered.
    pub fn is_exhausted(&self) -> bool {
        self.raw.exhausted && self.raw.arrived.is_empty()
    }

    /// How many were left in the stream when the last one that has arrived left it.
    pub fn pending(&self) -> u64 {
        self.raw.left()
    }

    /// Whether something may have been handed out since the last time that never came: its server died, or the consumer has
    /// another leader, which counts it as handed out, or somebody else got it. [`Puller::reset`] lets it come again at once.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.raw.missed)
    }

    /// Whether the consumer has handed out nothing since its RESET that did not come here, as far as is known without asking.
    pub fn has_no_gap(&self) -> bool {
        self.raw.deliveries.has_no_gap()
    }

    /// Whether all that the consumer has handed out since its RESET has come here, as the server counts it. To be asked when the
    /// last request is over ([`Puller::is_exhausted`]). What is found missing is [missed](Self::take_missed).
    ///
    /// # Errors
    /// If the server does not say.
    pub async fn has_all(&mut self) -> Result<bool, ResetError> {
        let delivered = self.raw.spool.delivered(&self.raw.stream, &self.raw.name).await;
        let delivered = delivered.map_err(|why| ResetError { what: self.raw.name.clone(), why })?;
        let all = self.raw.deliveries.has_all(delivered);
        self.raw.missed |= !all;
        Ok(all)
    }

    /// Makes all unacknowledged mail come again at once, as [`Spool::reset_consumer`], and counts what comes from there on.
    ///
    /// # Errors
    /// [`ResetError`]; try again, without it the mail in flight waits for 20 minutes.
    pub async fn reset(&mut self) -> Result<(), ResetError> {
        self.raw.take_ready();
        self.raw.deliveries.resetting();
        let Consumer::Ready(shard) = self.raw.which else { return Ok(()) };
        self.raw.spool.reset_consumer(shard).await?;
        self.raw.take_ready();
        self.raw.deliveries.was_reset();
        Ok(())
    }

    /// Lets go of the shard's mail: within a second and a half nothing more arrives, and what has arrived unseen is
    /// handed back. Then the shard may be released.
    pub async fn stop(self) {
        self.raw.stop().await;
    }
}

impl Spool {
    /// A puller for a shard that this process owns.
    pub fn puller(&self, shard: ShardId) -> Puller {
        Puller { raw: RawPuller::new(self, Consumer::Ready(shard)) }
    }

    /// Makes all unacknowledged mail of a shard come again at once: what a new owner does after the death of the last.
    ///
    /// # Errors
    /// [`ResetError`]; try again, without it the mail in flight waits for 20 minutes.
    pub async fn reset_consumer(&self, shard: ShardId) -> Result<(), ResetError> {
        let placed = consumer_of(&self.layout(), &Consumer::Ready(shard));
        let failed = |why: String| ResetError { what: placed.name.clone(), why };
        let stream =
            self.context().get_stream_no_info(&placed.stream).await.map_err(|error| failed(error.to_string()))?;
        let Err(error) = stream.reset_consumer(&placed.name, None).await else { return Ok(()) };
        // Where the consumer is missing there is nothing to reset: a fresh one begins with everything.
        match layout::restore_consumer(self.context(), &placed.stream, placed.config).await {
            Ok(()) => stream.reset_consumer(&placed.name, None).await.map(|_| ()).map_err(|e| failed(e.to_string())),
            Err(why) => Err(failed(format!("{error}; {why}"))),
        }
    }

    /// How many deliveries a consumer has made since its RESET.
    async fn delivered(&self, stream: &str, consumer: &str) -> Result<u64, String> {
        let stream = self.context().get_stream_no_info(stream).await.map_err(|error| error.to_string())?;
        let info = stream.consumer_info(consumer).await.map_err(|error| error.to_string())?;
        Ok(info.delivered.consumer_sequence)
    }
}
