//! Sums by the hour become sums by the day when they are old, and are forgotten when they are older still, so that the bucket lasts.
//!
//! First each hour is marked as closed, so that whoever would write it hears of it; then the day is written with the hours in it,
//! named; then the hours are deleted. Whoever dies between leaves hours that are counted as hours, or that their day has. Who
//! finds that another was first reads everything anew, from the place up to which the bucket is complete.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_nats::{BucketError, Expected};
use tokio::time::Instant;

use super::books::{Period, RowKey};
use super::count::Hour;
use super::keeper::{CountError, Keeper, row_key};

/// How often it is looked what has grown old.
const LOOK: Duration = Duration::from_secs(600);

/// Days of one look: the count stands still meanwhile.
const DAYS_AT_ONCE: usize = 8;

/// From here on hours become days as soon as EVENTS has forgotten them, and the oldest days are forgotten.
const FULL: f64 = 0.7;

/// EVENTS keeps eight days: an hour in it must be looked at by itself, if something is missing.
pub(crate) const LEAST_HOURS: u64 = 9;

impl Keeper {
    pub(super) async fn fold_if_it_is_time(&mut self) -> Result<(), CountError> {
        if self.folded.is_some_and(|last| last.elapsed() < LOOK) {
            return Ok(());
        }
        while let Some((name, revision)) = self.void.pop() {
            self.delete(&name, revision).await?;
        }
        let fullness = self.store.fullness().await?;
        let now = self.spool.server_now().as_secs() / 3_600;
        let hours = if fullness >= FULL { LEAST_HOURS } else { self.keep.hours };
        let mut days: BTreeMap<(u8, u64), Vec<Hour>> = BTreeMap::new();
        for (stream, period) in self.books.before(now.saturating_sub(hours * 24)) {
            if let Period::Hour(hour) = period {
                days.entry((stream, hour / 24)).or_default().push(hour);
            }
        }
        let more = days.len() > DAYS_AT_ONCE;
        for ((stream, day), hours) in days.into_iter().take(DAYS_AT_ONCE) {
            self.fold(stream, day, &hours).await?;
        }
        self.forget(now.saturating_sub(self.keep.days * 24), fullness).await?;
        self.folded = Some(Instant::now()).filter(|_| !more);
        Ok(())
    }

    /// Makes a closed hour part of its day.
    pub(super) async fn fold_hour(&mut self, (stream, period): RowKey) -> Result<(), CountError> {
        let hour = period.start();
        Box::pin(self.fold(stream, hour / 24, &[hour])).await
    }

    async fn fold(&mut self, stream: u8, day: u64, hours: &[Hour]) -> Result<(), CountError> {
        let mut closed = Vec::new();
        for hour in hours {
            let (key, through) = ((stream, Period::Hour(*hour)), self.through(stream));
            let row = self.books.row(key);
            row.closed = true;
            let expected = row.revision.map_or(Expected::Absent, Expected::Revision);
            match self.store.put(&row_key(key), row.encode(through), expected).await {
                Ok(revision) => closed.push((row_key(key), revision)),
                Err(BucketError::Conflict { .. }) => return Err(CountError::Folded),
                Err(error) => return Err(error.into()),
            }
        }
        if !self.books.fold(stream, day, hours, self.through(stream)) {
            // Somebody is ahead of us: read anew, and later.
            return Err(CountError::Folded);
        }
        Box::pin(self.keep_row((stream, Period::Day(day)))).await?;
        for (name, revision) in closed {
            self.delete(&name, revision).await?;
        }
        tracing::debug!(stream, day, hours = hours.len(), "hours of the audit are kept as a day");
        Ok(())
    }

    async fn forget(&mut self, before: Hour, fullness: f64) -> Result<(), CountError> {
        let mut old = self.books.before(before);
        if fullness >= FULL && old.is_empty() {
            let days = self.books.before(Hour::MAX).into_iter().filter(|(_, period)| matches!(period, Period::Day(_)));
            let mut days: Vec<RowKey> = days.collect();
            days.sort_by_key(|(_, period)| period.start());
            old = days.into_iter().take(DAYS_AT_ONCE).collect();
            tracing::warn!(
                fullness,
                days = old.len(),
                "the audit bucket is nearly full: its oldest days are forgotten"
            );
        }
        for key in old {
            if let Some(revision) = self.books.row(key).revision {
                self.delete(&row_key(key), revision).await?;
            }
            self.books.remove(key);
        }
        Ok(())
    }

    /// Deletes a value as it was. One that somebody has written again, or deleted, is left.
    async fn delete(&self, name: &str, revision: u64) -> Result<(), CountError> {
        match self.store.delete(name, Expected::Revision(revision)).await {
            Ok(()) | Err(BucketError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
