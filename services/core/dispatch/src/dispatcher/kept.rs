//! What is kept of an envelope in the index: an [`Entry`] without what its lane knows, in as few bytes as it takes. A process
//! holds some hundred thousand of them.

use std::ops::Deref;

use postrider_model::{Class, EnvelopeId, ShardId, SiteName, TenantId, Timestamp};

use super::{Entry, Ticket};

/// Positions of recipients: nearly always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Positions {
    One([u32; 1]),
    Many(Box<[u32]>),
}

impl From<Vec<u32>> for Positions {
    fn from(positions: Vec<u32>) -> Self {
        match <[u32; 1]>::try_from(positions) {
            Ok(one) => Self::One(one),
            Err(many) => Self::Many(many.into_boxed_slice()),
        }
    }
}

impl Deref for Positions {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// See the module's documentation; the fields are those of [`Entry`], and one that finds room between them.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) ticket: Ticket,
    pub(super) id: EnvelopeId,
    pub(super) shard: ShardId,
    pub(super) class: Class,
    pub(super) tenant: TenantId,
    pub(super) site: SiteName,
    pub(super) pending: Positions,
    pub(super) size_bytes: u32,
    pub(super) arrival: Timestamp,
    /// The default of a time: at once.
    not_before: Timestamp,
    pub(super) expiry: Timestamp,
    pub(super) attempt: u32,
    /// It was on a connection that turned out to be dead, and was put back: that happens once only.
    pub(super) second_chance: bool,
}

impl Kept {
    /// What is kept of an entry.
    pub(super) fn of(entry: Entry) -> Self {
        Self {
            ticket: entry.ticket,
            id: entry.id,
            shard: entry.shard,
            class: entry.class,
            tenant: entry.tenant,
            site: entry.site,
            pending: entry.pending.into(),
            size_bytes: u32::try_from(entry.size_bytes).unwrap_or(u32::MAX),
            arrival: entry.arrival,
            not_before: entry.not_before.unwrap_or_default(),
            expiry: entry.expiry,
            attempt: entry.attempt,
            second_chance: false,
        }
    }

    /// Not to be attempted before.
    pub(super) fn not_before(&self) -> Option<Timestamp> {
        Some(self.not_before).filter(|&time| time != Timestamp::default())
    }

    /// Bytes of its body.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.into()
    }

    /// What it counts for in fair queues and limits: its pending recipients, at least 1.
    pub(super) fn cost(&self) -> u32 {
        u32::try_from(self.pending.len()).unwrap_or(u32::MAX).max(1)
    }
}
