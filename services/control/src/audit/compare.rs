//! What the sums say is open against what a scan of the streams found, by fingerprint. Mail goes on moving during a scan: what
//! the journal recorded meanwhile is taken as it was when the scan began. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use postrider_model::{Move, Record};
use postrider_proto::Outline;

use super::books::Sums;
use super::count::{Change, Hour, What, hour_of, part_hash, recipient_hash};

/// Whose mail of which hour.
pub(crate) type HourOf = (Hour, String);

/// A set of recipients: how many, and the sum of their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) count: u64,
    names: u64,
}

impl Counted {
    fn of(part: u64, indices: impl Iterator<Item = u32>) -> Self {
        let add = |sum: Self, index| Self {
            count: sum.count + 1,
            names: sum.names.wrapping_add(recipient_hash(part, index)),
        };
        indices.fold(Self::default(), add)
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.names = self.names.wrapping_add(other.names);
    }

    fn take(&mut self, other: Self) {
        self.count = self.count.saturating_sub(other.count);
        self.names = self.names.wrapping_sub(other.names);
    }
}

/// One part as the scan found it.
#[derive(Clone, Copy)]
struct Found {
    pending: Counted,
    untaken: bool,
}

/// Names of parts, in many sets, so that when they grow only one of them is there twice.
struct Names(Vec<HashSet<u64>>);

impl Default for Names {
    fn default() -> Self {
        Self((0..64).map(|_| HashSet::new()).collect())
    }
}

impl Names {
    fn of(part: u64) -> usize {
        (part >> 58) as usize
    }

    fn insert(&mut self, part: u64) {
        if let Some(set) = self.0.get_mut(Self::of(part)) {
            set.insert(part);
        }
    }

    fn contains(&self, part: u64) -> bool {
        self.0.get(Self::of(part)).is_some_and(|set| set.contains(&part))
    }
}

/// What a scan found. What moves during a scan is found twice, and what is recorded meanwhile is put back, so every part is known by
/// its name: nearly all have one recipient, and of those the name is all that is kept.
#[derive(Default)]
pub(crate) struct Scan {
    /// Of which the first recipient waits, and no other: what has been recorded as accepted, and what has not.
    single: Names,
    single_untaken: Names,
    others: HashMap<u64, Found>,
    waiting: BTreeMap<HourOf, Counted>,
    untaken: BTreeMap<HourOf, Counted>,
}

impl Scan {
    /// Takes in what lies in a stream. `is_taken`: whether a part at hop 0 has been recorded as accepted.
    pub(crate) fn see(&mut self, outline: &Outline, is_taken: impl FnOnce(u64) -> bool) {
        let part = part_hash(&outline.message, outline.part);
        if self.found(part).is_some() {
            return;
        }
        let pending = Counted::of(part, outline.pending.iter().copied());
        let untaken = outline.hop == 0 && !is_taken(part);
        match (outline.pending.as_slice(), untaken) {
            ([0], false) => self.single.insert(part),
            ([0], true) => self.single_untaken.insert(part),
            _ => drop(self.others.insert(part, Found { pending, untaken })),
        }
        let side = if untaken { &mut self.untaken } else { &mut self.waiting };
        side.entry((hour_of(&outline.message), outline.tenant.clone())).or_default().add(pending);
    }

    /// As what a part was found first.
    fn found(&self, part: u64) -> Option<Found> {
        let single = |untaken| Found { pending: Counted::of(part, std::iter::once(0)), untaken };
        if self.single.contains(part) {
            Some(single(false))
        } else if self.single_untaken.contains(part) {
            Some(single(true))
        } else {
            self.others.get(&part).copied()
        }
    }

    /// Puts the parts that were recorded during the scan back to where they were when it began.
    pub(crate) fn put_back(&mut self, meanwhile: Meanwhile) {
        for (part, touched) in meanwhile.parts {
            // Else nothing but a repeat was recorded.
            let Some(open) = touched.open_before else { continue };
            if let Some(found) = self.found(part) {
                let side = if found.untaken { &mut self.untaken } else { &mut self.waiting };
                side.entry(touched.hour_of.clone()).or_default().take(found.pending);
            }
            let side = if touched.is_new { &mut self.untaken } else { &mut self.waiting };
            side.entry(touched.hour_of).or_default().add(Counted::of(part, open.into_iter()));
        }
    }

    /// Takes hours together that are shown together.
    pub(crate) fn show_under(&mut self, shown: impl Fn(Hour) -> Hour) {
        for side in [&mut self.waiting, &mut self.untaken] {
            for ((hour, tenant), counted) in std::mem::take(side) {
                side.entry((shown(hour), tenant)).or_default().add(counted);
            }
        }
    }

    pub(crate) fn waiting(&self, of: &HourOf) -> Counted {
        self.waiting.get(of).copied().unwrap_or_default()
    }

    pub(crate) fn untaken(&self, of: &HourOf) -> u64 {
        self.untaken.get(of).map_or(0, |counted| counted.count)
    }

    /// Every hour and tenant of which something was found.
    pub(crate) fn hours(&self) -> BTreeSet<HourOf> {
        let some = |(of, counted): (&HourOf, &Counted)| (counted.count > 0).then(|| of.clone());
        self.waiting.iter().chain(&self.untaken).filter_map(some).collect()
    }
}

/// Whether what is open is what was found.
pub(crate) fn agrees(sums: &Sums, found: Counted) -> bool {
    sums.accepted == sums.ended() + found.count && sums.open == found.names
}

/// What was recorded during a scan.
#[derive(Default)]
pub(crate) struct Meanwhile {
    parts: HashMap<u64, Touched>,
}

