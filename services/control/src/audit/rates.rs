//! What happened within the last minute, by site, tenant and class: for people who look on. Counted beside the audit, from the
//! same records; a repeat counts again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use postrider_model::{Class, Outcome, Record, SiteName, TenantId, Timestamp};
use postrider_proto::control::v1::MinuteCounts;

/// Seconds of one slot.
const SLOT: u64 = 5;

/// Slots that are kept: a minute, and the one that is being filled.
const SLOTS: usize = 13;

/// The most rows of a slot: more than a screen can show.
const MOST_ROWS: usize = 50_000;

/// Whose mail to where.
pub(crate) type RowOf = (SiteName, TenantId, Class);

/// The last minute. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Rates {
    slots: Arc<Mutex<VecDeque<Slot>>>,
}

struct Slot {
    number: u64,
    rows: HashMap<RowOf, MinuteCounts>,
}

impl Rates {
    /// Counts a record at the time at which it says that it happened, and no later than `now`, by the server's clock: one
    /// process whose clock is ahead must not make what all others tell look old.
    pub(crate) fn see(&self, record: &Record, now: Timestamp) {
        let newest = now.as_secs() / SLOT;
        let number = (record.at.as_secs() / SLOT).min(newest);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = u64::try_from(SLOTS).unwrap_or(u64::MAX);
        if number + kept <= newest {
            return;
        }
        let place = match slots.iter().position(|slot| slot.number >= number) {
            Some(place) if slots.get(place).is_some_and(|slot| slot.number == number) => place,
            Some(place) => {
                slots.insert(place, Slot { number, rows: HashMap::new() });
                place
            }
            None => {
                slots.push_back(Slot { number, rows: HashMap::new() });
                slots.len() - 1
            }
        };
        if let Some(slot) = slots.get_mut(place)
            && slot.rows.len() < MOST_ROWS
        {
            let row = slot.rows.entry((record.site.clone(), record.tenant.clone(), record.class)).or_default();
            record.outcomes.iter().for_each(|outcome| count(row, outcome.outcome));
        }
        while slots.len() > SLOTS {
            slots.pop_front();
        }
    }

    /// What happened in the minute before `now`.
    pub(crate) fn minute(&self, now: Timestamp) -> BTreeMap<RowOf, MinuteCounts> {
        let until = now.as_secs() / SLOT;
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: BTreeMap<RowOf, MinuteCounts> = BTreeMap::new();
        for slot in slots.iter().filter(|slot| slot.number < until && slot.number + 12 >= until) {
            for (of, counts) in &slot.rows {
                let row = rows.entry(of.clone()).or_default();
                row.accepted += counts.accepted;
                row.delivered += counts.delivered;
                row.deferred += counts.deferred;
                row.failed += counts.failed;
            }
        }
        rows
    }
}

fn count(row: &mut MinuteCounts, outcome: Outcome) {
    match outcome {
        Outcome::Accepted => row.accepted += 1,
        Outcome::Delivered => row.delivered += 1,
        Outcome::Deferred => row.deferred += 1,
        Outcome::Bounced | Outcome::Expired | Outcome::Dead | Outcome::Deleted => row.failed += 1,
        Outcome::Moved | Outcome::Suspended | Outcome::Requeued => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::count::tests::{AT, record};
    use super::*;

    #[test]
    fn a_minute_forgets_what_is_older() {
        let rates = Rates::default();
        for seconds in [0, 30, 90] {
            let mut record = record(1, 0, &[Outcome::Accepted, Outcome::Accepted], None);
            record.at = AT.after(std::time::Duration::from_secs(seconds));
            rates.see(&record, record.at);
        }
        let accepted = |seconds| {
            let minute = rates.minute(AT.after(std::time::Duration::from_secs(seconds)));
            minute.values().map(|counts| counts.accepted).sum::<u64>()
        };
        assert_eq!([accepted(35), accepted(100), accepted(200)], [4, 2, 0]);
    }

    #[test]
    fn a_process_that_is_ahead_hides_nobody_elses_mail() {
        let (rates, mut record) = (Rates::default(), record(1, 0, &[Outcome::Accepted], None));
        for ahead in [3_600, 0, 3_605, 0] {
            record.at = AT.after(std::time::Duration::from_secs(ahead));
            rates.see(&record, AT);
        }
        let minute = rates.minute(AT.after(std::time::Duration::from_secs(5)));
        assert_eq!(minute.values().map(|counts| counts.accepted).sum::<u64>(), 4);
    }
}
