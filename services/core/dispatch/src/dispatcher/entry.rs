//! What the dispatcher knows of an envelope: what it needs for its decisions, and not a byte more.

use std::fmt;
use std::sync::Arc;

use postrider_model::{Class, EnvelopeId, ShardId, SiteName, TenantId, Timestamp};

use crate::limits::{Path, Source};

/// The shell's name for one envelope in the index. Never used twice in the life of a dispatcher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ticket {}", self.0)
    }
}

/// The dispatcher's name for one connection to an exchanger. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conversation(pub u64);

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conversation {}", self.0)
    }
}

/// The key of one list of exchangers. Within one (source, exchange) connections are reused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exchange(Arc<str>);

impl Exchange {
    /// An exchange from its key.
    pub fn new(key: &str) -> Self {
        Self(key.into())
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.0)
    }
}

/// An envelope as it arrives in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The shell's name for it.
    pub ticket: Ticket,
    /// Which stay of which part.
    pub id: EnvelopeId,
    /// The shard it was pulled from.
    pub shard: ShardId,
    /// Its class.
    pub class: Class,
    /// Whose it is.
    pub tenant: TenantId,
    /// The site it goes to.
    pub site: SiteName,
    /// The exchangers it goes to.
    pub exchange: Exchange,
    /// The address it leaves from.
    pub source: Source,
    /// Positions of the recipients that have no terminal outcome yet; not empty.
    pub pending: Vec<u32>,
    /// Bytes of the body, held or not.
    pub size_bytes: u64,
    /// Whether the shell holds the body in memory.
    pub body_held: bool,
    /// When the message was accepted.
    pub arrival: Timestamp,
    /// Not to be attempted before.
    pub not_before: Option<Timestamp>,
    /// Given up at.
    pub expiry: Timestamp,
    /// Conversations so far.
    pub attempt: u32,
}

impl Entry {
    /// Its path.
    pub fn path(&self) -> Path {
        Path { source: self.source.clone(), site: self.site.clone() }
    }

    /// What it counts for in fair queues and limits: its pending recipients, at least 1.
    pub fn cost(&self) -> u32 {
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX).max(1)
    }
}
