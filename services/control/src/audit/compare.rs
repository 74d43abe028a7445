//! What the sums say is open against what a scan of the streams found, by fingerprint. Mail goes on moving during a scan: what
//! the journal recorded meanwhile is taken as it was when the scan began. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// What a scan found.
#[derive(Default)]
pub(crate) struct Scan {
    /// By the name of the part: what moves during a scan is found twice.
    parts: HashMap<u64, Found>,
    waiting: BTreeMap<HourOf, Counted>,
    untaken: BTreeMap<HourOf, Counted>,
}

impl Scan {
    /// Takes in what lies in a stream. `is_taken`: whether a part at hop 0 has been recorded as accepted.
    pub(crate) fn see(&mut self, outline: &Outline, is_taken: impl FnOnce(u64) -> bool) {
        let part = part_hash(&outline.message, outline.part);
        if self.parts.contains_key(&part) {
            return;
        }
        let pending = Counted::of(part, outline.pending.iter().copied());
        let untaken = outline.hop == 0 && !is_taken(part);
        self.parts.insert(part, Found { pending, untaken });
        let side = if untaken { &mut self.untaken } else { &mut self.waiting };
        side.entry((hour_of(&outline.message), outline.tenant.clone())).or_default().add(pending);
    }

    /// Puts the parts that were recorded during the scan back to where they were when it began.
    pub(crate) fn put_back(&mut self, meanwhile: Meanwhile) {
        for (part, touched) in meanwhile.parts {
            // Else nothing but a repeat was recorded.
            let Some(open) = touched.open_before else { continue };
            if let Some(found) = self.parts.get(&part).copied() {
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
