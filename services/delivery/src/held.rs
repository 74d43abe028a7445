//! An envelope in the index as the shell sees it: the lease on its record, what is known about reaching its exchangers, and, as
//! long as its turn is near, its packet. The dispatcher knows it by its ticket only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use postrider_dispatch::dispatcher::{AttemptResult, Entry, Exchange, Plan, Source, Ticket};
use postrider_dispatch::rules::Order;
use postrider_dispatch::settle::{BodyState, Settle};
use postrider_model::{Attempt, Body, BodyRef, Move, Outcome, RecipientOutcome, Record, ShardId, SiteName, Timestamp};
use postrider_nats::{Handle, Leased};
use postrider_net::{DnsFailure, Plan as ExchangersPlan, Resolved};
use postrider_proto::Packet;

/// An envelope that is ours for now. A process has hundreds of thousands of them waiting: what is not needed to wait can be
/// dropped, and is read again by the sequence.
pub struct Held {
    /// The lease.
    pub handle: Handle,
    /// Where its record lies in its stream.
    pub sequence: u64,
    /// The shard it was pulled from.
    pub shard: ShardId,
    /// When its message was accepted.
    pub arrival: Timestamp,
    /// Whether it has never been tried before.
    pub first: bool,
    /// The exchangers, if there are any.
    pub plan: Option<Arc<ExchangersPlan>>,
    /// The site it belongs to now.
    pub site: SiteName,
    /// The packet, unless it was dropped.
    pub loaded: Option<Box<Loaded>>,
    /// The last conversation, as the record shows it.
    pub attempt: Option<Box<Attempt>>,
}

/// What is needed of an envelope when its turn has come.
pub struct Loaded {
    /// The packet, with its body if that is inline.
    pub packet: Packet,
    /// The message, if it was read from BODY.
    pub message: Option<Bytes>,
}

impl Loaded {
    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> u64 {
        let body = match (self.packet.body(), &self.message) {
            (Body::Inline { bytes, .. }, _) => bytes.len(),
            (Body::Stored(_), message) => message.as_ref().map_or(0, Bytes::len),
        };
        u64::try_from(body + self.packet.weight()).unwrap_or(u64::MAX)
    }
}

/// The envelopes of a process by their tickets.
pub type Holdings = HashMap<Ticket, Box<Held>>;

/// What looking up the exchangers came to.
pub enum Arrival {
    /// To be dispatched.
    Dispatch(Held),
    /// Nobody to talk to, for now or for good.
    Unresolvable(Held, DnsFailure),
    /// Its site is another by now: how it moves there.
    Elsewhere(Held, Box<Settle>),
    /// Not looked up: an operator has ordered that it goes nowhere.
    Ordered(Held, Order),
}

/// What a resolved envelope means for its shard.
pub enum Turn {
    /// It stays here.
    Stays(Arc<ExchangersPlan>, SiteName),
    /// It belongs to another shard now.
    Moves(Move),
}

/// Moves between shards that a part may make for each of its attempts: a part that two processes would push to and fro is
/// sent from where it is.
const MOVES_PER_ATTEMPT: u32 = 8;

/// Decides whether a part whose exchangers were just looked up stays in its shard.
pub fn turn(leased: &Leased, shard: ShardId, resolved: Resolved, layout: &postrider_model::ShardLayout) -> Turn {
    let envelope = leased.packet.envelope();
    let Resolved { site, slices, plan } = resolved;
    let slice = postrider_model::ShardLayout::slice_of(&envelope.message, slices);
    let belongs = layout.shard_of(envelope.class, &site, slice);
    let tired = envelope.state.hop > MOVES_PER_ATTEMPT * (envelope.state.attempt + 1);
    if belongs == shard || tired { Turn::Stays(plan, site) } else { Turn::Moves(Move::Site { site, slice }) }
}

impl Held {
    /// An envelope fresh from its shard.
    pub fn new(leased: Leased, shard: ShardId, plan: Option<Arc<ExchangersPlan>>, site: SiteName) -> Self {
        let Leased { packet, sequence, handle, .. } = leased;
        let envelope = packet.envelope();
        // The name and the memory of the plan are shared with all that go there.
        let (arrival, first) = (envelope.arrival, envelope.state.attempt == 0);
        let loaded = Some(Box::new(Loaded { packet: packet.detached(), message: None }));
        Self { handle, sequence, shard, arrival, first, plan, site, loaded, attempt: None }
    }

    /// Its packet, which a fresh one has.
    pub fn packet(&self) -> Option<&Packet> {
        self.loaded.as_ref().map(|loaded| &loaded.packet)
    }

