//! How many were sent in the last second, minute, hour or day: exact for any position of the window. Never gives anything
//! out; that is the owner's part.
//!
//! What was granted is a *charge*. As long as nobody has said when it was used, it may be used up to the last moment of its
//! grant, so it weighs until a whole window after that. Once its use is reported, it weighs until a window after the report
//! (or after the end of the grant, whichever is earlier), and what was not used weighs nothing. The loss is the time between
//! use and report, at most the life of a grant: grants live a fortieth of the window, so at least 97 % of the limit is
//! usable, and far more of long windows, where grants live ten seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::Timestamp;

use super::Rate;

/// Windows are counted in so many steps: bounds the memory of a path and costs at most a six-hundredth of the limit.
const STEPS: u128 = 600;

/// The charges of one path.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// By the moment at which they stop to weigh.
    charges: BTreeMap<Timestamp, u64>,
    total: u64,
}

/// The moment a charge stops to weigh if its last use was before `last_use`; rounded up to a step of the window.
fn end_of(last_use: Timestamp, rate: Rate) -> Timestamp {
    let step = u64::try_from(rate.window().as_millis() / STEPS).unwrap_or(1).max(1);
    Timestamp::from_millis(last_use.after(rate.window()).as_millis().div_ceil(step).saturating_mul(step))
}

/// What a new owner takes as used by the owner before it, of whom it knows nothing: the whole limit, spread evenly over the
/// window that ended when it began. (A bucket that starts empty and fills at the limit's pace.)
fn inherited(rate: Rate, since: Timestamp, now: Timestamp) -> u64 {
    let left = since.after(rate.window()).since(now).as_millis();
    let share = (u128::from(rate.count()) * left).div_ceil(rate.window().as_millis());
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// When no more than `most` of the inherited share weighs.
fn inherited_at_most(rate: Rate, since: Timestamp, most: u64) -> Timestamp {
    let millis = u128::from(most) * rate.window().as_millis() / u128::from(rate.count());
    since.after(rate.window()).before(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

impl Window {
    /// How many may be granted now, under the limit `rate` and an owner that began at `since`.
    pub(super) fn available(&mut self, rate: Rate, since: Timestamp, now: Timestamp) -> u64 {
        self.forget_past(now);
        u64::from(rate.count()).saturating_sub(self.total).saturating_sub(inherited(rate, since, now))
    }

    /// When `needed` will be available if nobody takes anything before; at most the whole limit can ever be.
    pub(super) fn available_at(&self, needed: u64, rate: Rate, since: Timestamp, now: Timestamp) -> Timestamp {
        let count = u64::from(rate.count());
        let needed = needed.min(count);
        let mut weighing = self.total;
        let mut from = now;
        let mut charges = self.charges.iter();
        loop {
            let next = charges.next();
            if let Some(most) = count.checked_sub(weighing).and_then(|free| free.checked_sub(needed)) {
                let at = from.max(inherited_at_most(rate, since, most));
                if next.is_none_or(|(&end, _)| at <= end) {
                    return at;
                }
            }
            let Some((&end, &amount)) = next else { return from };
            weighing = weighing.saturating_sub(amount);
            from = from.max(end);
        }
    }

    /// Charges a grant that may be used before `until`.
    pub(super) fn charge(&mut self, amount: u32, until: Timestamp, rate: Rate) {
        if amount > 0 {
            *self.charges.entry(end_of(until, rate)).or_default() += u64::from(amount);
            self.total += u64::from(amount);
        }
    }

    /// A grant of `granted` until `until` ends: `used` of it, the last of them no later than now.
    pub(super) fn settle(&mut self, granted: u32, used: u32, until: Timestamp, rate: Rate, now: Timestamp) {
        let end = end_of(until, rate);
        if let Some(amount) = self.charges.get_mut(&end) {
            let taken = (*amount).min(u64::from(granted));
            *amount -= taken;
            self.total -= taken;
            if *amount == 0 {
                self.charges.remove(&end);
            }
        }
        self.charge(used, until.min(now), rate);
    }

    /// Whether nothing weighs any more.
    pub(super) fn is_empty(&mut self, now: Timestamp) -> bool {
        self.forget_past(now);
        self.charges.is_empty()
    }

    fn forget_past(&mut self, now: Timestamp) {
        while let Some(first) = self.charges.first_entry() {
            if *first.key() > now {
                break;
            }
            self.total -= first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AGO: Timestamp = Timestamp::from_millis(0);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis((100_000 + secs) * 1_000)
    }

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_grant_weighs_until_a_window_after_its_end() {
        let (mut window, rate) = (Window::default(), rate("10/m"));
        window.charge(10, at(5), rate);
        assert_eq!(window.available(rate, LONG_AGO, at(64)), 0);
        assert_eq!(window.available_at(1, rate, LONG_AGO, at(64)), at(65));
        assert_eq!(window.available(rate, LONG_AGO, at(65)), 10);
    }

    #[test]
    fn what_was_not_used_comes_back_at_once_and_the_rest_a_window_after_the_report() {
        let (mut window, rate) = (Window::default(), rate("10/m"));
        window.charge(10, at(10), rate);
        window.settle(10, 4, at(10), rate, at(2));
        assert_eq!(window.available(rate, LONG_AGO, at(2)), 6);
        assert_eq!(window.available_at(7, rate, LONG_AGO, at(2)), at(62));
        assert_eq!(window.available(rate, LONG_AGO, at(62)), 10);
    }

    #[test]
    fn a_report_after_the_end_of_the_grant_does_not_prolong_it() {
        let (mut window, rate) = (Window::default(), rate("10/m"));
        window.charge(10, at(1), rate);
        window.settle(10, 10, at(1), rate, at(30));
        assert_eq!(window.available(rate, LONG_AGO, at(61)), 10);
    }

    #[test]
    fn a_new_owner_starts_with_an_empty_bucket_that_fills_at_the_limits_pace() {
        let (mut window, rate) = (Window::default(), rate("60/m"));
        let available: Vec<u64> = [0, 1, 30, 60].map(|secs| window.available(rate, at(0), at(secs))).into();
        assert_eq!(available, [0, 1, 30, 60]);
        assert_eq!(window.available_at(1, rate, at(0), at(0)), at(1));
        window.charge(1, at(1), rate);
        assert_eq!(window.available_at(1, rate, at(0), at(1)), at(2));
        assert_eq!(window.available_at(60, rate, at(0), at(1)), at(61));
    }
}
