//! What is settled already, so that a hop that comes again is recognised. Bounded by time, not by count: finished settles
//! are kept for ten minutes, unfinished ones until they are finished.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use postrider_model::{EnvelopeId, Move, Timestamp};

use super::{BodyState, Settle};

/// How long a finished settle is remembered.
pub const KEPT: Duration = Duration::from_secs(600);

/// What is known about a hop that has its record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Settled {
    /// Recorded; copy and ack are not known to be done.
    Recorded(Move),
    /// Read back from EVENTS by a new owner: whether copy and ack are done is not known, and it may never come again.
    Replayed(Move),
    /// All is done. What is kept of the move is whether the part ended with it, so that a repeat may delete its body.
    Finished { ended: bool, at: Timestamp },
}

/// The hops of one shard that have their record.
#[derive(Clone, Debug, Default)]
pub struct DoneSet {
    settled: HashMap<EnvelopeId, Settled>,
    finished: VecDeque<(Timestamp, EnvelopeId)>,
}

impl DoneSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The record of `id` is in EVENTS: from now on it is never attempted again.
    pub fn recorded(&mut self, id: EnvelopeId, next: Move) {
        self.settled.insert(id, Settled::Recorded(next));
    }

    /// A record read back while taking over. One that is known here already stays as it is.
    pub fn replayed(&mut self, id: EnvelopeId, next: Move) {
        self.settled.entry(id).or_insert(Settled::Replayed(next));
    }

    /// The settle of `id` has gone through all its steps.
    pub fn finished(&mut self, id: EnvelopeId, now: Timestamp) {
        if let Some(settled) = self.settled.get_mut(&id) {
            let ended = match settled {
                Settled::Recorded(next) | Settled::Replayed(next) => matches!(next, Move::Finished),
                Settled::Finished { ended, .. } => *ended,
            };
            *settled = Settled::Finished { ended, at: now };
            self.finished.push_back((now, id));
        }
    }

    /// Everything that was in READY when the shard was taken has been delivered to us at least once, so what was replayed
    /// and has not come will not come: it counts as finished from now on. Goes with [`super::SettledThrough::caught_up`].
    pub fn caught_up(&mut self, now: Timestamp) {
        let quiet: Vec<EnvelopeId> = self
            .settled
            .iter()
            .filter(|(_, settled)| matches!(settled, Settled::Replayed(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in quiet {
            self.finished(id, now);
        }
    }

    /// What to do with an envelope that has just been pulled: `None` if it has no record and is to be attempted, else the
    /// rest of its settle. A repeat of a finished hop makes no second copy.
    pub fn repeat(&mut self, id: EnvelopeId, body: BodyState) -> Option<Settle> {
        let settled = self.settled.get_mut(&id)?;
        match settled {
            Settled::Recorded(next) => Some(Settle::again(id, body, next.clone())),
            Settled::Replayed(next) => {
                let next = next.clone();
                *settled = Settled::Recorded(next.clone());
                Some(Settle::again(id, body, next))
            }
            Settled::Finished { ended: true, .. } => Some(Settle::acknowledge(id, body, Move::Finished)),
            // The body went on with the copy: whatever the repeat refers to must stay.
            Settled::Finished { ended: false, .. } => {
                Some(Settle::acknowledge(id, BodyState::Stored { shared: true }, Move::Finished))
            }
        }
    }

    /// Whether `id` has its record.
    pub fn contains(&self, id: &EnvelopeId) -> bool {
        self.settled.contains_key(id)
    }

    /// How many hops are remembered.
    pub fn len(&self) -> usize {
        self.settled.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty()
    }

    /// Forgets what has been finished for ten minutes.
    pub fn sweep(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.finished.front().copied() {
            if now.since(at) < KEPT {
                break;
            }
            self.finished.pop_front();
            // A hop that was finished twice is forgotten by its last time.
            if matches!(self.settled.get(&id), Some(Settled::Finished { at: last, .. }) if *last == at) {
                self.settled.remove(&id);
            }
        }
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
    fn a_repeat_of_a_finished_part_deletes_its_body() {
        let mut set = DoneSet::new();
        set.recorded(id(1), Move::Finished);
        set.finished(id(1), at(0));
        check_repeat(&mut set, OWN, &[SettleStep::AckOld, SettleStep::DeleteBody]);
    }

    #[test]
    fn finished_hops_are_forgotten_after_ten_minutes() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.finished(id(1), at(0));
        set.sweep(at(599));
        assert!(set.contains(&id(1)));
        set.sweep(at(600));
        assert!(set.is_empty());
    }

    #[test]
    fn a_hop_that_was_finished_again_is_kept_from_then_on() {
        let mut set = DoneSet::new();
        set.recorded(id(1), tier());
        set.finished(id(1), at(0));
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
