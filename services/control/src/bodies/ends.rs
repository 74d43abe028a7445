//! Which messages have a body that several parts share, and which of the parts have ended. A record that ends a part
//! ([`Move::Finished`](postrider_model::Move)) says that every recipient of it has a terminal outcome; a part among the dead
//! letters, in HOLD or in a tier has none. So when all parts have one, nobody needs the body any more. Pure.

use std::collections::BTreeMap;

use postrider_model::{BodyRef, MessageId, Record, Timestamp};

/// Messages of which some parts have ended and some have not: beyond that the oldest are forgotten, and their bodies age out.
/// About 100 bytes each, and an eighth of a byte a part.
const MOST_OPEN: usize = 500_000;

/// No message lives so long.
const LONGEST_LIFE: std::time::Duration = std::time::Duration::from_secs(9 * 86_400);

/// The parts of one message.
struct Parts {
    ended: Box<[u64]>,
    left: u32,
    /// When the latest of them ended, by the server's clock.
    last: Timestamp,
}

/// The messages that are not all ended, the oldest first.
#[derive(Default)]
pub(super) struct Ends {
    open: BTreeMap<MessageId, Parts>,
}

impl Ends {
    /// Takes in a record that was stored at that time. When all parts of its message have ended: the body, and when the last one
    /// did. The same record again is nothing new, as long as its message is not over.
    pub(super) fn see<'a>(&mut self, record: &'a Record, stored: Timestamp) -> Option<(&'a BodyRef, Timestamp)> {
        let body = record.body.as_ref().filter(|body| body.shared && record.id.part < body.parts)?;
        let message = record.id.message;
        let words = usize::try_from(body.parts.div_ceil(64)).ok()?;
        let parts = self.open.entry(message).or_insert_with(|| Parts {
            ended: vec![0; words].into(),
            left: body.parts,
            last: stored,
        });
        let word = parts.ended.get_mut(usize::try_from(record.id.part / 64).ok()?)?;
        let bit = 1 << (record.id.part % 64);
        if *word & bit == 0 {
            *word |= bit;
            parts.left = parts.left.saturating_sub(1);
            parts.last = parts.last.max(stored);
        }
        if parts.left == 0 {
            return self.open.remove(&message).map(|parts| (body, parts.last));
        }
        if self.open.len() > MOST_OPEN {
            self.open.pop_first();
        }
        None
    }

    /// Forgets messages whose bodies have aged out.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let oldest = now.before(LONGEST_LIFE);
        while let Some(first) = self.open.first_entry().filter(|first| first.key().timestamp() < oldest) {
            first.remove();
        }
    }

    /// Messages that are not over.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_model::{Move, Outcome};

    use super::*;
    use crate::audit::test_record;

    /// The end of a part of the first message, which has three.
    fn end(part: u32) -> Record {
        let body =
            BodyRef { stream: 1, sequences: vec![7, 8], length: 9, hash: 1, compressed: false, shared: true, parts: 3 };
        let mut record = test_record(1, 1, &[Outcome::Delivered], Some(Move::Finished));
        record.id.part = part;
        record.body = Some(body);
        record
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_763_786_400_000 + secs * 1_000)
    }

    #[test]
    fn a_body_is_free_when_every_part_has_ended_however_often_that_is_told() {
        let mut ends = Ends::default();
        for part in [0, 2, 0, 2, 2, 0] {
            assert!(ends.see(&end(part), at(part.into())).is_none());
        }
        assert_eq!(ends.open(), 1);
        let record = end(1);
        let free = ends.see(&record, at(1)).map(|(body, last)| (body.sequences.clone(), last));
        assert_eq!(free, Some((vec![7, 8], at(2))));
        assert_eq!(ends.open(), 0);
    }

    #[test]
    fn a_record_that_ends_no_part_counts_for_nothing() {
        let mut ends = Ends::default();
        let dead = Record { next: Some(Move::Dead { reason: "x".into() }), body: None, ..end(0) };
        let unknown = Record { body: end(0).body.map(|body| BodyRef { parts: 0, ..body }), ..end(0) };
        for record in [dead, unknown, end(3)] {
            assert!(ends.see(&record, at(0)).is_none());
        }
        assert_eq!(ends.open(), 0);
    }

    #[test]
    fn what_has_aged_out_is_forgotten() {
        let mut ends = Ends::default();
        let record = end(0);
        ends.see(&record, at(0));
        let began = record.id.message.timestamp();
        ends.forget(began.after(Duration::from_secs(8 * 86_400)));
        assert_eq!(ends.open(), 1);
        ends.forget(began.after(Duration::from_secs(10 * 86_400)));
        assert_eq!(ends.open(), 0);
    }
}
