//! Counts the journal as it grows, and keeps the sums in the bucket. Every control process does it for itself: sums know how
//! far they are complete, so whoever writes, and dies at whatever point, each record is counted once.

use std::time::Duration;

use postrider_model::{Record, Timestamp};
use postrider_nats::{AuditStore, BucketError, Expected, JournalReader, ReadError, Spool};
use postrider_proto::control::v1 as api;
use prost::Message;
use thiserror::Error;
use tokio::time::Instant;

use super::books::{Books, Period, RowKey};
use super::count::{Change, Hour, Memory};

/// How far before the place counted to a new process reads on, to know repeats.
const WARM_UP: Duration = Duration::from_secs(30 * 60);

/// How long sums are kept, in days.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Hour by hour; day by day after that.
    pub(crate) hours: u64,
    /// Altogether.
    pub(crate) days: u64,
}

/// Why the journal cannot be counted.
#[derive(Debug, Error)]
pub(crate) enum CountError {
    #[error(transparent)]
    Journal(#[from] ReadError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the value of {0} in the audit bucket cannot be read")]
    Unreadable(String),
    #[error("another process has made hours part of a day; the sums are read anew")]
    Folded,
}

/// How far one EVENTS stream has been read.
struct Cursor {
    reader: JournalReader,
    /// Read up to here.
    read: u64,
    stored: Timestamp,
    /// The bucket is complete up to here.
    kept: u64,
    revision: Option<u64>,
    gaps: Vec<api::AuditGap>,
}

/// The sums, and how far they go.
pub(crate) struct Keeper {
    pub(super) spool: Spool,
    pub(super) store: AuditStore,
    pub(super) keep: Keep,
    /// Values of hours that are part of their day.
    pub(super) void: Vec<(String, u64)>,
    /// When it was looked last what can be made part of a day.
    pub(super) folded: Option<Instant>,
    pub(crate) memory: Memory,
    pub(crate) books: Books,
    cursors: Vec<Cursor>,
}

pub(super) fn row_key((stream, period): RowKey) -> String {
    match period {
        Period::Hour(hour) => format!("sums.{stream}.{hour}"),
        Period::Day(day) => format!("days.{stream}.{day}"),
    }
}

fn cursor_key(stream: usize) -> String {
    format!("cursor.{stream}")
}

impl Keeper {
    /// Takes up where the bucket says.
    pub(crate) async fn open(spool: &Spool, keep: Keep) -> Result<Self, CountError> {
        let store = spool.audit_store();
        let mut books = Books::default();
        let mut kept = vec![(api::AuditCursor::default(), None); usize::from(spool.journals())];
        for entry in store.list().await? {
            let unreadable = || CountError::Unreadable(entry.key.clone());
            let mut parts = entry.key.split('.');
            match (parts.next(), parts.next().map(str::parse::<u8>), parts.next().map(str::parse::<Hour>)) {
                (Some(kind @ ("sums" | "days")), Some(Ok(stream)), Some(Ok(number))) => {
                    let period = if kind == "days" { Period::Day(number) } else { Period::Hour(number) };
                    let row = books.row((stream, period));
                    row.meet(entry.value.clone(), entry.revision, 0).map_err(|_| unreadable())?;
                }
                (Some("cursor"), Some(Ok(stream)), None) => {
                    let cursor = api::AuditCursor::decode(entry.value.clone()).map_err(|_| unreadable())?;
                    if let Some(slot) = kept.get_mut(usize::from(stream)) {
                        *slot = (cursor, Some(entry.revision));
                    }
                }
                _ => {}
            }
        }
        let void: Vec<RowKey> = books.before(Hour::MAX).into_iter().filter(|key| books.is_void(*key)).collect();
        let mut revisions = Vec::new();
        for key in void {
            revisions.extend(books.row(key).revision.map(|revision| (row_key(key), revision)));
            books.remove(key);
        }
        let void = revisions;
        let cursors = (0..spool.journals()).zip(kept).map(|(stream, (cursor, revision))| {
            let stored = Timestamp::from_millis(cursor.stored_ms);
            let reader = match cursor.through {
                0 => spool.read_journal(stream, 0),
                _ => spool.read_journal_since(stream, stored.before(WARM_UP)),
            };
            Cursor { reader, read: cursor.through, stored, kept: cursor.through, revision, gaps: cursor.gaps }
        });
        let cursors = cursors.collect();
        let (spool, memory) = (spool.clone(), Memory::default());
        Ok(Self { spool, store, keep, void, folded: None, memory, books, cursors })
    }

    /// Reads a chunk of each stream, and lets `see` look at what is counted. Whether there was anything.
    pub(crate) async fn advance(&mut self, mut see: impl FnMut(&Record, &[Change])) -> Result<bool, CountError> {
        let mut some = false;
        for stream in 0..self.cursors.len() {
            some |= self.read(stream, &mut see).await?;
        }
        Ok(some)
    }

