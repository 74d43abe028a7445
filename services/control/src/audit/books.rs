//! The sums: for each EVENTS stream and hour of acceptance, what each tenant had accepted and what ended. A sum knows up to
//! which sequence it is complete, so that counting the same records again changes nothing. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postrider_model::{Outcome, Record};
use postrider_proto::control::v1 as api;
use prost::Message;

use super::count::{Change, Hour, What, hour_of, part_hash, recipient_hash};

/// What was accepted and what ended, in recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) accepted: u64,
    /// By event.
    pub(crate) ended: BTreeMap<String, u64>,
    /// The fingerprint of what is open.
    pub(crate) open: u64,
}

impl Sums {
    pub(crate) fn ended(&self) -> u64 {
        self.ended.values().sum()
    }

    fn change(&mut self, part: u64, change: Change) {
        let name = recipient_hash(part, change.index);
        match change.what {
            What::Accepted => {
                self.accepted += 1;
                self.open = self.open.wrapping_add(name);
            }
            What::Ended(outcome) => {
                *self.ended.entry(outcome.as_str().to_owned()).or_default() += 1;
                self.open = self.open.wrapping_sub(name);
            }
            What::Reopened => {
                if let Some(dead) = self.ended.get_mut(Outcome::Dead.as_str()) {
                    *dead = dead.saturating_sub(1);
                }
                self.open = self.open.wrapping_add(name);
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        for (event, count) in &other.ended {
            *self.ended.entry(event.clone()).or_default() += count;
        }
        self.open = self.open.wrapping_add(other.open);
    }
}

/// What a row is about: an hour of acceptance, or the hours of a day that are not kept one by one any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Period {
    Hour(Hour),
    /// Days since 1970.
    Day(u64),
}

impl Period {
    /// The hour with which it begins.
    pub(crate) fn start(self) -> Hour {
        match self {
            Self::Hour(hour) => hour,
            Self::Day(day) => day * 24,
        }
    }
}

/// Which row: the number of an EVENTS stream, and when.
pub(crate) type RowKey = (u8, Period);

fn bit(hour: Hour) -> u32 {
    1 << (hour % 24)
}

/// The sums of an hour, or of hours of a day, as one EVENTS stream tells them.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Complete up to here, as far as it is kept.
    through: u64,
    tenants: BTreeMap<String, Sums>,
    /// Of a day: the hours that it has, a bit each.
    hours: u32,
    /// Of an hour: somebody is about to make it part of its day.
    pub(crate) closed: bool,
    /// The revision that it has in the bucket, if it is there.
    pub(crate) revision: Option<u64>,
    pub(crate) dirty: bool,
}

/// All sums.
#[derive(Debug, Default)]
pub(crate) struct Books {
    rows: BTreeMap<RowKey, Row>,
}

impl Books {
    /// Counts what a record at `sequence` changes; nothing if its row has counted that far.
    pub(crate) fn count(&mut self, stream: u8, sequence: u64, record: &Record, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let row = self.rows.entry((stream, self.period(stream, hour_of(&record.id.message)))).or_default();
        if sequence <= row.through {
            return;
        }
        row.dirty = true;
        let part = part_hash(&record.id.message, record.id.part);
        let sums = row.tenants.entry(record.tenant.to_string()).or_default();
        changes.iter().for_each(|change| sums.change(part, *change));
    }

    /// The rows that differ from what the bucket has.
    pub(crate) fn dirty(&self) -> Vec<RowKey> {
        self.rows.iter().filter(|(_, row)| row.dirty).map(|(key, _)| *key).collect()
    }

    pub(crate) fn row(&mut self, key: RowKey) -> &mut Row {
        self.rows.entry(key).or_default()
    }

    /// Where an hour is counted in a stream.
    fn period(&self, stream: u8, hour: Hour) -> Period {
        let day = Period::Day(hour / 24);
        let folded = self.rows.get(&(stream, day)).is_some_and(|row| row.hours & bit(hour) != 0);
        if folded { day } else { Period::Hour(hour) }
    }

    /// Whether an hour's row counts for nothing, because its day has it.
    pub(crate) fn is_void(&self, (stream, period): RowKey) -> bool {
        matches!(period, Period::Hour(hour) if self.period(stream, hour) != period)
    }

    /// The hour under which an hour is shown, and how many hours are shown there: a day is shown as one if any stream has it so.
    pub(crate) fn shown(&self, hour: Hour) -> (Hour, u32) {
        let day = Period::Day(hour / 24);
        let folded = self.rows.keys().any(|(_, period)| *period == day);
        if folded { (day.start(), 24) } else { (hour, 1) }
    }

