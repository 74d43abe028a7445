//! An envelope in the index as the shell sees it: its packet, the lease on its record, and what is known about reaching its
//! exchangers. The dispatcher knows it by its ticket only.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use postrider_dispatch::dispatcher::{AttemptResult, Entry, Exchange, Plan, Source, Ticket};
use postrider_dispatch::rules::Order;
use postrider_dispatch::settle::BodyState;
use postrider_model::{Attempt, Body, Move, Outcome, RecipientOutcome, Record, ShardId, SiteName, Timestamp};
use postrider_nats::{Handle, Leased};
use postrider_net::{DnsFailure, Plan as ExchangersPlan, Resolved};

/// An envelope that is ours for now.
pub struct Held {
    /// The lease with its packet.
    pub leased: Leased,
    /// The shard it was pulled from.
    pub shard: ShardId,
    /// The exchangers, if there are any.
    pub plan: Option<Arc<ExchangersPlan>>,
    /// The site it belongs to now.
    pub site: SiteName,
    /// The message, if it was read from BODY.
    pub message: Option<Bytes>,
    /// The last conversation, as the record shows it.
    pub attempt: Option<Attempt>,
}

/// What looking up the exchangers came to.
pub enum Arrival {
    /// To be dispatched.
    Dispatch(Held),
    /// Nobody to talk to, for now or for good.
    Unresolvable(Held, DnsFailure),
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
        Self { leased, shard, plan, site, message: None, attempt: None }
    }

    /// What the dispatcher needs to know of it.
    pub fn entry(&self, ticket: Ticket, source: Option<IpAddr>) -> Entry {
        let envelope = self.leased.packet.envelope();
        let (size_bytes, body_held) = match self.leased.packet.body() {
            Body::Inline { bytes, .. } => (u64::try_from(bytes.len()).unwrap_or(u64::MAX), true),
            Body::Stored(_) => (envelope.size_bytes, false),
        };
        Entry {
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
            last_reply: envelope.state.last_reply.clone(),
        }
    }

    /// Where its body is.
    pub fn body_state(&self) -> BodyState {
        body_state(&self.leased)
    }

    /// The results of finding nobody to talk to.
    pub fn unresolvable(&self, failure: &DnsFailure) -> Vec<(u32, AttemptResult)> {
        let result = AttemptResult::Unresolvable { permanent: failure.is_permanent(), reply: failure.reply() };
        self.leased.packet.envelope().state.pending.iter().map(|&index| (index, result.clone())).collect()
    }

    /// The record of a turn that ends as planned.
    pub fn record(&self, plan: &Plan, now: Timestamp) -> Record {
        let mut record = base_record(&self.leased, self.shard, now);
        record.site = self.site.clone();
        record.attempt = self.attempt.clone().map(|attempt| Attempt {
            number: self.leased.packet.envelope().state.attempt + u32::from(plan.attempted),
            ..attempt
        });
        let envelope = self.leased.packet.envelope();
        record.outcomes = plan
            .outcomes
            .iter()
            .filter_map(|(index, outcome, reply)| {
                let recipient = envelope.recipients.get(usize::try_from(*index).ok()?)?.clone();
                Some(RecipientOutcome { index: *index, recipient, outcome: *outcome, reply: reply.clone() })
            })
            .collect();
        record.next = Some(plan.next.clone());
        record
    }

    /// The handle and the packet, apart.
    pub fn into_lease(self) -> (Handle, postrider_proto::Packet) {
        (self.leased.handle, self.leased.packet)
    }
}

/// The name of a source in limits and records.
pub fn source_of(source: Option<IpAddr>) -> Source {
    source.map_or_else(|| Source::new("default"), |address| Source::new(&address.to_string()))
}

/// Where the body of a leased packet is.
pub fn body_state(leased: &Leased) -> BodyState {
    match leased.packet.body() {
        Body::Inline { .. } => BodyState::Inline,
        Body::Stored(stored) => BodyState::Stored { shared: stored.shared },
    }
}

/// The record of acceptance: for whoever first takes hop 0.
pub fn accepted(leased: &Leased, shard: ShardId, now: Timestamp) -> Record {
    let mut record = base_record(leased, shard, now);
    record.outcomes = each_pending(leased, Outcome::Accepted);
    record.at = record.arrival;
    record
}

/// The record of a part that moves to another shard because its site is another.
pub fn moved(leased: &Leased, shard: ShardId, next: Move, now: Timestamp) -> Record {
    let mut record = base_record(leased, shard, now);
    record.outcomes = each_pending(leased, Outcome::Moved);
    record.next = Some(next);
    record
}

fn each_pending(leased: &Leased, outcome: Outcome) -> Vec<RecipientOutcome> {
    let pending = leased.packet.envelope().pending();
    pending
        .map(|(index, recipient)| RecipientOutcome { index, recipient: recipient.clone(), outcome, reply: None })
        .collect()
}

fn base_record(leased: &Leased, shard: ShardId, now: Timestamp) -> Record {
    let envelope = leased.packet.envelope();
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
    }
}
