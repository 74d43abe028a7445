//! DEAD: what cannot be decoded or read. Kept, counted, listed, never in anybody's way.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;

use postrider_model::Timestamp;
use postrider_proto::Packet;

use crate::body::BodyError;
use crate::bucket::{self, BucketError, Expected};
use crate::events::ReadError;
use crate::events::reader::{Reader, Stored};
use crate::handle::Undecodable;
use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject::{self, StreamName};
use crate::tier::LookError;

/// The longest explanation kept with a dead letter.
const EXPLANATION: usize = 512;

/// A buried record whose acknowledgement is not confirmed by then comes again, and is known by its id.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

/// How many letters orders have removed. In the bucket that keeps its values for good and is no configuration.
const REMOVED: &str = "dead.removed";

const WHY: &str = "Postrider-Why";

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its sequence: its number for people.
    pub sequence: u64,
    /// The last token of its subject: `undecodable`, `body-lost`, ...
    pub reason: String,
    /// What was met, in words.
    pub why: String,
    /// When it was buried, by the server's clock.
    pub buried: Timestamp,
    /// Its bytes.
    pub raw: Bytes,
    /// What they hold, if this build can read it.
    pub packet: Option<Packet>,
}

/// Of DEAD as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadState {
    /// Dead letters.
    pub letters: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes there may be: the oldest letters are discarded then.
    pub bytes_limit: u64,
    /// Letters that were discarded since the stream was made: gone, and nobody's order removed them. Of an order that broke off
    /// with its process, up to a page counts as removed that was not.
    pub discarded: u64,
}

/// Reads the dead letters, the oldest first.
pub struct DeadLetters {
    reader: Reader,
}

impl DeadLetters {
    /// Some more; none at the end.
    ///
    /// # Errors
    /// [`ReadError`]; may be asked again.
    pub async fn next(&mut self) -> Result<Vec<DeadLetter>, ReadError> {
        Ok(self.reader.next().await?.into_iter().map(letter).collect())
    }
}

fn letter(stored: Stored) -> DeadLetter {
    let header = |name: &str| {
        let value = stored.headers.as_ref().and_then(|headers| headers.get(name));
        value.map(|value| value.as_str().to_owned()).unwrap_or_default()
    };
    DeadLetter {
        sequence: stored.sequence,
        reason: header("Nats-Subject").split_once('.').map(|(_, reason)| reason.to_owned()).unwrap_or_default(),
        why: header(WHY),
        buried: stored.stored,
        packet: Packet::decode(stored.payload.clone()).ok(),
        raw: stored.payload,
    }
}

impl Spool {
    /// Keeps a record among the dead letters. `id` makes a repeat recognised; `why` is for people.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget: then the record must stay where it is.
    pub async fn bury(&self, reason: &str, id: &str, why: &str, raw: Bytes) -> Result<(), PublishError> {
        let clean: String = why.chars().map(|c| if c.is_ascii() && !c.is_control() { c } else { ' ' }).collect();
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert(WHY, clean.chars().take(EXPLANATION).collect::<String>());
        self.publish_with(&subject::dead(reason), headers, raw, self.publish_budget()).await.map(|_| ())
    }

    /// The dead letters behind a sequence.
    pub fn dead_letters(&self, after: u64) -> DeadLetters {
        DeadLetters { reader: Reader::of(self, &StreamName::Dead.to_string(), after) }
    }

    /// Deletes a dead letter; that it is gone already is as good.
    ///
    /// # Errors
    /// [`BodyError`], whatever kept it from being deleted.
    pub async fn delete_dead_letter(&self, sequence: u64) -> Result<(), BodyError> {
        self.delete_message(StreamName::Dead, sequence).await
    }

    /// How full DEAD is, and how much it has discarded.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn dead_state(&self) -> Result<DeadState, LookError> {
        let failed = |why: String| LookError { stream: StreamName::Dead.to_string(), why };
        // Asked first: what is removed meanwhile does not look as if it had been discarded.
        let stream =
            self.context().get_stream(StreamName::Dead.to_string()).await.map_err(|e| failed(e.to_string()))?;
        let removed = self.removed_dead_letters().await.map_err(|error| failed(error.to_string()))?;
        let (state, config) = (&stream.cached_info().state, &stream.cached_info().config);
        let gone = state.last_sequence.saturating_sub(state.messages);
        Ok(DeadState {
            letters: state.messages,
            bytes: state.bytes,
            bytes_limit: u64::try_from(config.max_bytes).unwrap_or(0),
            discarded: gone.saturating_sub(removed.map_or(0, |(removed, _)| removed)),
        })
    }

    /// Counts letters that an order is about to remove; fewer than none: some that it did not remove after all. What is gone beyond
    /// their number was discarded.
    ///
    /// # Errors
    /// [`BucketError`]: nothing is counted.
    pub async fn count_removed_dead_letters(&self, number: i64) -> Result<(), BucketError> {
        loop {
            let (before, expected) = match self.removed_dead_letters().await? {
                Some((removed, revision)) => (removed, Expected::Revision(revision)),
                None => (0, Expected::Absent),
            };
            let value = before.saturating_add_signed(number).to_string().into();
            match self.bucket(bucket::LEASE).put(REMOVED, value, expected).await {
                // Another order is at it.
                Err(BucketError::Conflict { .. }) => {}
                other => return other.map(|_| ()),
            }
        }
    }

    async fn removed_dead_letters(&self) -> Result<Option<(u64, u64)>, BucketError> {
        let found = self.bucket(bucket::LEASE).get(REMOVED).await?;
        let read = |entry: bucket::Entry| {
            let removed = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
            (removed.unwrap_or(0), entry.revision)
        };
        Ok(found.map(read))
    }

    /// Buries a record that is no packet, then acknowledges it. If it cannot be buried it is handed back, to be tried
    /// again in a minute.
    pub async fn bury_undecodable(&self, dead: Undecodable) {
        let id = format!("{}:{}", dead.subject, dead.sequence);
        tracing::error!(subject = dead.subject, sequence = dead.sequence, reason = dead.reason, "buried a record");
        match self.bury("undecodable", &id, &dead.reason, dead.raw).await {
            Ok(()) => {
                if let Err(error) = dead.handle.ack_confirmed(CONFIRMED_WITHIN).await {
                    tracing::warn!(%error, "a buried record comes again");
                }
            }
            Err(error) => {
                tracing::error!(%error, "a record could not be buried");
                dead.handle.hand_back_for(Duration::from_secs(60)).await;
            }
        }
    }
}
