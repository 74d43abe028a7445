//! What is settled already, so that a hop that comes again is recognised. Bounded by time, not by count: finished settles
//! are kept for ten minutes and a little, in few bytes each, unfinished ones until they are finished; what was read back from
//! EVENTS and never came, as long as finished ones.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use postrider_model::{EnvelopeId, Move, Timestamp};

use super::{BodyState, Settle};

/// How long a finished settle is remembered, at least.
pub const KEPT: Duration = Duration::from_secs(600);

/// Finished settles are forgotten together that were finished within so long.
const SPAN: Duration = Duration::from_secs(60);

/// What is known about a hop that has its record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Settled {
    /// Recorded; copy and ack are not known to be done.
    Recorded(Move),
    /// Read back from EVENTS by a new owner: whether copy and ack are done is not known, and it may never come again.
    Replayed(Move),
    /// The copy is made, and the acknowledgement asked for, but not confirmed.
    Copied(Move),
}

impl Settled {
    const fn next_move(&self) -> &Move {
        match self {
            Self::Recorded(next) | Self::Replayed(next) | Self::Copied(next) => next,
        }
    }
}

/// Hops whose settles were finished within one span, in the order of their ids. What is kept of the move is whether the part
/// ended with it, so that a repeat may delete its body.
#[derive(Clone, Debug)]
struct Span {
    hops: Box<[(EnvelopeId, bool)]>,
    last: Timestamp,
}

impl Span {
    fn get(&self, id: &EnvelopeId) -> Option<bool> {
        // Nearly everything that comes is younger than all of them.
        self.hops.last().filter(|(last, _)| id <= last)?;
        let at = self.hops.binary_search_by_key(id, |(hop, _)| *hop).ok()?;
        self.hops.get(at).map(|(_, ended)| *ended)
    }
}

/// The hops of one shard that have their record.
#[derive(Clone, Debug, Default)]
pub struct DoneSet {
    unfinished: HashMap<EnvelopeId, Settled>,
    for_newer: HashSet<EnvelopeId>,
    /// When everything that was in READY at the takeover had come.
    caught_up: Option<Timestamp>,
    /// What was finished since the last span ended.
    current: HashMap<EnvelopeId, bool>,
    since: Timestamp,
    last: Timestamp,
    /// The oldest first.
    spans: VecDeque<Span>,
}

