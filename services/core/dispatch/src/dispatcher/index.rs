//! The index: every envelope that is held, by ticket, by id and by shard, and how far along it is. Only keeps and counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postrider_model::{EnvelopeId, MessageId, ShardId, SiteName, TenantId, Timestamp, WaitReason};

use super::bodies::Body;
use super::lane::LaneId;
use super::queue::Place;
use super::{Conversation, DispatcherConfig, Entry, Ticket};

/// An envelope in the index.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) entry: Entry,
    pub(super) lane: LaneId,
    pub(super) stage: Stage,
    pub(super) body: Body,
    /// When its turn is expected, as of when it was last put in line.
    pub(super) turn: Timestamp,
    /// It was on a connection that turned out to be dead, and was put back: that happens once only.
    pub(super) second_chance: bool,
}

/// How far along an envelope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not in line until then.
    Waiting { until: Timestamp, reason: WaitReason },
    /// In line, at this place in its tenant's queue.
    Ready(Place),
    /// Taken out of the line for a conversation that is being opened, or whose body is being read.
    Bound(Conversation),
    /// Transmitted.
    InFlight(Conversation),
    /// Being settled; for a move, why and until when.
    Settling { until: Timestamp, reason: WaitReason },
}

/// Whether there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Yes.
    Free,
    /// Its share of the room is used up.
    Crowded,
    /// No.
    Full,
    /// The shard is not ours, or is being given back.
    Closed,
}

#[derive(Debug, Default)]
struct Shard {
    releasing: bool,
    tickets: BTreeSet<Ticket>,
    /// Those among them that are not newcomers.
    returned: usize,
    crowds: HashMap<(SiteName, TenantId), usize>,
}

/// All envelopes that are held.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Ticket, Held>,
    ids: BTreeMap<EnvelopeId, Ticket>,
    shards: HashMap<ShardId, Shard>,
}

fn is_newcomer(entry: &Entry) -> bool {
    entry.id.hop == 0
}

impl Index {
    pub(super) fn take_shard(&mut self, shard: ShardId) {
        self.shards.entry(shard).or_default().releasing = false;
    }

    /// Takes nothing more of a shard. Its tickets.
    pub(super) fn release_shard(&mut self, shard: ShardId) -> Vec<Ticket> {
        let Some(shard) = self.shards.get_mut(&shard) else { return Vec::new() };
        shard.releasing = true;
        shard.tickets.iter().copied().collect()
    }

    /// Forgets a shard; its tickets are still to be removed.
    pub(super) fn lose_shard(&mut self, shard: ShardId) -> BTreeSet<Ticket> {
        self.shards.remove(&shard).map(|shard| shard.tickets).unwrap_or_default()
    }

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Held> {
        self.entries.get(&ticket)
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Held> {
        self.entries.get_mut(&ticket)
    }

    /// Whether this stay of this part is held, under whatever ticket, or the ticket is.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        self.ids.contains_key(&entry.id) || self.entries.contains_key(&entry.ticket)
    }

    pub(super) fn insert(&mut self, held: Held) {
        let entry = &held.entry;
        if let Some(shard) = self.shards.get_mut(&entry.shard) {
            shard.tickets.insert(entry.ticket);
            shard.returned += usize::from(!is_newcomer(entry));
            *shard.crowds.entry((entry.site.clone(), entry.tenant.clone())).or_default() += 1;
        }
        self.ids.insert(entry.id, entry.ticket);
        self.entries.insert(entry.ticket, held);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Held> {
        let held = self.entries.remove(&ticket)?;
        let entry = &held.entry;
        self.ids.remove(&entry.id);
        if let Some(shard) = self.shards.get_mut(&entry.shard)
            && shard.tickets.remove(&ticket)
        {
            shard.returned -= usize::from(!is_newcomer(entry));
            let crowd = (entry.site.clone(), entry.tenant.clone());
            if let Some(count) = shard.crowds.get_mut(&crowd) {
                *count -= 1;
                if *count == 0 {
                    shard.crowds.remove(&crowd);
                }
            }
        }
        Some(held)
    }

    /// Envelopes of a shard that are held.
    pub(super) fn held(&self, shard: ShardId) -> usize {
        self.shards.get(&shard).map_or(0, |shard| shard.tickets.len())
    }

    /// Envelopes of a shard that still fit.
    pub(super) fn room(&self, shard: ShardId, config: &DispatcherConfig) -> usize {
        match self.shards.get(&shard) {
            Some(shard) if !shard.releasing => config.shard_capacity.saturating_sub(shard.tickets.len()),
            _ => 0,
        }
    }

    /// Whether there is room for this one: a quarter of it is kept for newcomers, and one tenant at one site has no more
    /// than its share.
    pub(super) fn room_for(&self, entry: &Entry, config: &DispatcherConfig) -> Room {
        let Some(shard) = self.shards.get(&entry.shard).filter(|shard| !shard.releasing) else { return Room::Closed };
        if shard.tickets.len() >= config.shard_capacity {
            return Room::Full;
        }
        let kept_for_newcomers = config.shard_capacity / 4;
        let crowd = shard.crowds.get(&(entry.site.clone(), entry.tenant.clone())).copied().unwrap_or(0);
        let late = !is_newcomer(entry) && shard.returned >= config.shard_capacity - kept_for_newcomers;
        if late || crowd >= config.tenant_site_capacity { Room::Crowded } else { Room::Free }
    }

    /// Envelopes of a shard that are no newcomers.
    pub(super) fn returned(&self, shard: ShardId) -> usize {
        self.shards.get(&shard).map_or(0, |shard| shard.returned)
    }

    /// Envelopes of one tenant for one site in a shard.
    pub(super) fn crowd(&self, shard: ShardId, site: &SiteName, tenant: &TenantId) -> usize {
        let crowd = (site.clone(), tenant.clone());
        self.shards.get(&shard).and_then(|shard| shard.crowds.get(&crowd)).copied().unwrap_or(0)
    }

    /// All envelopes, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.entries.values()
    }

    /// The envelopes of a message, by part.
    pub(super) fn of_message(&self, message: MessageId) -> impl Iterator<Item = &Held> {
        let first = EnvelopeId { message, part: 0, hop: 0 };
        let last = EnvelopeId { message, part: u32::MAX, hop: u32::MAX };
        self.ids.range(first..=last).filter_map(|(_, ticket)| self.entries.get(ticket))
    }
}