    /// Reads up to what the journal holds now.
    pub(crate) async fn catch_up(&mut self, mut see: impl FnMut(&Record, &[Change])) -> Result<(), CountError> {
        for stream in 0..self.cursors.len() {
            let last = self.spool.journal_end(u8::try_from(stream).unwrap_or_default()).await?;
            while self.cursors.get(stream).is_some_and(|cursor| cursor.read < last) {
                if !self.read(stream, &mut see).await?
                    && let Some(cursor) = self.cursors.get_mut(stream)
                {
                    cursor.reader.pause_if_behind(last).await?;
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, stream: usize, see: &mut impl FnMut(&Record, &[Change])) -> Result<bool, CountError> {
        let Some(cursor) = self.cursors.get_mut(stream) else { return Ok(false) };
        let number = u8::try_from(stream).unwrap_or_default();
        let batches = cursor.reader.next().await?;
        let some = !batches.is_empty();
        for batch in batches {
            // What comes before is read to know repeats, and is counted already.
            let counts = batch.sequence > cursor.read;
            for record in &batch.records {
                let changes = self.memory.take(record);
                if counts {
                    self.books.count(number, batch.sequence, record, &changes);
                    see(record, &changes);
                }
            }
            if counts {
                if batch.sequence > cursor.read + 1 {
                    let gap = api::AuditGap { after: cursor.read, before: batch.sequence };
                    tracing::error!(
                        stream,
                        gap.after,
                        gap.before,
                        "records of EVENTS were deleted before they were counted"
                    );
                    cursor.gaps.push(gap);
                }
                cursor.read = batch.sequence;
                cursor.stored = batch.stored;
            }
        }
        Ok(some)
    }

    /// Writes what has changed: first the sums, then how far they go.
    pub(crate) async fn keep(&mut self) -> Result<(), CountError> {
        for key in self.books.dirty() {
            self.keep_row(key).await?;
        }
        for stream in 0..self.cursors.len() {
            self.keep_cursor(stream).await?;
        }
        self.fold_if_it_is_time().await
    }

    /// How far a stream is counted here.
    pub(super) fn through(&self, stream: u8) -> u64 {
        self.cursors.get(usize::from(stream)).map_or(0, |cursor| cursor.read)
    }

    pub(super) async fn keep_row(&mut self, key: RowKey) -> Result<(), CountError> {
        let name = row_key(key);
        let through = self.through(key.0);
        loop {
            let row = self.books.row(key);
            if row.closed && row.dirty {
                // Whoever was about to make it part of its day has not come to that: then that is for us to do.
                return self.fold_hour(key).await;
            }
            if !row.dirty {
                // Somebody else has counted as far.
                return Ok(());
            }
            let expected = row.revision.map_or(Expected::Absent, Expected::Revision);
            match self.store.put(&name, row.encode(through), expected).await {
                Ok(revision) => {
                    row.kept(through, revision);
                    return Ok(());
                }
                Err(BucketError::Conflict { .. }) => {
                    let Some(entry) = self.store.get(&name).await? else { return Err(CountError::Folded) };
                    let met = row.meet(entry.value, entry.revision, through);
                    if !met.map_err(|_| CountError::Unreadable(name.clone()))? {
                        return Err(CountError::Folded);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn keep_cursor(&mut self, stream: usize) -> Result<(), CountError> {
        let Some(cursor) = self.cursors.get_mut(stream) else { return Ok(()) };
        let name = cursor_key(stream);
        while cursor.read > cursor.kept {
            let value = api::AuditCursor {
                through: cursor.read,
                stored_ms: cursor.stored.as_millis(),
                gaps: cursor.gaps.clone(),
            };
            let expected = cursor.revision.map_or(Expected::Absent, Expected::Revision);
            match self.store.put(&name, value.encode_to_vec().into(), expected).await {
                Ok(revision) => {
                    cursor.revision = Some(revision);
                    cursor.kept = cursor.read;
                }
                Err(BucketError::Conflict { .. }) => match self.store.get(&name).await? {
                    Some(entry) => {
                        let theirs = api::AuditCursor::decode(entry.value);
                        let theirs = theirs.map_err(|_| CountError::Unreadable(name.clone()))?;
                        cursor.revision = Some(entry.revision);
                        cursor.kept = theirs.through;
                    }
                    None => cursor.revision = None,
                },
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Words about what could not be counted.
    pub(crate) fn notes(&self) -> Vec<String> {
        let gaps = self.cursors.iter().enumerate().flat_map(|(stream, cursor)| {
            cursor.gaps.iter().map(move |gap| {
                format!(
                    "EVENTS_{stream} has no records between sequence {} and {}: they were deleted before they were counted, \
                     and sums of that time are too low",
                    gap.after, gap.before
                )
            })
        });
        gaps.collect()
    }
}