    /// The sums of each tenant over all streams, by the hour under which they are shown.
    pub(crate) fn totals(&self) -> BTreeMap<(Hour, String), Sums> {
        let days: BTreeSet<Hour> = self
            .rows
            .keys()
            .filter(|(_, period)| matches!(period, Period::Day(_)))
            .map(|(_, day)| day.start())
            .collect();
        let mut totals: BTreeMap<(Hour, String), Sums> = BTreeMap::new();
        for ((_, period), row) in &self.rows {
            let day = period.start() / 24 * 24;
            let shown = if days.contains(&day) { day } else { period.start() };
            for (tenant, sums) in &row.tenants {
                totals.entry((shown, tenant.clone())).or_default().add(sums);
            }
        }
        totals
    }

    /// The rows of whole days that ended before this hour.
    pub(crate) fn before(&self, hour: Hour) -> Vec<RowKey> {
        self.rows.keys().filter(|(_, period)| (period.start() / 24 + 1) * 24 <= hour).copied().collect()
    }

    pub(crate) fn remove(&mut self, key: RowKey) {
        self.rows.remove(&key);
    }

    /// Makes these hours of a day part of it, if all are complete up to `through`: they are gone then, and the day is to be kept.
    pub(crate) fn fold(&mut self, stream: u8, day: u64, hours: &[Hour], through: u64) -> bool {
        let complete = |period| self.rows.get(&(stream, period)).is_none_or(|row| row.through <= through);
        if !complete(Period::Day(day)) || !hours.iter().all(|hour| complete(Period::Hour(*hour))) {
            return false;
        }
        for hour in hours {
            let Some(row) = self.rows.remove(&(stream, Period::Hour(*hour))) else { continue };
            let whole = self.rows.entry((stream, Period::Day(day))).or_default();
            for (tenant, sums) in &row.tenants {
                whole.tenants.entry(tenant.clone()).or_default().add(sums);
            }
            whole.hours |= bit(*hour);
            whole.dirty = true;
        }
        true
    }
}

impl Row {
    /// The value for the bucket, complete up to `through`.
    pub(crate) fn encode(&self, through: u64) -> Bytes {
        let tenants = self.tenants.iter().map(|(tenant, sums)| api::TenantSums {
            tenant: tenant.clone(),
            accepted: sums.accepted,
            ended: ended(sums),
            open: sums.open,
        });
        api::AuditSums { through, tenants: tenants.collect(), hours: self.hours, closed: self.closed }
            .encode_to_vec()
            .into()
    }

    /// It is in the bucket now.
    pub(crate) fn kept(&mut self, through: u64, revision: u64) {
        self.through = through;
        self.revision = Some(revision);
        self.dirty = false;
    }

    /// Takes what the bucket has, if it is at least as complete as `through`; else only its revision, to be written over. `false`
    /// if somebody has made hours part of a day meanwhile: then all is to be read anew.
    pub(crate) fn meet(&mut self, value: Bytes, revision: u64, through: u64) -> Result<bool, prost::DecodeError> {
        let kept = api::AuditSums::decode(value)?;
        if self.dirty && (kept.hours != self.hours || kept.closed) {
            return Ok(false);
        }
        self.revision = Some(revision);
        if kept.through < through && self.dirty {
            return Ok(true);
        }
        (self.hours, self.closed) = (kept.hours, kept.closed);
        self.through = kept.through;
        self.dirty = false;
        self.tenants = kept
            .tenants
            .into_iter()
            .map(|sums| {
                let ended = sums.ended.into_iter().map(|ended| (ended.event, ended.count)).collect();
                (sums.tenant, Sums { accepted: sums.accepted, ended, open: sums.open })
            })
            .collect();
        Ok(true)
    }
}

/// Counts by event, as they travel.
pub(crate) fn ended(sums: &Sums) -> Vec<api::EndedCount> {
    sums.ended.iter().map(|(event, count)| api::EndedCount { event: event.clone(), count: *count }).collect()
}

#[cfg(test)]
mod tests {
    use postrider_model::Move;

    use super::super::count::Memory;
    use super::super::count::tests::{record, retry};
    use super::*;

