//! Settle: the four steps that end one stay of an envelope, each acknowledged by JetStream before the next begins. The
//! machine decides the order; it never publishes, and it never goes back.
//!
//! What a crash means, by the step that was being done (the envelope's old record is in READY until (c) is confirmed, so
//! it always comes again):
//!
//! | step | not stored yet | stored, but not known to be |
//! | --- | --- | --- |
//! | (a) `Record` | nothing happened: the envelope is attempted again, so what a server took just now it gets twice | the hop comes again, its record is found, (b) to (d) are done |
//! | (b) `SpillBody` | done again | the body is stored once more; the first copy is referenced by nothing and ages out |
//! | (b) `CopyToTier`, `CopyToReady`, `CopyToHold` | done again | done again under the same `Nats-Msg-Id`: dropped within the deduplication window, else a second copy lives |
//! | (b) `BuryDead` | done again | as a copy: at worst two dead letters |
//! | (c) `AckOld` | the old record comes again: (b) is repeated as above | nothing comes again; for a finished part the body stays behind and ages out |
//! | (d) `DeleteBody` | the body ages out | nothing |

mod done_set;
pub use done_set::DoneSet;

mod settled_through;
pub use settled_through::{Flush, SettledThrough};

#[cfg(test)]
mod crash_tests;

use postrider_model::{Body, EnvelopeId, EnvelopeState, Move, Record, Tier};

/// Where the body of the envelope's old record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    /// In the record itself.
    Inline,
    /// In a BODY stream; `shared` with other parts or not.
    Stored {
        /// Whether other parts use it too.
        shared: bool,
    },
}

impl From<&Body> for BodyState {
    fn from(body: &Body) -> Self {
        match body {
            Body::Inline { .. } => Self::Inline,
            Body::Stored(stored) => Self::Stored { shared: stored.shared },
        }
    }
}

/// What a settle needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlePlan {
    /// The stay that ends.
    pub id: EnvelopeId,
    /// The record to write; `None` if it is known to be in EVENTS.
    pub record: Option<Record>,
    /// Where the body is now.
    pub body: BodyState,
    /// The next move; the same as the record's.
    pub next: Move,
}

/// The next thing to do. Every one but `Finished` is done when JetStream has acknowledged it; then call [`Settle::done`].
/// After a failure do the same one again, or drop the machine: the envelope comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleStep {
    /// (a) Append the record ([`Settle::record`]) to EVENTS.
    Record,
    /// (b) Store the inline body in BODY; the copies that follow refer to it.
    SpillBody,
    /// (b) Publish the moved envelope ([`moved_state`]) to this tier, with its new id as `Nats-Msg-Id`.
    CopyToTier(Tier),
    /// (b) Publish the moved envelope to READY under its new site.
    CopyToReady,
    /// (b) Publish the moved envelope to HOLD.
    CopyToHold,
    /// (b) Publish the old record as it is to the dead letters.
    BuryDead,
    /// (c) Ack the old record and wait for the confirmation.
    AckOld,
    /// (d) Delete the body: it is this part's own and the part is finished.
    DeleteBody,
    /// Nothing is left to do.
    Finished,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    plan: SettlePlan,
    step: SettleStep,
}

impl Settle {
    /// Begins a settle: at (a), or at (b) if the plan has no record because it is in EVENTS already.
    pub fn new(plan: SettlePlan) -> Self {
        let step = if plan.record.is_some() { SettleStep::Record } else { after_record(&plan) };
        Self { plan, step }
    }

    /// For a hop that came again and has its record: (b) to (d) only, from the recorded move.
    pub fn again(id: EnvelopeId, body: BodyState, recorded: Move) -> Self {
        Self::new(SettlePlan { id, record: None, body, next: recorded })
    }

    /// For a hop that came again although (a) and (b) are known to be done: (c) and, for a finished part, (d).
    pub fn acknowledge(id: EnvelopeId, body: BodyState, recorded: Move) -> Self {
        Self { plan: SettlePlan { id, record: None, body, next: recorded }, step: SettleStep::AckOld }
    }

