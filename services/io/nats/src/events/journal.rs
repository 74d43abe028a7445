//! The journal for those who count: every batch of one EVENTS stream with its sequence, in the order in which it was written.

use postrider_model::{Record, Timestamp};

use super::reader::{ReadError, Reader, last_sequence};
use super::{SHARED, decode};
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
    which: Which,
}

/// Which batches come with their records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that tell of parts that ended and share their body; the others come empty, and cost next to nothing.
    Shared,
}

impl JournalReader {
    /// The next batches; none at the end of what there is.
    ///
    /// # Errors
    /// [`ReadError`]; the reader may be asked again.
    pub async fn next(&mut self) -> Result<Vec<JournalBatch>, ReadError> {
        let chunk = self.reader.next().await?;
        let batch = |message: super::reader::Stored| {
            let shared = message.headers.as_ref().is_some_and(|headers| headers.get(SHARED).is_some());
            let records = if self.which == Which::All || shared { decode(message.payload) } else { Vec::new() };
            JournalBatch { sequence: message.sequence, stored: message.stored, records }
        };
        Ok(chunk.into_iter().map(batch).collect())
    }

    /// Whether all up to this sequence has been handed out.
    pub fn is_at(&self, last: u64) -> bool {
        self.reader.read_through() >= last
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
        JournalReader {
            reader: Reader::after(self, StreamName::Events(stream), ALL.to_owned(), after),
            which: Which::All,
        }
    }

    /// Reads an EVENTS stream from its beginning for parts that ended and share their body with others.
    pub fn read_shared_ends(&self, stream: u8) -> JournalReader {
        JournalReader { which: Which::Shared, ..self.read_journal(stream, 0) }
    }

    /// Reads an EVENTS stream from a time on.
    pub fn read_journal_since(&self, stream: u8, since: Timestamp) -> JournalReader {
        let reader = Reader::from_time(self, StreamName::Events(stream), ALL.to_owned(), since);
        JournalReader { reader, which: Which::All }
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
