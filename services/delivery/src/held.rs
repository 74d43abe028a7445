//! An envelope in the index as the shell sees it: the lease on its record, what is known about reaching its exchangers, and, as
//! long as its turn is near, its packet. The dispatcher knows it by its ticket only.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use postrider_dispatch::dispatcher::{Entry, Exchange, Plan, Source, Ticket};
use postrider_dispatch::rules::Order;
use postrider_dispatch::settle::Settle;
use postrider_dispatch::stay::Stay;
use postrider_model::{Attempt, Body, Record, ShardId, SiteName, Timestamp};
use postrider_nats::{Handle, Leased};
use postrider_net::{DnsFailure, ExchangePlan};
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
    pub plan: Option<Arc<ExchangePlan>>,
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

impl Held {
    /// An envelope fresh from its shard.
    pub fn new(leased: Leased, shard: ShardId, plan: Option<Arc<ExchangePlan>>, site: SiteName) -> Self {
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
        stay(packet, self.shard).turned(&self.site, plan, self.attempt.as_deref(), now)
    }
}

/// What a packet is about, for the records of it.
pub fn stay(packet: &Packet, shard: ShardId) -> Stay<'_> {
    Stay { envelope: packet.envelope(), body: packet.body(), shard }
}

/// The name of a source in limits and records.
pub fn source_of(source: Option<IpAddr>) -> Source {
    source.map_or_else(|| Source::new("default"), |address| Source::new(&address.to_string()))
}