    /// The next thing to do.
    pub fn step(&self) -> SettleStep {
        self.step
    }

    /// The present step is acknowledged.
    pub fn done(&mut self) {
        self.step = match self.step {
            SettleStep::Record => after_record(&self.plan),
            SettleStep::SpillBody => copy(&self.plan.next),
            SettleStep::CopyToTier(_) | SettleStep::CopyToReady | SettleStep::CopyToHold | SettleStep::BuryDead => {
                SettleStep::AckOld
            }
            SettleStep::AckOld => after_ack(&self.plan),
            SettleStep::DeleteBody | SettleStep::Finished => SettleStep::Finished,
        };
    }

    /// The stay that ends.
    pub fn id(&self) -> EnvelopeId {
        self.plan.id
    }

    /// The next move.
    pub fn next_move(&self) -> &Move {
        &self.plan.next
    }

    /// The record of (a); `None` when it is in EVENTS already.
    pub fn record(&self) -> Option<&Record> {
        self.plan.record.as_ref()
    }
}

fn after_record(plan: &SettlePlan) -> SettleStep {
    match (&plan.next, plan.body) {
        (Move::Tier { .. } | Move::Site { .. } | Move::Hold { .. }, BodyState::Inline) => SettleStep::SpillBody,
        (next, _) => copy(next),
    }
}

fn copy(next: &Move) -> SettleStep {
    match next {
        Move::Finished => SettleStep::AckOld,
        Move::Tier { tier, .. } => SettleStep::CopyToTier(*tier),
        Move::Site { .. } => SettleStep::CopyToReady,
        Move::Hold { .. } => SettleStep::CopyToHold,
        Move::Dead { .. } => SettleStep::BuryDead,
    }
}

fn after_ack(plan: &SettlePlan) -> SettleStep {
    match (&plan.next, plan.body) {
        (Move::Finished, BodyState::Stored { shared: false }) => SettleStep::DeleteBody,
        (Move::Finished | Move::Tier { .. } | Move::Site { .. } | Move::Hold { .. } | Move::Dead { .. }, _) => {
            SettleStep::Finished
        }
    }
}

