//! The journal for those who count: every batch of one EVENTS stream with its sequence, in the order in which it was written.

use postrider_model::{Record, Timestamp};

use super::decode;
use super::reader::{ReadError, Reader, last_sequence};
use crate::spool::Spool;
use crate::subject::StreamName;

const ALL: &str = "event.>";

/// A message of EVENTS.
#[derive(Clone, Debug)]
pub struct JournalBatch {
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored, by the server's clock.
    pub stored: Timestamp,
    /// What it records.
    pub records: Vec<Record>,
}

/// Reads one EVENTS stream from a place on.
pub struct JournalReader {
    reader: Reader,
}

impl JournalReader {
    /// The next batches; none at the end of what there is.
    ///
    /// # Errors
    /// [`ReadError`]; the reader may be asked again.
    pub async fn next(&mut self) -> Result<Vec<JournalBatch>, ReadError> {
        let chunk = self.reader.next().await?;
        let batch = |message: super::reader::Stored| JournalBatch {
            sequence: message.sequence,
            stored: message.stored,
            records: decode(message.payload),
        };
        Ok(chunk.into_iter().map(batch).collect())
    }

    /// After no batches although the stream has come to `last`: waits a little, since a replica lags.
    ///
    /// # Errors
    /// [`ReadError`] if it does not catch up.
    pub async fn pause_if_behind(&mut self, last: u64) -> Result<(), ReadError> {
        self.reader.pause_if_behind(last).await
    }
}

impl Spool {
    /// How many EVENTS streams there are; they are numbered from 0.
    pub fn journals(&self) -> u8 {
        self.layout().side_streams
    }

    /// Reads an EVENTS stream behind a sequence.
    pub fn read_journal(&self, stream: u8, after: u64) -> JournalReader {
        JournalReader { reader: Reader::after(self, StreamName::Events(stream), ALL.to_owned(), after) }
    }

    /// Reads an EVENTS stream from a time on.
    pub fn read_journal_since(&self, stream: u8, since: Timestamp) -> JournalReader {
        JournalReader { reader: Reader::from_time(self, StreamName::Events(stream), ALL.to_owned(), since) }
    }

    /// When the oldest record of an EVENTS stream was stored, if older ones have been deleted; `None` if it holds all that was
    /// ever written to it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn journal_begins(&self, stream: u8) -> Result<Option<Timestamp>, ReadError> {
        let name = StreamName::Events(stream).to_string();
        let found = self.context().get_stream(&name).await.map_err(|error| ReadError::new(&name, error.to_string()))?;
        let state = &found.cached_info().state;
        if state.messages == 0 && state.first_sequence > 1 {
            return Ok(Some(self.server_now()));
        }
        let millis = u64::try_from(state.first_timestamp.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        Ok((state.first_sequence > 1).then(|| Timestamp::from_millis(millis)))
    }

    /// The last sequence of an EVENTS stream, as its leader knows it; 0 if it is empty.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn journal_end(&self, stream: u8) -> Result<u64, ReadError> {
        last_sequence(self, StreamName::Events(stream), ALL).await
    }
}