    /// Two messages: one is delivered at its second attempt, the other waits.
    fn journal() -> Vec<(u64, Record)> {
        let accepted = |n| record(n, 0, &[Outcome::Accepted], None);
        let records = vec![
            accepted(1),
            accepted(2),
            record(1, 0, &[Outcome::Deferred], retry(&[0])),
            record(1, 1, &[Outcome::Delivered], Some(Move::Finished)),
        ];
        (1u64..).zip(records).collect()
    }

    fn count(books: &mut Books, records: &[(u64, Record)]) {
        let mut memory = Memory::default();
        for (sequence, record) in records {
            let changes = memory.take(record);
            books.count(0, *sequence, record, &changes);
        }
    }

    fn only(books: &Books) -> (u64, u64, u64) {
        let totals = books.totals();
        let sums = totals.values().next().unwrap();
        assert_eq!(totals.len(), 1);
        (sums.accepted, sums.ended(), sums.open)
    }

    #[test]
    fn what_is_open_has_the_fingerprint_of_what_waits() {
        let mut books = Books::default();
        count(&mut books, &journal());
        let waits = record(2, 0, &[], None).id;
        let open = recipient_hash(part_hash(&waits.message, waits.part), 0);
        assert_eq!(only(&books), (2, 1, open));
    }

    #[test]
    fn whoever_dies_at_whatever_point_the_next_one_counts_the_rest_once() {
        let mut whole = Books::default();
        count(&mut whole, &journal());
        for died_at in 0..=journal().len() {
            let mut first = Books::default();
            count(&mut first, &journal()[..died_at]);
            let mut next = Books::default();
            for key in first.dirty() {
                let through = u64::try_from(died_at).unwrap();
                let value = first.row(key).encode(through);
                next.row(key).meet(value, 1, 0).unwrap();
            }
            count(&mut next, &journal());
            assert_eq!(only(&next), only(&whole), "died at {died_at}");
        }
    }

    #[test]
    fn a_day_has_the_sums_of_its_hours_and_what_comes_of_them_later() {
        let (mut hours, mut memory) = (Books::default(), Memory::default());
        let journal = journal();
        for (sequence, record) in &journal[..3] {
            let changes = memory.take(record);
            hours.count(0, *sequence, record, &changes);
        }
        let (stream, Period::Hour(hour)) = hours.dirty()[0] else { panic!("an hour") };
        assert!(hours.fold(stream, hour / 24, &[hour], 3));
        let (key, before) = ((0, Period::Day(hour / 24)), only(&hours));
        assert_eq!((hours.dirty(), before.0, before.1), (vec![key], 2, 0));
        // Whoever reads it from the bucket counts the rest there.
        let mut next = Books::default();
        assert!(next.row(key).meet(hours.row(key).encode(3), 1, 0).unwrap());
        for (sequence, record) in &journal {
            let changes = memory.take(record);
            next.count(0, *sequence, record, &changes);
        }
        let mut whole = Books::default();
        count(&mut whole, &journal);
        assert_eq!((only(&next), next.shown(hour)), (only(&whole), (hour / 24 * 24, 24)));
        assert!(next.is_void((0, Period::Hour(hour))) && !next.is_void((1, Period::Hour(hour))));
    }

    #[test]
    fn an_hour_that_somebody_else_has_counted_further_is_no_part_of_a_day_yet() {
        let (mut ahead, mut behind) = (Books::default(), Books::default());
        count(&mut ahead, &journal());
        let (stream, Period::Hour(hour)) = ahead.dirty()[0] else { panic!("an hour") };
        let key = (stream, Period::Hour(hour));
        behind.row(key).meet(ahead.row(key).encode(4), 1, 0).unwrap();
        assert!(!behind.fold(stream, hour / 24, &[hour], 3));
        assert!(behind.fold(stream, hour / 24, &[hour], 4));
    }

    #[test]
    fn of_two_who_count_the_more_complete_sum_stays() {
        let (mut ahead, mut behind) = (Books::default(), Books::default());
        count(&mut ahead, &journal());
        count(&mut behind, &journal()[..2]);
        let key = ahead.dirty()[0];
        let (more, less) = (ahead.row(key).encode(4), behind.row(key).encode(2));
        behind.row(key).meet(more, 7, 2).unwrap();
        assert_eq!(only(&behind), only(&ahead));
        let before = only(&ahead);
        ahead.row(key).meet(less, 8, 4).unwrap();
        assert_eq!((only(&ahead), ahead.row(key).dirty), (before, true));
        // What the more complete one has counted is not counted again.
        count(&mut behind, &journal());
        assert_eq!(only(&behind), before);
    }
}
