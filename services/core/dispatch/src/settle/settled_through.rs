//! Up to which sequence of EVENTS every settle of a shard is finished: where a new owner begins to read. It never says
//! more than is true, whatever the order in which flushes are acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};

use postrider_model::EnvelopeId;

/// A batch of records on its way to EVENTS, from [`SettledThrough::flush_begun`] to [`SettledThrough::recorded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flush(u64);

/// The tracker of one shard.
#[derive(Clone, Debug, Default)]
pub struct SettledThrough {
    /// Never goes back.
    through: u64,
    /// The highest sequence known to hold records of this shard.
    highest: u64,
    next_flush: u64,
    /// Flushes under way, with the highest sequence known when they began: theirs will be above it.
    flushes: BTreeMap<Flush, u64>,
    /// Unfinished settles by the sequence of their record.
    open: BTreeMap<u64, HashSet<EnvelopeId>>,
    sequence_of: HashMap<EnvelopeId, u64>,
    /// Those of them that were replayed and have not come again.
    waiting: HashSet<EnvelopeId>,
}

impl SettledThrough {
    /// Begins where the lease says the last owner had come to.
    pub fn starting_at(through: u64) -> Self {
        Self { through, highest: through, ..Self::default() }
    }

    /// A batch is about to be published. Until [`Self::recorded`] says where it ended up, nothing above the present
    /// highest sequence counts as settled. A publish that fails is repeated under the same flush.
    pub fn flush_begun(&mut self) -> Flush {
        let flush = Flush(self.next_flush);
        self.next_flush += 1;
        self.flushes.insert(flush, self.highest);
        flush
    }

    /// The batch of `flush` is stored as `sequence`; `ids` are those of its records that move their envelope (not the
    /// `accepted` ones).
    pub fn recorded(&mut self, flush: Flush, sequence: u64, ids: impl IntoIterator<Item = EnvelopeId>) {
        self.flushes.remove(&flush);
        for id in ids {
            self.track(sequence, id);
        }
        self.highest = self.highest.max(sequence);
        self.advance();
    }

    /// A record read back while taking over: its settle may be unfinished.
    pub fn replayed(&mut self, sequence: u64, id: EnvelopeId) {
        self.track(sequence, id);
        self.waiting.insert(id);
        self.highest = self.highest.max(sequence);
    }

    /// A batch read back while taking over that moves nothing.
    pub fn replayed_batch(&mut self, sequence: u64) {
        self.highest = self.highest.max(sequence);
    }

    /// A replayed hop has come again: its settle goes on.
    pub fn resumed(&mut self, id: &EnvelopeId) {
        self.waiting.remove(id);
    }

    /// The settle of `id` has gone through all its steps.
    pub fn settled(&mut self, id: &EnvelopeId) {
        self.waiting.remove(id);
        if let Some(sequence) = self.sequence_of.remove(id)
            && let Some(ids) = self.open.get_mut(&sequence)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.open.remove(&sequence);
            }
        }
        self.advance();
    }

    /// Everything that was in READY when the shard was taken has been delivered to us at least once (a pull came back empty,
    /// or with a sequence of READY above the last one at the takeover): what was replayed and has not come was finished by
    /// the last owner. Until this is said, [`Self::through`] stands still. Say it to [`super::DoneSet::caught_up`] too.
    pub fn caught_up(&mut self) {
        for id in std::mem::take(&mut self.waiting) {
            self.settled(&id);
        }
        self.advance();
    }

    /// Every record of this shard up to and including this sequence belongs to a finished settle.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// How many settles are unfinished.
    pub fn unfinished(&self) -> usize {
        self.sequence_of.len()
    }

    fn track(&mut self, sequence: u64, id: EnvelopeId) {
        // A record that is in EVENTS twice counts where it is first.
        if let Some(known) = self.sequence_of.get(&id)
            && *known <= sequence
        {
            return;
        }
        if let Some(later) = self.sequence_of.insert(id, sequence)
            && let Some(ids) = self.open.get_mut(&later)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.open.remove(&later);
            }
        }
        self.open.entry(sequence).or_default().insert(id);
    }

    fn advance(&mut self) {
        let below_open = self.open.keys().next().map_or(self.highest, |first| first.saturating_sub(1));
        let below_flush = self.flushes.values().min().copied().unwrap_or(u64::MAX);
        self.through = self.through.max(below_open.min(below_flush).min(self.highest));
    }
}

