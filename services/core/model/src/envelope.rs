//! What travels for a part of a message.

use crate::{
    Campaign, Class, Domain, EnvelopeId, Hop, Mailbox, MessageId, PartNumber, PoolName, Reply, ReversePath, SiteName,
    TenantId, Timestamp,
};

/// An envelope: what is fixed at acceptance, and its small mutable [`EnvelopeState`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The message.
    pub message: MessageId,
    /// Which part of it.
    pub part: PartNumber,
    /// Whose it is.
    pub tenant: TenantId,
    /// Transactional or bulk.
    pub class: Class,
    /// The unit of statistics.
    pub campaign: Option<Campaign>,
    /// The pool it must leave from.
    pub pool: Option<PoolName>,
    /// Where failures are reported.
    pub sender: ReversePath,
    /// The recipients of this part, all at one site.
    pub recipients: Vec<Mailbox>,
    /// When the message was accepted.
    pub arrival: Timestamp,
    /// Not to be attempted before.
    pub not_before: Option<Timestamp>,
    /// Given up at.
    pub expiry: Timestamp,
    /// The text of the header `Message-ID`, without brackets; empty if there was none.
    pub header_message_id: String,
    /// The domain of the header From: whose DKIM key signs.
    pub from_domain: Option<Domain>,
    /// Bytes of the message as it was accepted.
    pub size_bytes: u64,
    /// The submitter said BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// The submitter said SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// The tenant's own words, copied into events; at most 1 KiB in all.
    pub metadata: Vec<(String, String)>,
    /// What changes from hop to hop.
    pub state: EnvelopeState,
}

/// The mutable part of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeState {
    /// Moves between streams so far.
    pub hop: Hop,
    /// Conversations so far.
    pub attempt: u32,
    /// The site it was last seen to belong to.
    pub site: SiteName,
    /// The slice of a giant site; 0 elsewhere.
    pub slice: u16,
    /// Positions in `recipients` that have no terminal outcome yet.
    pub pending: Vec<u32>,
    /// What the last conversation ended with.
    pub last_reply: Option<Reply>,
}

impl Envelope {
    /// The longest metadata, keys and values together.
    pub const METADATA_BYTES: usize = 1024;

    /// The id of this stay in a stream.
    pub fn id(&self) -> EnvelopeId {
        EnvelopeId { message: self.message, part: self.part, hop: self.state.hop }
    }

    /// The recipients that have no terminal outcome yet, with their positions.
    pub fn pending(&self) -> impl Iterator<Item = (u32, &Mailbox)> {
        self.state
            .pending
            .iter()
            .filter_map(|&index| usize::try_from(index).ok().and_then(|i| self.recipients.get(i)).map(|r| (index, r)))
    }
}

/// Where the bytes of the message are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the envelope's own record; `compressed` says zstd.
    Inline {
        /// The bytes as stored.
        bytes: bytes::Bytes,
        /// Whether they are a zstd frame.
        compressed: bool,
    },
    /// In a BODY stream.
    Stored(BodyRef),
}

/// A body in a BODY stream, found by sequence, never by subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRef {
    /// The number of the BODY stream.
    pub stream: u8,
    /// The sequences of its chunks, in order.
    pub sequences: Vec<u64>,
    /// Bytes as stored, all chunks together.
    pub length: u64,
    /// xxh3-64 of the bytes as stored.
    pub hash: u64,
    /// Whether the chunks together are a zstd frame.
    pub compressed: bool,
    /// Whether other parts use it too: then it is deleted when the last of them has ended, else with its part.
    pub shared: bool,
    /// How many parts of the message share it; 0: that is not known, and it ages out.
    pub parts: u32,
}
