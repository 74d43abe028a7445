//! The journal: what happened to an envelope in one hop, in one record that is never split. Public events (`delivered`,
//! `deferred`, ...) are read off it, one for each recipient.

use std::fmt;

use crate::keyword::keyword;
use crate::{
    BodyRef, Campaign, Class, EnvelopeId, Mailbox, PoolName, Reply, ReversePath, RuleId, ShardId, SiteName, TenantId,
    Tier, Timestamp,
};

/// One record of EVENTS. `accepted` records have no outcomes and no move; a settle has both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The envelope's stay that this is about.
    pub id: EnvelopeId,
    /// When it happened.
    pub at: Timestamp,
    /// The shard that recorded it.
    pub shard: ShardId,
    /// Whose mail it is.
    pub tenant: TenantId,
    /// Its class.
    pub class: Class,
    /// Its campaign.
    pub campaign: Option<Campaign>,
    /// Its pool.
    pub pool: Option<PoolName>,
    /// The site it was for.
    pub site: SiteName,
    /// The sender.
    pub sender: ReversePath,
    /// The text of the header `Message-ID`, without brackets.
    pub header_message_id: String,
    /// When the message was accepted.
    pub arrival: Timestamp,
    /// Bytes of the message.
    pub size_bytes: u64,
    /// The tenant's metadata.
    pub metadata: Vec<(String, String)>,
    /// The conversation, if there was one.
    pub attempt: Option<Attempt>,
    /// One entry for each recipient that this record says something about.
    pub outcomes: Vec<RecipientOutcome>,
    /// Where the envelope goes next; `None` in an `accepted` record, which moves nothing.
    pub next: Option<Move>,
    /// In the record that ends a part ([`Move::Finished`]) whose body others share: that body.
    pub body: Option<BodyRef>,
}

/// A conversation with an exchanger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// The local address it left from, or `default`.
    pub source: String,
    /// The exchanger's name, if one was reached or tried.
    pub exchanger: String,
    /// The exchanger's address and port.
    pub address: String,
    /// The TLS version and cipher suite, empty without TLS.
    pub tls: String,
    /// When it began.
    pub began: Timestamp,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientOutcome {
    /// Its position in the envelope.
    pub index: u32,
    /// Who it is.
    pub recipient: Mailbox,
    /// What became of it.
    pub outcome: Outcome,
    /// What was said, by the remote server or by us.
    pub reply: Option<Reply>,
}

/// What a recipient met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The message was made durable for this recipient.
    Accepted,
    /// An exchanger took it. Terminal.
    Delivered,
    /// Refused for now.
    Deferred,
    /// Moved to a tier or another site without a conversation.
    Moved,
    /// Refused for good. Terminal.
    Bounced,
    /// Too old. Terminal.
    Expired,
    /// Could not be decoded or read; kept among the dead letters. Terminal.
    Dead,
    /// An operator's rule keeps it in HOLD.
    Suspended,
    /// An operator's rule ended it without a word. Terminal.
    Deleted,
    /// An operator put it back from the dead letters: what was its end no longer is.
    Requeued,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Delivered,
        Self::Deferred,
        Self::Moved,
        Self::Bounced,
        Self::Expired,
        Self::Dead,
        Self::Suspended,
        Self::Deleted,
        Self::Requeued,
    ];

    /// The name of the event: `accepted delivered deferred moved bounced expired dead suspended deleted requeued`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Moved => "moved",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::Requeued => "requeued",
        }
    }

    /// Whether the recipient's story ends with it.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Delivered | Self::Bounced | Self::Expired | Self::Dead | Self::Deleted => true,
            Self::Accepted | Self::Deferred | Self::Moved | Self::Suspended | Self::Requeued => false,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The next move of an envelope, with all that is needed to make the moved envelope again from the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing is left to do.
    Finished,
    /// To a tier.
    Tier {
        /// Which one.
        tier: Tier,
        /// Why it waits there.
        reason: WaitReason,
        /// When its turn is expected.
        until: Timestamp,
        /// Conversations so far.
        attempt: u32,
        /// The recipients that remain.
        pending: Vec<u32>,
        /// What the last conversation ended with.
        last_reply: Option<Reply>,
    },
    /// Its exchangers have changed hands: back to READY under another site.
    Site {
        /// The new site.
        site: SiteName,
        /// The new slice.
        slice: u16,
    },
    /// To the dead letters.
    Dead {
        /// `body-lost` or another short token.
        reason: String,
    },
    /// To HOLD, where it stays as long as a rule says so.
    Hold {
        /// The rule that was met.
        rule: RuleId,
    },
}

/// Why an envelope waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitReason {
    /// In READY, not looked at yet: the shard's index is full or its owner is about to pull.
    Queued,
    /// The submitter said not before.
    NotBefore,
    /// The limit of connections of its path is reached.
    ConnectionLimit,
    /// The limit of messages per time of its path is reached.
    RateLimit,
    /// Its site refused or failed us lately, and is left alone for a while.
    SiteClosed,
    /// The address it would leave from cannot be used just now: a fault of our side.
    SourceUnavailable,
    /// Behind other mail for the same site.
    Behind,
    /// More mail for its site or shard than memory may hold.
    Overflow,
    /// The owner of a limit has not answered.
    LimitOwner,
    /// An exchanger said not now; the retry schedule decides.
    Retry,
    /// In a conversation.
    InFlight,
    /// In HOLD: an operator's rule keeps it.
    Held,
}

impl WaitReason {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Queued,
        Self::NotBefore,
        Self::ConnectionLimit,
        Self::RateLimit,
        Self::SiteClosed,
        Self::SourceUnavailable,
        Self::Behind,
        Self::Overflow,
        Self::LimitOwner,
        Self::Retry,
        Self::InFlight,
        Self::Held,
    ];

    /// A short name with dashes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::NotBefore => "not-before",
            Self::ConnectionLimit => "connection-limit",
            Self::RateLimit => "rate-limit",
            Self::SiteClosed => "site-closed",
            Self::SourceUnavailable => "source-unavailable",
            Self::Behind => "behind",
            Self::Overflow => "overflow",
            Self::LimitOwner => "limit-owner",
            Self::Retry => "retry",
            Self::InFlight => "in-flight",
            Self::Held => "held",
        }
    }

    /// Who can lift it, in words for an operator.
    pub const fn lifted_by(self) -> &'static str {
        match self {
            Self::Queued | Self::Overflow => "delivery, as soon as there is room; more delivery processes make room",
            Self::NotBefore => "the submitter's not-before time",
            Self::ConnectionLimit | Self::RateLimit => {
                "the limit of the path; an operator may raise it in [delivery.shaping]"
            }
            Self::SiteClosed => "the site's exchangers, or time",
            Self::SourceUnavailable => "the node that holds the source address; an operator if it stays",
            Self::Behind => "delivery, when the mail before it is sent",
            Self::LimitOwner => "the delivery process that owns the limit; it answers again once its shard is owned",
            Self::Retry => "the retry schedule, or the receiving site",
            Self::InFlight => "the conversation that is under way",
            Self::Held => "the operator who suspended it: `hold list`, `hold remove`",
        }
    }
}

keyword!(WaitReason, "reason", "is no reason to wait");
