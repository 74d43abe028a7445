//! The index: every envelope that is held, by ticket, by id and by shard, and how far along it is. Only keeps and counts.

use std::collections::{BTreeSet, HashMap};

use postrider_model::{EnvelopeId, MessageId, PartNumber, ShardId, SiteName, TenantId, Timestamp, WaitReason};

use super::bodies::Body;
use super::kept::Kept;
use super::lane::LaneId;
use super::moves::Slot;
use super::queue::Place;
use super::{Conversation, DispatcherConfig, Entry, Ticket};

/// An envelope in the index.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) entry: Kept,
    pub(super) lane: LaneId,
    pub(super) stage: Stage,
    pub(super) body: Body,
    /// When its turn is expected, as of when it was last put in line.
    pub(super) turn: Timestamp,
}

impl Indexed {
    /// When it has to be looked at again: it may go, or is too old.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Waiting { until, .. } => Some(until.min(self.entry.expiry)),
            Stage::Ready(_) | Stage::Bound(_) => Some(self.entry.expiry),
            Stage::InFlight(_) | Stage::Settling { .. } => None,
        }
    }
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
    /// Being settled; for a move, why and until when, and which of the moves' slots it has.
    Settling { until: Timestamp, reason: WaitReason, slot: Option<Slot> },
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
    tenants: HashMap<TenantId, usize>,
}

/// All envelopes that are held.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Ticket, Box<Indexed>>,
    ids: BTreeSet<Trace>,
    shards: HashMap<ShardId, Shard>,
}

/// A short form of an envelope's id with its ticket, in the order of messages and their parts. Two ids may have one form: the
/// entry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trace {
    message: u32,
    part: PartNumber,
    ticket: Ticket,
}

impl Trace {
    fn new(id: &EnvelopeId, ticket: Ticket) -> Self {
        Self { message: short(id.message), part: id.part, ticket }
    }
}

/// The last four bytes of a message's id, which are random.
fn short(message: MessageId) -> u32 {
    let [.., a, b, c, d] = *message.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Room that a shard has, however many there are.
const LEAST: usize = 100;

const FIRST: Ticket = Ticket(0);
const LAST: Ticket = Ticket(u64::MAX);

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

    pub(super) fn get(&self, ticket: Ticket) -> Option<&Indexed> {
        self.entries.get(&ticket).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Indexed> {
        self.entries.get_mut(&ticket).map(Box::as_mut)
    }

    /// Whether this stay of this part is held, under whatever ticket, or the ticket is.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        self.ticket_of(&entry.id).is_some() || self.entries.contains_key(&entry.ticket)
    }

    /// The ticket of this stay of this part, if it is held.
    pub(super) fn ticket_of(&self, id: &EnvelopeId) -> Option<Ticket> {
        let mut traces = self.ids.range(Trace::new(id, FIRST)..=Trace::new(id, LAST));
        traces.find(|trace| self.get(trace.ticket).is_some_and(|held| held.entry.id == *id)).map(|trace| trace.ticket)
    }

    pub(super) fn insert(&mut self, mut held: Indexed) {
        let entry = &mut held.entry;
        if let Some(shard) = self.shards.get_mut(&entry.shard) {
            shard.tickets.insert(entry.ticket);
            shard.returned += usize::from(entry.id.hop > 0);
            let crowd = (entry.site.clone(), entry.tenant.clone());
            // Names are kept once for all of a crowd.
            if let Some(((site, tenant), _)) = shard.crowds.get_key_value(&crowd) {
                (entry.site, entry.tenant) = (site.clone(), tenant.clone());
            }
            *shard.crowds.entry(crowd).or_default() += 1;
            *shard.tenants.entry(entry.tenant.clone()).or_default() += 1;
        }
        self.ids.insert(Trace::new(&entry.id, entry.ticket));
        self.entries.insert(entry.ticket, Box::new(held));
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Box<Indexed>> {
        let held = self.entries.remove(&ticket)?;
        let entry = &held.entry;
        self.ids.remove(&Trace::new(&entry.id, ticket));
        if let Some(shard) = self.shards.get_mut(&entry.shard)
            && shard.tickets.remove(&ticket)
        {
            shard.returned -= usize::from(entry.id.hop > 0);
            let crowd = (entry.site.clone(), entry.tenant.clone());
            if let Some(count) = shard.tenants.get_mut(&entry.tenant) {
                *count -= 1;
                if *count == 0 {
                    shard.tenants.remove(&entry.tenant);
                }
            }
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
            Some(shard) if !shard.releasing => self.capacity(config).saturating_sub(shard.tickets.len()),
            _ => 0,
        }
    }

    /// Envelopes that each shard may have here.
    pub(super) fn capacity(&self, config: &DispatcherConfig) -> usize {
        config.shard_capacity.min((config.index_capacity / self.shards.len().max(1)).max(LEAST))
    }

    /// Envelopes that all shards may have here together.
    pub(super) fn capacity_of_all(&self, config: &DispatcherConfig) -> usize {
        self.shards.len().saturating_mul(self.capacity(config))
    }

    /// Envelopes of all shards.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a tenant has more than three times as much of a shard's room as is left free: so one tenant takes no more than
    /// three quarters, two no more than six sevenths, and there always is some left for another.
    pub(super) fn is_crowded_by(&self, shard: ShardId, tenant: &TenantId, config: &DispatcherConfig) -> bool {
        let Some(held) = self.shards.get(&shard) else { return false };
        held.tenants.get(tenant).is_some_and(|&count| count > 3 * self.room(shard, config))
    }

    /// Whether there is room for this one: a quarter of it is kept for newcomers, and one tenant at one site has no more
    /// than its share.
    pub(super) fn room_for(&self, entry: &Entry, config: &DispatcherConfig) -> Room {
        let Some(shard) = self.shards.get(&entry.shard).filter(|shard| !shard.releasing) else { return Room::Closed };
        let capacity = self.capacity(config);
        if shard.tickets.len() >= capacity {
            return Room::Full;
        }
        let kept_for_newcomers = capacity / 4;
        let crowd = shard.crowds.get(&(entry.site.clone(), entry.tenant.clone())).copied().unwrap_or(0);
        let late = entry.id.hop > 0 && shard.returned >= capacity - kept_for_newcomers;
        if late || crowd >= config.tenant_site_capacity.min(capacity) { Room::Crowded } else { Room::Free }
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
    pub(super) fn all(&self) -> impl Iterator<Item = &Indexed> {
        self.entries.values().map(Box::as_ref)
    }

    /// The envelopes of a message, by part.
    pub(super) fn of_message(&self, message: MessageId) -> impl Iterator<Item = &Indexed> {
        let first = Trace { message: short(message), part: PartNumber::MIN, ticket: FIRST };
        let last = Trace { message: short(message), part: PartNumber::MAX, ticket: LAST };
        let held = self.ids.range(first..=last).filter_map(|trace| self.get(trace.ticket));
        held.filter(move |held| held.entry.id.message == message)
    }
}
