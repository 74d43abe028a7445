//! The sums: for each EVENTS stream and hour of acceptance, what each tenant had accepted and what ended. A sum knows up to
//! which sequence it is complete, so that counting the same records again changes nothing. Pure.

use std::collections::BTreeMap;

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

/// The sums of an hour as one EVENTS stream tells them.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Complete up to here, as far as it is kept.
    through: u64,
    tenants: BTreeMap<String, Sums>,
    /// The revision that it has in the bucket, if it is there.
    pub(crate) revision: Option<u64>,
    pub(crate) dirty: bool,
}

/// All sums.
#[derive(Debug, Default)]
pub(crate) struct Books {
    rows: BTreeMap<(u8, Hour), Row>,
}

impl Books {
    /// Counts what a record at `sequence` changes; nothing if its row has counted that far.
    pub(crate) fn count(&mut self, stream: u8, sequence: u64, record: &Record, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let row = self.rows.entry((stream, hour_of(&record.id.message))).or_default();
        if sequence <= row.through {
            return;
        }
        row.dirty = true;
        let part = part_hash(&record.id.message, record.id.part);
        let sums = row.tenants.entry(record.tenant.to_string()).or_default();
        changes.iter().for_each(|change| sums.change(part, *change));
    }

    /// The rows that differ from what the bucket has.
    pub(crate) fn dirty(&self) -> Vec<(u8, Hour)> {
        self.rows.iter().filter(|(_, row)| row.dirty).map(|(key, _)| *key).collect()
    }

    pub(crate) fn row(&mut self, key: (u8, Hour)) -> &mut Row {
        self.rows.entry(key).or_default()
    }

    /// The sums of each hour and tenant over all streams.
    pub(crate) fn totals(&self) -> BTreeMap<(Hour, String), Sums> {
        let mut totals: BTreeMap<(Hour, String), Sums> = BTreeMap::new();
        for ((_, hour), row) in &self.rows {
            for (tenant, sums) in &row.tenants {
                totals.entry((*hour, tenant.clone())).or_default().add(sums);
            }
        }
        totals
    }

    /// Forgets hours that the bucket does not keep any more.
    pub(crate) fn forget_before(&mut self, hour: Hour) {
        self.rows.retain(|(_, of), row| *of >= hour || row.dirty);
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
        api::AuditSums { through, tenants: tenants.collect() }.encode_to_vec().into()
    }

    /// It is in the bucket now.
    pub(crate) fn kept(&mut self, through: u64, revision: u64) {
        self.through = through;
        self.revision = Some(revision);
        self.dirty = false;
    }

    /// Takes what the bucket has, if it is at least as complete as `through`; else only its revision, to be written over.
    pub(crate) fn meet(&mut self, value: Bytes, revision: u64, through: u64) -> Result<(), prost::DecodeError> {
        let kept = api::AuditSums::decode(value)?;
        self.revision = Some(revision);
        if kept.through < through && self.dirty {
            return Ok(());
        }
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
        Ok(())
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