    /// What the dispatcher needs to know of it. `None` if its packet was dropped.
    pub fn entry(&self, ticket: Ticket, source: Option<IpAddr>) -> Option<Entry> {
        let loaded = self.loaded.as_ref()?;
        let envelope = loaded.packet.envelope();
        let (size_bytes, body_held) = match loaded.packet.body() {
            Body::Inline { .. } => (loaded.bytes(), true),
            Body::Stored(_) => (envelope.size_bytes, false),
        };
        Some(Entry {
            ticket,
            id: envelope.id(),
            shard: self.shard,
            class: envelope.class,
            tenant: envelope.tenant.clone(),
            site: self.site.clone(),
            exchange: Exchange::new(self.plan.as_ref().map_or("", |plan| plan.exchange_key())),
            source: source_of(source),
            pending: envelope.state.pending.clone(),
            size_bytes,
            body_held,
            arrival: envelope.arrival,
            not_before: envelope.not_before,
            expiry: envelope.expiry,
            attempt: envelope.state.attempt,
        })
    }

    /// The record of a turn that ends as planned; `packet` is its own.
    pub fn record(&self, packet: &Packet, plan: &Plan, now: Timestamp) -> Record {
        let mut record = base_record(packet, self.shard, now);
        record.site = self.site.clone();
        let envelope = packet.envelope();
        // An attempt that was put back is none: the record of a move that follows would show it under the number of the one before.
        let attempt = self.attempt.as_deref().filter(|_| plan.attempted).cloned();
        record.attempt = attempt.map(|attempt| Attempt { number: envelope.state.attempt + 1, ..attempt });
        record.outcomes = plan
            .outcomes
            .iter()
            .filter_map(|(index, outcome, reply)| {
                let recipient = envelope.recipients.get(usize::try_from(*index).ok()?)?.clone();
                Some(RecipientOutcome { index: *index, recipient, outcome: *outcome, reply: reply.clone() })
            })
            .collect();
        record.next = Some(plan.next.clone());
        record.body = shared_body(packet, &plan.next);
        record
    }
}

/// The results of finding nobody to talk to.
pub fn unresolvable(pending: &[u32], failure: &DnsFailure) -> Vec<(u32, AttemptResult)> {
    let result = AttemptResult::Unresolvable { permanent: failure.is_permanent(), reply: failure.reply() };
    pending.iter().map(|&index| (index, result.clone())).collect()
}

/// The name of a source in limits and records.
pub fn source_of(source: Option<IpAddr>) -> Source {
    source.map_or_else(|| Source::new("default"), |address| Source::new(&address.to_string()))
}

/// Where the body of a leased packet is.
pub fn body_state(leased: &Leased) -> BodyState {
    BodyState::from(leased.packet.body())
}

/// The record of acceptance: for whoever first takes hop 0.
pub fn accepted(leased: &Leased, shard: ShardId, now: Timestamp) -> Record {
    let mut record = base_record(&leased.packet, shard, now);
    record.outcomes = each_pending(leased, Outcome::Accepted);
    record.at = record.arrival;
    record
}

/// The record of a part that moves to another shard because its site is another.
pub fn moved(leased: &Leased, shard: ShardId, next: Move, now: Timestamp) -> Record {
    let mut record = base_record(&leased.packet, shard, now);
    record.outcomes = each_pending(leased, Outcome::Moved);
    record.body = shared_body(&leased.packet, &next);
    record.next = Some(next);
    record
}

fn each_pending(leased: &Leased, outcome: Outcome) -> Vec<RecipientOutcome> {
    let pending = leased.packet.envelope().pending();
    pending
        .map(|(index, recipient)| RecipientOutcome { index, recipient: recipient.clone(), outcome, reply: None })
        .collect()
}

fn base_record(packet: &Packet, shard: ShardId, now: Timestamp) -> Record {
    let envelope = packet.envelope();
    Record {
        id: envelope.id(),
        at: now,
        shard,
        tenant: envelope.tenant.clone(),
        class: envelope.class,
        campaign: envelope.campaign.clone(),
        pool: envelope.pool.clone(),
        site: envelope.state.site.clone(),
        sender: envelope.sender.clone(),
        header_message_id: envelope.header_message_id.clone(),
        arrival: envelope.arrival,
        size_bytes: envelope.size_bytes,
        metadata: envelope.metadata.clone(),
        attempt: None,
        outcomes: Vec::new(),
        next: None,
        body: None,
    }
}

/// The body that others share, of a part that has ended: who counts the ends knows by it when nobody needs it any more.
fn shared_body(packet: &Packet, next: &Move) -> Option<BodyRef> {
    match (next, packet.body()) {
        (Move::Finished, Body::Stored(stored)) if stored.shared && stored.parts > 0 => Some(stored.clone()),
        _ => None,
    }
}