impl DoneSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record of `id` is in EVENTS: from now on it is never attempted again.
    pub fn recorded(&mut self, id: EnvelopeId, next: Move) {
        self.unfinished.insert(id, Settled::Recorded(next));
    }

    /// A record read back while taking over. One that is known here already stays as it is.
    pub fn replayed(&mut self, id: EnvelopeId, next: Move) {
        if self.ended(&id).is_none() {
            self.unfinished.entry(id).or_insert(Settled::Replayed(next));
        }
    }

    /// The record of `id` was read back, but only a newer build can tell what it says.
    pub fn leave_to_newer(&mut self, id: EnvelopeId) {
        self.for_newer.insert(id);
    }

    /// Whether `id` has a record that only a newer build can read: then it is neither to be attempted nor to be acknowledged.
    pub fn is_for_newer(&self, id: &EnvelopeId) -> bool {
        self.for_newer.contains(id)
    }

    /// The settle of `id` has gone through all its steps. One that was finished twice is kept from the last time on.
    pub fn finished(&mut self, id: EnvelopeId, now: Timestamp) {
        let ended = match self.unfinished.remove(&id) {
            Some(settled) => Some(matches!(settled.next_move(), Move::Finished)),
            None => self.ended(&id),
        };
        let Some(ended) = ended else { return };
        if self.current.is_empty() {
            self.since = now;
        }
        self.last = self.last.max(now);
        self.current.insert(id, ended);
    }

    /// The settle of `id` has made its copy, and asks for the acknowledgement until it is confirmed.
    pub fn copied(&mut self, id: EnvelopeId) {
        if let Some(settled) = self.unfinished.get_mut(&id) {
            *settled = Settled::Copied(settled.next_move().clone());
        }
    }

    /// Everything that was in READY when the shard was taken has been delivered to us at least once, so what was replayed
    /// and has not come will not come: it is forgotten with what is finished now. Should it come all the same, it is copied (its id
    /// shows a second copy) rather than only acknowledged. Goes with [`super::SettledThrough::caught_up`].
    pub fn caught_up(&mut self, now: Timestamp) {
        self.caught_up = Some(now);
    }

    /// What to do with an envelope that has just been pulled: `None` if it has no record and is to be attempted, else the
    /// rest of its settle. A repeat of a finished hop makes no second copy.
    pub fn repeat(&mut self, id: EnvelopeId, body: BodyState) -> Option<Settle> {
        let ended = match self.unfinished.get_mut(&id) {
            Some(Settled::Copied(next)) => matches!(next, Move::Finished),
            Some(settled) => {
                let next = settled.next_move().clone();
                *settled = Settled::Recorded(next.clone());
                return Some(Settle::again(id, body, next));
            }
            None => self.ended(&id)?,
        };
        let body = match ended {
            true => body,
            // The body went on with the copy: whatever the repeat refers to must stay.
            false => BodyState::Stored { shared: true },
        };
        Some(Settle::acknowledge(id, body, Move::Finished))
    }

    /// Whether `id` has its record.
    pub fn contains(&self, id: &EnvelopeId) -> bool {
        self.unfinished.contains_key(id) || self.ended(id).is_some()
    }

    /// How many hops are remembered; one that was finished twice may count twice.
    pub fn len(&self) -> usize {
        self.unfinished.len() + self.current.len() + self.spans.iter().map(|span| span.hops.len()).sum::<usize>()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what has been finished for ten minutes and a little. To be called every few seconds.
    pub fn sweep(&mut self, now: Timestamp) {
        if !self.current.is_empty() && now.since(self.since) >= SPAN {
            let mut hops: Box<[(EnvelopeId, bool)]> = std::mem::take(&mut self.current).into_iter().collect();
            hops.sort_unstable_by_key(|(id, _)| *id);
            self.spans.push_back(Span { hops, last: self.last });
        }
        while self.spans.front().is_some_and(|span| now.since(span.last) >= KEPT) {
            self.spans.pop_front();
        }
        if self.caught_up.take_if(|at| now.since(*at) >= KEPT).is_some() {
            self.unfinished.retain(|_, settled| !matches!(settled, Settled::Replayed(_)));
        }
        // What was replayed at once is not there for long.
        if self.unfinished.len() < self.unfinished.capacity() / 4 {
            self.unfinished.shrink_to(self.unfinished.capacity() / 2);
        }
    }

    /// Whether the part ended with this hop, if its settle is finished.
    fn ended(&self, id: &EnvelopeId) -> Option<bool> {
        self.current.get(id).copied().or_else(|| self.spans.iter().rev().find_map(|span| span.get(id)))
    }
}

#[cfg(test)]
mod tests {
    use postrider_model::{MessageId, Tier, WaitReason};

    use super::super::SettleStep;
    use super::*;

    fn id(n: u8) -> EnvelopeId {
        EnvelopeId { message: MessageId::from_bytes([n; 16]), part: 0, hop: 0 }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn tier() -> Move {
        Move::Tier {
            tier: Tier::M1,
            reason: WaitReason::Overflow,
            until: at(60),
            attempt: 0,
            pending: vec![0],
            last_reply: None,
        }
    }

    const OWN: BodyState = BodyState::Stored { shared: false };

    #[track_caller]
    fn check_repeat(set: &mut DoneSet, body: BodyState, expected: &[SettleStep]) {
        let mut settle = set.repeat(id(1), body).unwrap();
        let mut steps = Vec::new();
        while settle.step() != SettleStep::Finished {
            steps.push(settle.step());
            settle.done();
        }
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_hop_without_a_record_is_to_be_attempted() {
        assert_eq!(DoneSet::new().repeat(id(1), OWN), None);
    }

    #[test]
    fn a_hop_with_a_record_gets_the_rest_of_its_settle() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        check_repeat(&mut set, OWN, &[SettleStep::CopyToTier(Tier::M1), SettleStep::AckOld]);
    }

    #[test]
    fn a_repeat_of_a_finished_hop_makes_no_second_copy_and_deletes_no_body_that_went_on() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.finished(id(1), at(0));
        check_repeat(&mut set, OWN, &[SettleStep::AckOld]);
    }

