//! The splitter: turns one record of INTAKE into one envelope a part. It resolves nothing and decides nothing about the
//! parts, so that a repeat publishes the same under the same ids.

use std::ops::Range;

use postrider_model::{Body, Envelope, EnvelopeId, Hop, PartNumber};
use thiserror::Error;

/// How many parts are published side by side.
pub const WINDOW: usize = 100;

/// Why a record of INTAKE cannot be split: it goes to the dead letters.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SplitError {
    /// It has no parts.
    #[error("an intake record without parts")]
    Empty,
    /// A part belongs to another message, has another number than its position, or has moved before.
    #[error("part {0} of an intake record is not <message>:{0}:0")]
    WrongId(PartNumber),
    /// Several parts use one body that the first finished part would delete.
    #[error("part {0} of an intake record has a body that others use too but is not marked as shared")]
    BodyNotShared(PartNumber),
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitStep {
    /// Publish these parts to READY, each with its id as `Nats-Msg-Id`; done when every one has its PubAck.
    Publish(Range<usize>),
    /// Ack the record of INTAKE and wait for the confirmation.
    AckIntake,
    /// Nothing is left to do.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Publishing { next: usize },
    Acking,
    Finished,
}

/// The machine. A crash at any step brings the record of INTAKE again; parts that are published a second time are dropped
/// within the deduplication window by their ids, and later by the owner of their shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    parts: usize,
    state: State,
}

impl Split {
    /// Begins, if the parts are what a submission makes: numbered from 0 in their order, never moved, the body shared if
    /// there is more than one.
    ///
    /// # Errors
    /// A [`SplitError`] names the first part that is wrong.
    pub fn new<'a>(parts: impl IntoIterator<Item = (&'a Envelope, &'a Body)>) -> Result<Self, SplitError> {
        let parts: Vec<_> = parts.into_iter().collect();
        let message = parts.first().ok_or(SplitError::Empty)?.0.message;
        for (number, (envelope, body)) in (0..).zip(&parts) {
            if envelope.id() != (EnvelopeId { message, part: number, hop: Hop::MIN }) {
                return Err(SplitError::WrongId(number));
            }
            if parts.len() > 1 && matches!(body, Body::Stored(stored) if !stored.shared) {
                return Err(SplitError::BodyNotShared(number));
            }
        }
        Ok(Self { parts: parts.len(), state: State::Publishing { next: 0 } })
    }

    /// The next thing to do.
    pub fn step(&self) -> SplitStep {
        match self.state {
            State::Publishing { next } => SplitStep::Publish(next..self.window_end(next)),
            State::Acking => SplitStep::AckIntake,
            State::Finished => SplitStep::Finished,
        }
    }

    /// The present step is acknowledged.
    pub fn done(&mut self) {
        self.state = match self.state {
            State::Publishing { next } if self.window_end(next) < self.parts => {
                State::Publishing { next: self.window_end(next) }
            }
            State::Publishing { .. } => State::Acking,
            State::Acking | State::Finished => State::Finished,
        };
    }

    fn window_end(&self, next: usize) -> usize {
        next.saturating_add(WINDOW).min(self.parts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use postrider_model::{BodyRef, Class, EnvelopeState, MessageId, ReversePath, Timestamp};

    use super::*;

    fn envelope(part: u32) -> Envelope {
        Envelope {
            message: MessageId::from_bytes([7; 16]),
            part,
            tenant: "acme".parse().unwrap(),
            class: Class::Bulk,
            campaign: None,
            pool: None,
            sender: ReversePath::Null,
            recipients: vec![format!("r{part}@example.net").parse().unwrap()],
            arrival: Timestamp::from_millis(1),
            not_before: None,
            expiry: Timestamp::from_millis(2),
            header_message_id: String::new(),
            from_domain: None,
            size_bytes: 1,
            eight_bit: false,
            smtputf8: false,
            metadata: Vec::new(),
            state: EnvelopeState {
                hop: 0,
                attempt: 0,
                site: "example.net".parse().unwrap(),
                slice: 0,
                pending: vec![0],
                last_reply: None,
            },
        }
    }

    fn body(shared: bool) -> Body {
        Body::Stored(BodyRef { stream: 0, sequences: vec![1], length: 1, hash: 1, compressed: false, shared, parts: 2 })
    }

    fn split(parts: &[Envelope]) -> Result<Split, SplitError> {
        let body = body(true);
        Split::new(parts.iter().map(|part| (part, &body)))
    }

    /// READY with and without deduplication, and INTAKE with its one record.
    #[derive(Default)]
    struct Model {
        ready: BTreeSet<String>,
        published: usize,
        acked: bool,
    }

    impl Model {
        /// Runs the splitter and crashes before the publish with the number `crash_at`, counted from its start.
        fn run(&mut self, parts: &[Envelope], crash_at: usize) {
            let mut machine = split(parts).unwrap();
            let mut budget = crash_at;
            loop {
                match machine.step() {
                    SplitStep::Publish(range) => {
                        for part in &parts[range] {
                            if budget == 0 {
                                return;
                            }
                            budget -= 1;
                            self.published += 1;
                            self.ready.insert(part.id().to_string());
                        }
                    }
                    SplitStep::AckIntake if budget == 0 => return,
                    SplitStep::AckIntake => self.acked = true,
                    SplitStep::Finished => return,
                }
                machine.done();
            }
        }
    }

    #[test]
    fn a_crash_at_any_publish_and_a_repeat_leave_every_part_once() {
        let parts: Vec<Envelope> = (0..250).map(envelope).collect();
        let expected: BTreeSet<String> = parts.iter().map(|part| part.id().to_string()).collect();
        for crash_at in 0..=250 {
            let mut model = Model::default();
            model.run(&parts, crash_at);
            assert!(!model.acked, "acked before every part was published (crash at {crash_at})");
            model.run(&parts, usize::MAX);
            assert!(model.acked);
            assert_eq!(model.ready, expected);
            assert_eq!(model.published, 250 + crash_at);
        }
    }

    #[test]
    fn parts_are_published_in_windows() {
        let parts: Vec<Envelope> = (0..250).map(envelope).collect();
        let mut machine = split(&parts).unwrap();
        let mut steps = Vec::new();
        while machine.step() != SplitStep::Finished {
            steps.push(machine.step());
            machine.done();
        }
        assert_eq!(
            steps,
            [
                SplitStep::Publish(0..100),
                SplitStep::Publish(100..200),
                SplitStep::Publish(200..250),
                SplitStep::AckIntake
            ]
        );
    }

    #[test]
    fn the_id_of_a_part_is_message_part_and_hop_zero() {
        assert_eq!(envelope(3).id().to_string(), "07070707-0707-0707-0707-070707070707:3:0");
    }

    #[test]
    fn a_record_whose_parts_are_not_numbered_in_order_is_refused() {
        assert_eq!(split(&[]), Err(SplitError::Empty));
        assert_eq!(split(&[envelope(1)]), Err(SplitError::WrongId(0)));
        assert_eq!(split(&[envelope(0), envelope(0)]), Err(SplitError::WrongId(1)));
        let other = Envelope { message: MessageId::from_bytes([8; 16]), ..envelope(1) };
        assert_eq!(split(&[envelope(0), other]), Err(SplitError::WrongId(1)));
    }

    #[test]
    fn several_parts_must_share_their_body_openly() {
        let (parts, own) = ([envelope(0), envelope(1)], body(false));
        assert_eq!(Split::new(parts.iter().map(|part| (part, &own))), Err(SplitError::BodyNotShared(0)));
        assert!(Split::new([(&envelope(0), &own)]).is_ok());
    }
}
