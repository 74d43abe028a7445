//! What the dispatcher tells the shell to do.

use postrider_model::{Move, Outcome, Reply};

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

/// What an envelope's turn came to: the outcomes of its record, and its next move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether it counts as an attempt.
    pub attempted: bool,
    /// One for each pending recipient.
    pub outcomes: Vec<(u32, Outcome, Option<Reply>)>,
    /// Where it goes.
    pub next: Move,
}