    #[test]
    fn a_hop_whose_acknowledgement_is_not_confirmed_is_only_acknowledged_however_late_it_comes() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.copied(id(1));
        set.sweep(at(3_600));
        check_repeat(&mut set, OWN, &[SettleStep::AckOld]);
        set.finished(id(1), at(3_600));
        set.sweep(at(3_600));
        check_repeat(&mut set, OWN, &[SettleStep::AckOld]);
    }

    #[test]
    fn what_was_replayed_and_comes_late_is_copied_and_forgotten_after_ten_minutes() {
        let mut set = DoneSet::new();
        set.replayed(id(1), tier());
        set.replayed(id(2), tier());
        set.caught_up(at(0));
        set.sweep(at(599));
        check_repeat(&mut set, OWN, &[SettleStep::CopyToTier(Tier::M1), SettleStep::AckOld]);
        set.finished(id(1), at(599));
        set.sweep(at(600));
        assert!(set.contains(&id(1)) && !set.contains(&id(2)));
    }

    #[test]
    fn a_repeat_of_a_finished_part_deletes_its_body() {
        let mut set = DoneSet::new();
        set.recorded(id(1), Move::Finished);
        set.finished(id(1), at(0));
        check_repeat(&mut set, OWN, &[SettleStep::AckOld, SettleStep::DeleteBody]);
    }

    #[test]
    fn finished_hops_are_forgotten_a_minute_after_ten_at_the_latest() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.recorded(id(2), tier());
        set.finished(id(1), at(0));
        set.finished(id(2), at(59));
        for now in (0..=655).step_by(5) {
            set.sweep(at(now));
            assert!(set.contains(&id(1)) && set.contains(&id(2)), "after {now} s");
        }
        set.sweep(at(660));
        assert!(set.is_empty());
    }

    #[test]
    fn what_was_finished_is_known_among_many_others_in_whichever_minute() {
        let mut set = DoneSet::new();
        for n in 0..200 {
            set.recorded(id(n), if n % 2 == 0 { Move::Finished } else { tier() });
            set.finished(id(n), at(u64::from(n)));
            set.sweep(at(u64::from(n)));
        }
        for n in 0..=255 {
            let expected = match n {
                200.. => None,
                _ if n % 2 == 0 => Some(true),
                _ => Some(false),
            };
            assert_eq!(set.ended(&id(n)), expected, "{n}");
        }
        assert_eq!((set.len(), set.spans.len()), (200, 3));
    }

    #[test]
    fn a_hop_that_was_finished_again_is_kept_from_then_on() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.finished(id(1), at(0));
        set.sweep(at(60));
        set.finished(id(1), at(500));
        set.sweep(at(600));
        assert!(set.contains(&id(1)));
        set.sweep(at(1100));
        assert!(set.is_empty());
    }

    #[test]
    fn unfinished_hops_are_never_forgotten() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.replayed(id(2), tier());
        set.sweep(at(1_000_000));
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn what_was_replayed_and_never_came_is_forgotten_in_the_end() {
        let mut set = DoneSet::new();
        set.replayed(id(1), tier());
        set.caught_up(at(10));
        set.sweep(at(610));
        set.sweep(at(670));
        assert!(set.is_empty());
    }

    #[test]
    fn what_was_replayed_and_came_is_kept_until_it_is_finished() {
        let mut set = DoneSet::new();
        set.replayed(id(1), tier());
        check_repeat(&mut set, OWN, &[SettleStep::CopyToTier(Tier::M1), SettleStep::AckOld]);
        set.caught_up(at(10));
        set.sweep(at(10_000));
        assert!(set.contains(&id(1)));
    }

    #[test]
    fn replaying_a_record_again_changes_nothing() {
        let mut set = DoneSet::new();
        set.recorded(id(1), Move::Finished);
        set.finished(id(1), at(0));
        set.replayed(id(1), tier());
        check_repeat(&mut set, OWN, &[SettleStep::AckOld, SettleStep::DeleteBody]);
    }
}
