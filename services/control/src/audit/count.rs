//! What the records of the journal come to: each recipient counted once as accepted and once as ended, although records may
//! repeat. Pure.

use std::collections::HashSet;

use postrider_model::{MessageId, Outcome, Record};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Hours since 1970.
pub(crate) type Hour = u64;

/// The hour in which a message was accepted.
pub(crate) fn hour_of(message: &MessageId) -> Hour {
    message.timestamp().as_secs() / 3600
}

/// Names a part. Kept in buckets: never changes.
pub(crate) fn part_hash(message: &MessageId, part: u32) -> u64 {
    let mut bytes = [0u8; 20];
    bytes[..16].copy_from_slice(message.as_bytes());
    bytes[16..].copy_from_slice(&part.to_be_bytes());
    xxh3_64(&bytes)
}

/// Names a recipient of a part. Kept in buckets: never changes.
pub(crate) fn recipient_hash(part: u64, index: u32) -> u64 {
    xxh3_64_with_seed(&index.to_be_bytes(), part)
}

/// What a record changes for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) index: u32,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Accepted,
    Ended(Outcome),
    /// Put back from the dead letters: the end that it had is none.
    Reopened,
}

/// How many names a generation remembers.
const GENERATION: usize = 1_000_000;

/// Tells repeats. A record repeats soon after the first (a flush that was tried again, a takeover), counted in records: so
/// the last one to two million names of what has been settled are kept. A part may be noted as accepted again for as long
/// as it stays at hop 0, however long that is: so those are kept until their first settle.
#[derive(Default)]
pub(crate) struct Memory {
    taken: HashSet<u64>,
    recent: HashSet<u64>,
    older: HashSet<u64>,
}

impl Memory {
    /// What a record changes; nothing if it was counted before.
    pub(crate) fn take(&mut self, record: &Record) -> Vec<Change> {
        let part = part_hash(&record.id.message, record.id.part);
        if record.outcomes.iter().any(|outcome| outcome.outcome == Outcome::Requeued) {
            return self.reopen(part, record);
        }
        if record.next.is_none() {
            if self.knows(part) || !self.taken.insert(part) {
                return Vec::new();
            }
            let accepted = record.outcomes.iter().filter(|outcome| outcome.outcome == Outcome::Accepted);
            return accepted.map(|outcome| Change { index: outcome.index, what: What::Accepted }).collect();
        }
        self.taken.remove(&part);
        self.remember(part);
        let ended = record.outcomes.iter().filter(|outcome| outcome.outcome.is_terminal());
        let mut changes = Vec::new();
        for outcome in ended {
            let name = recipient_hash(part, outcome.index);
            if !self.knows(name) {
                self.remember(name);
                changes.push(Change { index: outcome.index, what: What::Ended(outcome.outcome) });
            }
        }
        changes
    }

    fn reopen(&mut self, part: u64, record: &Record) -> Vec<Change> {
        let mut changes = Vec::new();
        for outcome in &record.outcomes {
            let (name, times) = (recipient_hash(part, outcome.index), u64::from(record.id.hop));
            // Each hop is begun once.
            let again = xxh3_64_with_seed(&times.to_be_bytes(), name);
            if !self.knows(again) {
                self.remember(again);
                self.recent.remove(&name);
                self.older.remove(&name);
                changes.push(Change { index: outcome.index, what: What::Reopened });
            }
        }
        changes
    }

    /// Whether a part was recorded as accepted and nothing else has been recorded of it.
    pub(crate) fn is_taken(&self, part: u64) -> bool {
        self.taken.contains(&part)
    }

    fn knows(&self, name: u64) -> bool {
        self.recent.contains(&name) || self.older.contains(&name)
    }

    fn remember(&mut self, name: u64) {
        if self.recent.len() >= GENERATION {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(name);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use postrider_model::{Class, EnvelopeId, Move, RecipientOutcome, ReversePath, Tier, Timestamp, WaitReason};

    use super::*;

    pub(crate) const AT: Timestamp = Timestamp::from_millis(1_763_786_400_123);

    /// A record about the first `outcomes.len()` recipients of the `n`th message.
    pub(crate) fn record(n: u8, hop: u32, outcomes: &[Outcome], next: Option<Move>) -> Record {
        let outcome = |(index, outcome): (usize, &Outcome)| RecipientOutcome {
            index: u32::try_from(index).unwrap(),
            recipient: "a@example.net".parse().unwrap(),
            outcome: *outcome,
            reply: None,
        };
        Record {
            id: EnvelopeId { message: MessageId::new(AT, [n; 10]), part: 0, hop },
            at: AT,
            shard: "b00".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            class: Class::Bulk,
            campaign: None,
            pool: None,
            site: "example.net".parse().unwrap(),
            sender: ReversePath::Null,
            header_message_id: String::new(),
            arrival: AT,
            size_bytes: 1,
            body: None,
            metadata: Vec::new(),
            attempt: None,
            outcomes: outcomes.iter().enumerate().map(outcome).collect(),
            next,
        }
    }

    pub(crate) fn retry(pending: &[u32]) -> Option<Move> {
        let (tier, reason, pending) = (Tier::M1, WaitReason::Retry, pending.to_vec());
        Some(Move::Tier { tier, reason, until: AT, attempt: 1, pending, last_reply: None })
    }

    #[test]
    fn each_recipient_is_accepted_once_and_ends_once() {
        use Outcome::{Accepted, Deferred, Delivered};
        let mut memory = Memory::default();
        let accepted = record(1, 0, &[Accepted, Accepted], None);
        let deferred = record(1, 0, &[Delivered, Deferred], retry(&[1]));
        assert_eq!(memory.take(&accepted).len(), 2);
        // A takeover notes it again.
        assert!(memory.take(&accepted).is_empty());
        assert_eq!(memory.take(&deferred), [Change { index: 0, what: What::Ended(Delivered) }]);
        // A flush that was stored twice.
        assert!(memory.take(&accepted).is_empty());
        assert!(memory.take(&deferred).is_empty());
    }

    #[test]
    fn what_is_put_back_from_the_dead_letters_is_open_again_and_may_end_again() {
        let mut memory = Memory::default();
        let dead = Some(Move::Dead { reason: "body-lost".into() });
        memory.take(&record(1, 0, &[Outcome::Accepted], None));
        assert_eq!(memory.take(&record(1, 0, &[Outcome::Dead], dead)).len(), 1);
        let requeued = record(1, 1, &[Outcome::Requeued], None);
        assert_eq!(memory.take(&requeued), [Change { index: 0, what: What::Reopened }]);
        assert!(memory.take(&requeued).is_empty());
        let delivered = record(1, 1, &[Outcome::Delivered], Some(Move::Finished));
        assert_eq!(memory.take(&delivered).len(), 1);
    }

    #[test]
    fn a_part_is_known_as_taken_until_it_is_settled() {
        let mut memory = Memory::default();
        let accepted = record(1, 0, &[Outcome::Accepted], None);
        let part = part_hash(&accepted.id.message, 0);
        memory.take(&accepted);
        assert!(memory.is_taken(part));
        memory.take(&record(1, 0, &[Outcome::Deferred], retry(&[0])));
        assert!(!memory.is_taken(part));
    }

    #[test]
    fn hashes_that_lie_in_buckets_do_not_change() {
        let message = MessageId::from_bytes([7; 16]);
        assert_eq!(part_hash(&message, 3), 13_283_609_821_150_914_788);
        assert_eq!(recipient_hash(1, 2), 11_039_783_793_655_371_584);
    }
}
