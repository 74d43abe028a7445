//! What the shell tells the dispatcher.

use postrider_model::{Reply, ShardId, SiteName, TenantId, Timestamp, WaitReason};

use super::{Conversation, Entry, RequestId, Ticket};
use crate::limits::{Grant, Permit};
use crate::rules::Order;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The shard is ours; pulling may begin.
    ShardTaken(ShardId),
    /// The shard is to be given back: everything not begun comes back as [`Action::HandBack`](super::Action::HandBack), the
    /// rest ends as usual. Done when [`Dispatcher::held`](super::Dispatcher::held) is 0; say `ShardLost` then.
    ShardReleasing(ShardId),
    /// The shard is no longer ours: all of it is forgotten at once. Conversations that carry something of it are closed.
    ShardLost(ShardId),
    /// So many envelopes of the shard are in READY and have not been pulled, as of the last pull.
    Pending {
        /// The shard.
        shard: ShardId,
        /// How many.
        count: u64,
    },
    /// So much of a shard's mail for a site lies in tiers, by tenant and tier: an answer to
    /// [`Dispatcher::jammed_sites`](super::Dispatcher::jammed_sites).
    Deep {
        /// The shard.
        shard: ShardId,
        /// The site.
        site: SiteName,
        /// How much, in the order of [`Tier::ALL`](postrider_model::Tier::ALL).
        depths: Vec<(TenantId, [u64; 5])>,
    },
    /// An envelope was pulled. One whose id is already held comes back by `HandBack`, as one of a shard that is not taken.
    Arrived(Entry),
    /// An envelope was pulled that an operator has ordered something about.
    ArrivedUnder {
        /// As it was pulled.
        entry: Entry,
        /// What is to be done with it.
        order: Order,
    },
    /// Operators have ordered something about envelopes that are held: all that is known at this moment, in one fact. What is in a
    /// conversation or being settled is let be: it is for the shell to say it again when the envelope comes again.
    Ordered(Vec<(Ticket, Order)>),
    /// Yes, to an `Acquire` or a `Renew`.
    Granted {
        /// Which.
        request: RequestId,
        /// The permit.
        permit: Permit,
    },
    /// Not now, to an `Acquire` or a `Renew`. Also for an owner that does not answer in time ([`Grant::unanswered`]). Every request needs exactly one answer.
    Waiting {
        /// Which.
        request: RequestId,
        /// Ask again then.
        until: Timestamp,
        /// Why.
        reason: WaitReason,
    },
    /// The conversation is greeted, or has ended a message (after its `Attempted`), and may transmit.
    Ready(Conversation),
    /// A message was tried. Comes before the conversation's `Ready` or `ConversationEnded`. The answer is a
    /// [`Settle`](super::Action::Settle); but a message that found its reused connection dead before its end of data is
    /// tried again, once, and that is no attempt.
    Attempted {
        /// The envelope.
        ticket: Ticket,
        /// Where; `None` if it came to no conversation.
        conversation: Option<Conversation>,
        /// What became of each recipient that was tried.
        results: Vec<(u32, AttemptResult)>,
    },
    /// The connection is gone, for whatever reason, also after a `Close`. Nothing was sent of a ticket that was transmitted
    /// and has had no `Attempted`: once something was, an `Attempted` must come before this.
    ConversationEnded {
        /// Which.
        conversation: Conversation,
        /// What went wrong; `None` after a `Close` and when an idle connection was closed in good order.
        failure: Option<Failure>,
    },
    /// The shell found that there is nobody to talk to (null MX, no such domain, no answer from DNS), before any
    /// conversation was opened for the envelope or instead of it.
    Unresolvable {
        /// The envelope.
        ticket: Ticket,
        /// For good (no such domain, null MX), or for now.
        permanent: bool,
        /// The reply made up for it, such as 556 5.1.10.
        reply: Reply,
    },
    /// A `Settle` waits for a stream that takes nothing; the body is in memory no more.
    Spilled(Ticket),
    /// A `Settle` is done: the envelope leaves the index.
    Settled(Ticket),
    /// A `ReadBody` is done: the shell holds the body. Repeat it until it succeeds, or say `BodyMissing`.
    BodyRead {
        /// The envelope.
        ticket: Ticket,
        /// Bytes held.
        bytes: u64,
    },
    /// The body is gone for good (the stream's leader says so), or cannot be made a message of; nothing was sent. Never a reason to bounce: it goes to the dead letters.
    BodyMissing {
        /// The envelope.
        ticket: Ticket,
    },
    /// Time has passed.
    Tick,
}

impl Fact {
    /// The answer to an `Acquire` or a `Renew`.
    pub fn answered(request: RequestId, grant: Grant) -> Self {
        match grant {
            Grant::Granted(permit) => Self::Granted { request, permit },
            Grant::Wait { until, reason } => Self::Waiting { request, until, reason },
        }
    }
}

/// What a recipient met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Taken.
    Delivered(Reply),
    /// Refused, for now or for good as the reply says.
    Refused(Reply),
    /// The conversation broke off.
    Lost {
        /// How, for people.
        text: String,
        /// After the message was sent entirely: it may have been taken.
        after_end_of_data: bool,
    },
    /// Nothing was said to anybody: there is nobody to talk to, or the message cannot be signed.
    Unsent {
        /// For good (no such domain, null MX), or for now.
        permanent: bool,
        /// The reply made up for it, such as 556 5.1.10.
        reply: Reply,
    },
}

/// Why a conversation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose fault it is.
    pub scope: FailureScope,
    /// What the exchanger said, if it said something.
    pub reply: Option<Reply>,
    /// What happened, for people.
    pub text: String,
}

/// Whose fault a failure is, and so what is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureScope {
    /// The exchangers: refused, timed out, greeted with 4xx or 5xx.
    Exchange,
    /// The source address: not plumbed, its proxy is down.
    Source,
    /// This process: no file descriptors, a fault of ours.
    Ourselves,
}