/// The mutable state of the moved envelope, made from the old one and the move alone, so that a repeat makes the same.
/// `None` where nothing moves on: finished and dead.
pub fn moved_state(old: &EnvelopeState, next: &Move) -> Option<EnvelopeState> {
    let hop = old.hop.saturating_add(1);
    match next {
        Move::Finished | Move::Dead { .. } => None,
        Move::Tier { attempt, pending, last_reply, .. } => Some(EnvelopeState {
            hop,
            attempt: *attempt,
            site: old.site.clone(),
            slice: old.slice,
            pending: pending.clone(),
            last_reply: last_reply.clone(),
        }),
        Move::Site { site, slice } => Some(EnvelopeState { hop, site: site.clone(), slice: *slice, ..old.clone() }),
        Move::Hold { .. } => Some(EnvelopeState { hop, ..old.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use postrider_model::{MessageId, Reply, Timestamp, WaitReason};

    use super::*;

    fn id() -> EnvelopeId {
        EnvelopeId { message: MessageId::from_bytes([7; 16]), part: 0, hop: 3 }
    }

    fn tier() -> Move {
        Move::Tier {
            tier: Tier::M5,
            reason: WaitReason::Retry,
            until: Timestamp::from_millis(5),
            attempt: 2,
            pending: vec![1],
            last_reply: Some(Reply::new(451, None, "later")),
        }
    }

    fn site() -> Move {
        Move::Site { site: "google".parse().unwrap(), slice: 3 }
    }

    fn hold() -> Move {
        Move::Hold { rule: "hold-1".parse().unwrap() }
    }

    fn dead() -> Move {
        Move::Dead { reason: "body-lost".into() }
    }

    const OWN: BodyState = BodyState::Stored { shared: false };
    const SHARED: BodyState = BodyState::Stored { shared: true };

    #[track_caller]
    fn check(next: Move, body: BodyState, expected: &[SettleStep]) {
        let mut settle = Settle::again(id(), body, next);
        let mut steps = Vec::new();
        while settle.step() != SettleStep::Finished {
            steps.push(settle.step());
            settle.done();
        }
        assert_eq!(steps, expected);
    }

    #[test]
    fn an_inline_body_is_spilled_on_its_first_move() {
        check(
            tier(),
            BodyState::Inline,
            &[SettleStep::SpillBody, SettleStep::CopyToTier(Tier::M5), SettleStep::AckOld],
        );
        check(site(), BodyState::Inline, &[SettleStep::SpillBody, SettleStep::CopyToReady, SettleStep::AckOld]);
        check(hold(), BodyState::Inline, &[SettleStep::SpillBody, SettleStep::CopyToHold, SettleStep::AckOld]);
    }

    #[test]
    fn a_stored_body_stays_where_it_is_while_its_envelope_moves() {
        check(tier(), OWN, &[SettleStep::CopyToTier(Tier::M5), SettleStep::AckOld]);
        check(site(), SHARED, &[SettleStep::CopyToReady, SettleStep::AckOld]);
        check(hold(), OWN, &[SettleStep::CopyToHold, SettleStep::AckOld]);
    }

    #[test]
    fn a_finished_part_deletes_its_own_body_and_no_other() {
        check(Move::Finished, OWN, &[SettleStep::AckOld, SettleStep::DeleteBody]);
        check(Move::Finished, SHARED, &[SettleStep::AckOld]);
        check(Move::Finished, BodyState::Inline, &[SettleStep::AckOld]);
    }

    #[test]
    fn a_dead_envelope_is_buried_with_its_body() {
        check(dead(), BodyState::Inline, &[SettleStep::BuryDead, SettleStep::AckOld]);
        check(dead(), OWN, &[SettleStep::BuryDead, SettleStep::AckOld]);
    }

    #[test]
    fn a_hop_whose_copy_is_known_to_be_made_is_only_acknowledged() {
        let mut settle = Settle::acknowledge(id(), BodyState::Inline, tier());
        assert_eq!(settle.step(), SettleStep::AckOld);
        settle.done();
        assert_eq!(settle.step(), SettleStep::Finished);
    }

    #[test]
    fn a_failed_step_is_still_the_next_one() {
        let settle = Settle::again(id(), OWN, tier());
        assert_eq!(settle.step(), settle.step());
    }

    fn state() -> EnvelopeState {
        EnvelopeState {
            hop: 3,
            attempt: 1,
            site: "example.net".parse().unwrap(),
            slice: 0,
            pending: vec![0, 1],
            last_reply: None,
        }
    }

    #[test]
    fn a_move_to_a_tier_takes_attempt_and_recipients_from_the_record() {
        let moved = moved_state(&state(), &tier()).unwrap();
        assert_eq!((moved.hop, moved.attempt, moved.pending), (4, 2, vec![1]));
        assert_eq!(moved.last_reply.map(|reply| reply.code), Some(451));
        assert_eq!((moved.site.as_str(), moved.slice), ("example.net", 0));
    }

    #[test]
    fn a_move_to_another_site_changes_nothing_else() {
        let moved = moved_state(&state(), &site()).unwrap();
        assert_eq!(moved, EnvelopeState { hop: 4, site: "google".parse().unwrap(), slice: 3, ..state() });
        assert_eq!(moved_state(&state(), &hold()), Some(EnvelopeState { hop: 4, ..state() }));
    }

    #[test]
    fn what_is_finished_or_dead_moves_no_more() {
        assert_eq!(moved_state(&state(), &Move::Finished), None);
        assert_eq!(moved_state(&state(), &dead()), None);
    }
}
