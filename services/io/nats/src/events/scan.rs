//! The journal for people: what happened between two moments, in the order of time over all EVENTS streams, and what
//! happens from now on.

use std::collections::VecDeque;
use std::time::Duration;

use postrider_model::{MessageId, Record, Timestamp};

use super::reader::{ReadError, Reader, last_sequence};
use super::{decode, may_hold};
use crate::spool::Spool;
use crate::subject::StreamName;

/// Records are written within this time after what they tell.
const FLUSHED_WITHIN: Duration = Duration::from_secs(60);

/// How often a tail looks for more.
const LOOK: Duration = Duration::from_millis(200);

const ALL: &str = "event.>";

/// A reader with the records that it has read and not handed out.
struct Cursor {
    reader: Reader,
    read: VecDeque<Record>,
    ended: bool,
}

/// Reads the journal between two moments. Ends.
pub struct EventScan {
    cursors: Vec<Cursor>,
    wanted: Wanted,
}

/// What a scan hands out.
struct Wanted {
    since: Timestamp,
    until: Timestamp,
    /// What the servers stored later is not read.
    stored_until: Timestamp,
    ids: Vec<MessageId>,
}

impl Wanted {
    fn has(&self, record: &Record) -> bool {
        match self.ids.as_slice() {
            [] => (self.since..=self.until).contains(&record.at),
            ids => ids.contains(&record.id.message),
        }
    }
}

/// Reads the journal from a moment on, and then waits for more. Never ends.
pub struct EventTail {
    cursors: Vec<Cursor>,
    since: Timestamp,
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug)]
pub enum ScanFrom {
    /// With what happens next.
    Now,
    /// With what happened at this time.
    Time(Timestamp),
}

impl Spool {
    /// Reads what happened from `since` to `until` (both included), and ends with what is stored by now. With `ids`, only
    /// records of these messages, and batches without them are skipped undecoded; the two moments are then those of the
    /// servers, whatever the clocks of those who wrote said.
    pub fn scan_events(&self, since: Timestamp, until: Timestamp, ids: &[MessageId]) -> EventScan {
        let cursors = self.event_streams().map(|stream| cursor(Reader::from_time(self, stream, ALL.to_owned(), since)));
        let stored_until = until.min(self.server_now()).after(FLUSHED_WITHIN);
        EventScan { cursors: cursors.collect(), wanted: Wanted { since, until, stored_until, ids: ids.to_vec() } }
    }

    /// Reads what happens from now on, or from a moment on.
    ///
    /// # Errors
    /// [`ReadError`] if the end of the journal cannot be found.
    pub async fn tail_events(&self, from: ScanFrom) -> Result<EventTail, ReadError> {
        let mut cursors = Vec::new();
        for stream in self.event_streams() {
            cursors.push(cursor(match from {
                ScanFrom::Now => {
                    let last = last_sequence(self, stream, ALL).await?;
                    Reader::after(self, stream, ALL.to_owned(), last)
                }
                ScanFrom::Time(time) => Reader::from_time(self, stream, ALL.to_owned(), time),
            }));
        }
        let since = match from {
            ScanFrom::Now => Timestamp::default(),
            ScanFrom::Time(time) => time,
        };
        Ok(EventTail { cursors, since })
    }

    fn event_streams(&self) -> impl Iterator<Item = StreamName> + use<> {
        (0..self.layout().side_streams).map(StreamName::Events)
    }
}

fn cursor(reader: Reader) -> Cursor {
    Cursor { reader, read: VecDeque::new(), ended: false }
}

impl EventScan {
    /// The next record; `None` at the end. Within a stream records come as they were written, and of several streams the
    /// earlier one first.
    ///
    /// # Errors
    /// [`ReadError`]; the scan may be continued.
    pub async fn next(&mut self) -> Result<Option<Record>, ReadError> {
        for cursor in &mut self.cursors {
            fill(cursor, &self.wanted).await?;
        }
        let earliest = self.cursors.iter_mut().filter(|cursor| !cursor.read.is_empty());
        let earliest = earliest.min_by_key(|cursor| cursor.read.front().map(|record| record.at));
        Ok(earliest.and_then(|cursor| cursor.read.pop_front()))
    }

    /// Everything that is left, at most `limit` records.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn collect(mut self, limit: usize) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        while records.len() < limit {
            let Some(record) = self.next().await? else { break };
            records.push(record);
        }
        Ok(records)
    }
}

/// Reads on until the cursor has something or has ended.
async fn fill(cursor: &mut Cursor, wanted: &Wanted) -> Result<(), ReadError> {
    while cursor.read.is_empty() && !cursor.ended {
        let chunk = cursor.reader.next().await?;
        cursor.ended = chunk.is_empty();
        for message in chunk {
            if message.stored > wanted.stored_until {
                cursor.ended = true;
                break;
            }
            if !wanted.ids.is_empty() && !may_hold(message.headers.as_ref(), &wanted.ids) {
                continue;
            }
            cursor.read.extend(decode(message.payload).into_iter().filter(|record| wanted.has(record)));
        }
    }
    Ok(())
}

impl EventTail {
    /// The next record, once there is one. Safe to drop half way.
    ///
    /// # Errors
    /// [`ReadError`]; the tail may be continued.
    pub async fn next(&mut self) -> Result<Record, ReadError> {
        loop {
            for cursor in &mut self.cursors {
                if cursor.read.is_empty() {
                    let chunk = cursor.reader.next().await?;
                    let records = chunk.into_iter().flat_map(|message| decode(message.payload));
                    cursor.read.extend(records.filter(|record| record.at >= self.since));
                }
            }
            let earliest = self.cursors.iter_mut().filter(|cursor| !cursor.read.is_empty());
            let earliest = earliest.min_by_key(|cursor| cursor.read.front().map(|record| record.at));
            if let Some(record) = earliest.and_then(|cursor| cursor.read.pop_front()) {
                return Ok(record);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
