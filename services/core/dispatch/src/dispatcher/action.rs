//! What the dispatcher tells the shell to do.

use postrider_model::{EnhancedCode, Move, Outcome, Reply};

use super::{Conversation, Exchange, Ticket};
use crate::limits::{Ask, Path, PermitId};

/// Names a question to the owner of a limit. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something to do. Each is independent of the others and may be done at once; facts answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the path's limit owner for a connection. Answer: `Granted` or `Waiting`.
    Acquire {
        /// To be repeated in the answer.
        request: RequestId,
        /// What to ask.
        ask: Ask,
    },
    /// Ask it to keep a connection and for more messages. Answer: `Granted` or `Waiting`.
    Renew {
        /// To be repeated in the answer.
        request: RequestId,
        /// The permit.
        permit: PermitId,
        /// Recipients at MAIL since the permit was acquired.
        used: u32,
        /// What to ask.
        ask: Ask,
    },
    /// Tell it that a connection is gone. No answer.
    Release {
        /// The permit.
        permit: PermitId,
        /// The path.
        path: Path,
        /// Recipients at MAIL since the permit was acquired.
        used: u32,
    },
    /// Connect and greet. Answer: `Ready` or `ConversationEnded`.
    Open {
        /// Its name from now on.
        conversation: Conversation,
        /// Source and site.
        path: Path,
        /// The exchangers to try, in their order.
        exchange: Exchange,
        /// The envelope it is opened for; another may be transmitted in the end.
        ticket: Ticket,
    },
    /// Send one message. Answer: `Attempted`, then `Ready` or `ConversationEnded`.
    Transmit {
        /// Over this connection.
        conversation: Conversation,
        /// This envelope; the shell holds its body.
        ticket: Ticket,
        /// To its first so many pending recipients: all of them, unless the path's whole limit is smaller.
        recipients: u32,
    },
    /// QUIT and close. Answer: `ConversationEnded`.
    Close(Conversation),
    /// Get the body into memory. Answer: `BodyRead` or `BodyMissing`.
    ReadBody(Ticket),
    /// Drop the body from memory; it will be read again when its turn comes near.
    DropBody(Ticket),
    /// Settle the envelope. Answer: `Settled`.
    Settle {
        /// The envelope.
        ticket: Ticket,
        /// How.
        plan: Plan,
    },
    /// Give the envelope back to its stream, unrecorded. No answer: it has left the index.
    HandBack(Ticket),
}

impl Action {
    /// The envelope that it is about and of no use without.
    pub(super) fn about(&self) -> Option<Ticket> {
        match self {
            Self::Transmit { ticket, .. }
            | Self::ReadBody(ticket)
            | Self::DropBody(ticket)
            | Self::Settle { ticket, .. }
            | Self::HandBack(ticket) => Some(*ticket),
            Self::Acquire { .. } | Self::Renew { .. } | Self::Release { .. } | Self::Open { .. } | Self::Close(_) => {
                None
            }
        }
    }
}

/// What an envelope's turn came to: the outcomes of its record, and its next move. The dispatcher does not keep what the last
/// conversation ended with; where that belongs, [`Plan::completed`] puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether it counts as an attempt.
    pub attempted: bool,
    /// One for each pending recipient.
    pub outcomes: Vec<(u32, Outcome, Option<Reply>)>,
    /// Where it goes.
    pub next: Move,
}

impl Plan {
    /// The plan with what the envelope's last conversation ended with, as its state has it: said to who has expired or goes on
    /// without having been tried, and kept for the next turn where this one brought no other.
    #[must_use]
    pub fn completed(mut self, last: Option<&Reply>) -> Self {
        for (_, outcome, reply) in &mut self.outcomes {
            match outcome {
                Outcome::Expired if reply.is_none() => *reply = Some(last.cloned().unwrap_or_else(too_old)),
                Outcome::Moved if self.attempted && reply.is_none() => *reply = last.cloned(),
                _ => {}
            }
        }
        if let Move::Tier { last_reply, .. } = &mut self.next
            && last_reply.is_none()
        {
            *last_reply = last.cloned();
        }
        self
    }
}

fn too_old() -> Reply {
    Reply::new(451, Some(EnhancedCode(4, 4, 7)), "not delivered in time")
}

#[cfg(test)]
mod tests {
    use postrider_model::{Tier, Timestamp, WaitReason};

    use super::*;

    fn reply(code: u16) -> Reply {
        Reply::new(code, None, "as you say")
    }

    fn tier(last_reply: Option<Reply>) -> Move {
        let until = Timestamp::from_millis(1);
        Move::Tier { tier: Tier::M1, reason: WaitReason::Retry, until, attempt: 1, pending: vec![1], last_reply }
    }

    #[test]
    fn who_has_expired_hears_what_was_said_last() {
        let plan = Plan { attempted: false, outcomes: vec![(0, Outcome::Expired, None)], next: Move::Finished };
        assert_eq!(plan.clone().completed(Some(&reply(452))).outcomes[0].2, Some(reply(452)));
        assert_eq!(plan.completed(None).outcomes[0].2, Some(too_old()));
    }

    #[test]
    fn what_goes_on_untried_keeps_its_last_reply() {
        let plan = Plan { attempted: false, outcomes: vec![(1, Outcome::Moved, None)], next: tier(None) };
        let completed = plan.completed(Some(&reply(452)));
        assert_eq!((&completed.outcomes[0].2, &completed.next), (&None, &tier(Some(reply(452)))));
    }

    #[test]
    fn what_was_said_now_stands() {
        let outcomes = vec![(0, Outcome::Deferred, Some(reply(421))), (1, Outcome::Moved, None)];
        let plan = Plan { attempted: true, outcomes, next: tier(Some(reply(421))) };
        let completed = plan.completed(Some(&reply(452)));
        assert_eq!(completed.next, tier(Some(reply(421))));
        assert_eq!((&completed.outcomes[0].2, &completed.outcomes[1].2), (&Some(reply(421)), &Some(reply(452))));
    }
}