struct Touched {
    hour_of: HourOf,
    is_new: bool,
    /// The recipients that were open before the first settle.
    open_before: Option<BTreeSet<u32>>,
}

impl Meanwhile {
    /// Takes in a record with what it changed.
    pub(crate) fn see(&mut self, record: &Record, changes: &[Change]) {
        let part = part_hash(&record.id.message, record.id.part);
        let accepted = changes.iter().any(|change| change.what == What::Accepted);
        let touched = self.parts.entry(part).or_insert_with(|| Touched {
            hour_of: (hour_of(&record.id.message), record.tenant.to_string()),
            is_new: accepted,
            open_before: None,
        });
        if record.next.is_none() || touched.open_before.is_some() {
            if accepted {
                touched.open_before.get_or_insert_with(|| changes.iter().map(|change| change.index).collect());
            }
            return;
        }
        let ended_now = |index: u32| changes.iter().any(|change| change.index == index);
        let open = record.outcomes.iter().filter(|it| !it.outcome.is_terminal() || ended_now(it.index));
        let mut open: BTreeSet<u32> = open.map(|outcome| outcome.index).collect();
        if let Some(Move::Tier { pending, .. }) = &record.next {
            open.extend(pending);
        }
        touched.open_before = Some(open);
    }
}

#[cfg(test)]
mod tests {
    use postrider_model::Outcome::{Accepted, Deferred, Delivered};

    use super::super::books::Books;
    use super::super::count::Memory;
    use super::super::count::tests::{record, retry};
    use super::*;

    fn outline(n: u8, hop: u32, pending: &[u32]) -> Outline {
        let id = record(n, hop, &[], None).id;
        Outline { message: id.message, part: id.part, hop, tenant: "acme".into(), pending: pending.to_vec() }
    }

    /// Counts `before`, scans `found`, then counts `during`: whether all agrees, and what was found.
    fn audit(before: &[Record], found: &[Outline], during: &[Record]) -> (bool, u64, u64) {
        let (mut memory, mut books, mut scan) = (Memory::default(), Books::default(), Scan::default());
        for record in before {
            let changes = memory.take(record);
            books.count(0, 1, record, &changes);
        }
        found.iter().for_each(|outline| scan.see(outline, |part| memory.is_taken(part)));
        let mut meanwhile = Meanwhile::default();
        for record in during {
            let changes = memory.take(record);
            meanwhile.see(record, &changes);
        }
        scan.put_back(meanwhile);
        let of = (hour_of(&outline(1, 0, &[]).message), "acme".to_owned());
        let sums = books.totals().remove(&of).unwrap_or_default();
        (agrees(&sums, scan.waiting(&of)), scan.waiting(&of).count, scan.untaken(&of))
    }

    #[test]
    fn what_waits_is_what_was_accepted_and_has_not_ended() {
        let before = [record(1, 0, &[Accepted, Accepted], None), record(1, 0, &[Delivered, Deferred], retry(&[1]))];
        assert_eq!(audit(&before, &[outline(1, 1, &[1])], &[]), (true, 1, 0));
        assert_eq!(audit(&before, &[], &[]), (false, 0, 0));
        // The same number of others is not the same.
        assert_eq!(audit(&before, &[outline(1, 1, &[0])], &[]), (false, 1, 0));
    }

    #[test]
    fn of_a_part_with_one_recipient_the_scan_keeps_little_more_than_the_name() {
        let mut scan = Scan::default();
        let first = outline(1, 1, &[0]);
        for part in 0..200_000 {
            scan.see(&Outline { part, ..first.clone() }, |_| true);
        }
        let slots: usize = scan.single.0.iter().map(HashSet::capacity).sum();
        // Eight bytes and one of the table's own for each slot, and an eighth of them is kept empty.
        let bytes = slots * 9 * 8 / 7;
        assert!((200_000 * 8..200_000 * 24).contains(&bytes), "{bytes}");
        assert!(scan.others.is_empty());
        assert_eq!(scan.waiting(&(hour_of(&first.message), "acme".to_owned())).count, 200_000);
    }

    #[test]
    fn what_nobody_has_taken_is_in_transit() {
        assert_eq!(audit(&[], &[outline(1, 0, &[0, 1])], &[]), (true, 0, 2));
        let before = [record(1, 0, &[Accepted], None)];
        assert_eq!(audit(&before, &[outline(1, 0, &[0])], &[]), (true, 1, 0));
    }

    #[test]
    fn what_is_taken_or_ends_during_the_scan_counts_as_before_it() {
        let taken = [record(1, 0, &[Accepted], None)];
        assert_eq!(audit(&[], &[outline(1, 0, &[0])], &taken), (true, 0, 1));
        assert_eq!(audit(&[], &[], &taken), (true, 0, 1));
        let ended = [record(1, 0, &[Delivered], Some(Move::Finished))];
        assert_eq!(audit(&taken, &[outline(1, 0, &[0])], &ended), (true, 1, 0));
        assert_eq!(audit(&taken, &[], &ended), (true, 1, 0));
    }

    #[test]
    fn what_moves_during_the_scan_is_counted_once_wherever_it_is_found() {
        let before = [record(1, 0, &[Accepted], None)];
        let moves = [record(1, 0, &[Deferred], retry(&[0]))];
        for found in [vec![], vec![outline(1, 1, &[0])], vec![outline(1, 1, &[0]), outline(1, 0, &[0])]] {
            assert_eq!(audit(&before, &found, &moves), (true, 1, 0), "{found:?}");
        }
    }
}
