//! DEAD: what cannot be decoded or read. Kept, counted, listed, never in anybody's way.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;

use postrider_model::Timestamp;
use postrider_proto::Packet;

use crate::body::BodyError;
use crate::events::ReadError;
use crate::events::reader::{Reader, Stored};
use crate::handle::Undecodable;
use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject::{self, StreamName};

/// The longest explanation kept with a dead letter.
const EXPLANATION: usize = 512;

/// A buried record whose acknowledgement is not confirmed by then comes again, and is known by its id.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

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