#[cfg(test)]
mod tests {
    use postrider_model::MessageId;

    use super::*;

    fn id(n: u8) -> EnvelopeId {
        EnvelopeId { message: MessageId::from_bytes([n; 16]), part: 0, hop: 0 }
    }

    #[test]
    fn an_unfinished_settle_holds_everything_behind_it() {
        let mut tracker = SettledThrough::starting_at(10);
        for (n, sequence) in [(1, 15), (2, 20), (3, 30)] {
            let flush = tracker.flush_begun();
            tracker.recorded(flush, sequence, [id(n)]);
        }
        assert_eq!(tracker.through(), 14);
        tracker.settled(&id(3));
        assert_eq!(tracker.through(), 14);
        tracker.settled(&id(1));
        assert_eq!(tracker.through(), 19);
        tracker.settled(&id(2));
        assert_eq!(tracker.through(), 30);
    }

    #[test]
    fn a_batch_is_settled_with_its_last_record() {
        let mut tracker = SettledThrough::default();
        let flush = tracker.flush_begun();
        tracker.recorded(flush, 5, [id(1), id(2)]);
        tracker.settled(&id(1));
        assert_eq!(tracker.through(), 4);
        tracker.settled(&id(2));
        assert_eq!(tracker.through(), 5);
    }

    #[test]
    fn a_batch_that_moves_nothing_is_settled_at_once() {
        let mut tracker = SettledThrough::default();
        let flush = tracker.flush_begun();
        tracker.recorded(flush, 5, []);
        assert_eq!(tracker.through(), 5);
    }

    #[test]
    fn a_flush_whose_place_is_not_known_yet_holds_everything_behind_it() {
        let mut tracker = SettledThrough::starting_at(3);
        let lost = tracker.flush_begun();
        let quick = tracker.flush_begun();
        tracker.recorded(quick, 6, [id(2)]);
        tracker.settled(&id(2));
        assert_eq!(tracker.through(), 3);
        tracker.recorded(lost, 5, [id(1)]);
        assert_eq!(tracker.through(), 4);
        tracker.settled(&id(1));
        assert_eq!(tracker.through(), 6);
    }

    #[test]
    fn what_was_replayed_holds_until_it_came_and_was_settled_or_all_is_known_to_have_come() {
        let mut tracker = SettledThrough::starting_at(3);
        tracker.replayed(4, id(1));
        tracker.replayed(5, id(2));
        assert_eq!(tracker.through(), 3);
        tracker.resumed(&id(2));
        tracker.caught_up();
        assert_eq!(tracker.through(), 4);
        tracker.settled(&id(2));
        assert_eq!(tracker.through(), 5);
        assert_eq!(tracker.unfinished(), 0);
    }

    #[test]
    fn a_record_that_is_in_events_twice_counts_where_it_is_first() {
        let mut tracker = SettledThrough::default();
        tracker.replayed(7, id(1));
        tracker.replayed(4, id(1));
        tracker.replayed(9, id(1));
        assert_eq!(tracker.through(), 0);
        tracker.settled(&id(1));
        assert_eq!(tracker.through(), 9);
    }

    #[test]
    fn it_never_goes_back() {
        let mut tracker = SettledThrough::default();
        let flush = tracker.flush_begun();
        tracker.recorded(flush, 9, []);
        tracker.replayed(4, id(1));
        assert_eq!(tracker.through(), 9);
    }
}
