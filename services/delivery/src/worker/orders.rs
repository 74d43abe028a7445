//! What operators order, held against what the worker holds: at each arrival, and over everything when the rules change.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use postrider_dispatch::dispatcher::{Fact, Ticket};
use postrider_dispatch::rules::{Order, Rules, matches, waits};
use postrider_model::{Envelope, Rule, RuleFilter, RuleId, ShardId};
use postrider_nats::Spool;
use postrider_proto::Packet;
use postrider_runtime::clock;
use tokio::sync::oneshot;

use super::{Input, Worker};
use crate::held::Held;

impl Worker {
    /// What is ordered about an envelope that has just arrived.
    pub(super) fn ordered(&self, held: &Held) -> Option<Order> {
        self.rules.borrow().order(held.packet()?.envelope(), None, clock::now())
    }

    /// The configuration has changed: if its rules have, everything that is held is held against them.
    pub(super) fn follow(&mut self, rules: &BTreeMap<RuleId, Rule>) {
        if self.rules.borrow().are_of(rules) {
            return;
        }
        let rules = Arc::new(Rules::new(rules));
        self.rules.send_replace(Arc::clone(&rules));
        if rules.is_empty() {
            return;
        }
        let now = clock::now();
        let filters: Vec<_> = rules.filters().cloned().collect();
        let mut orders: Vec<(Ticket, Order)> = Vec::new();
        let mut unread = Vec::new();
        for (&ticket, held) in &self.held {
            match held.packet() {
                Some(packet) => {
                    let reason = self.dispatcher.wait_reason(ticket);
                    orders.extend(rules.order(packet.envelope(), reason, now).map(|order| (ticket, order)));
                }
                None if filters.iter().any(|filter| self.may_match(filter, ticket, held)) => {
                    unread.push((ticket, held.shard, held.sequence));
                }
                None => {}
            }
        }
        if !orders.is_empty() {
            tracing::info!(envelopes = orders.len(), "operators' rules concern what is held");
        }
        self.fact(Fact::Ordered(orders));
        let (spool, inputs) = (self.tools.spool.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let mut reading = read_again(&spool, unread);
            while let Some((ticket, envelope)) = reading.next().await {
                // The worker ends only with the process.
                drop(inputs.send(Input::Reread(ticket, Box::new(envelope))).await);
            }
        });
    }

    /// An envelope was read again, to hold the rules against it.
    pub(super) fn reread(&mut self, ticket: Ticket, envelope: &Envelope) {
        let reason = self.dispatcher.wait_reason(ticket);
        let order = self.rules.borrow().order(envelope, reason, clock::now());
        if let Some(order) = order {
            self.fact(Fact::Ordered(vec![(ticket, order)]));
        }
    }

    /// Whether an envelope whose packet is not in memory may match.
    fn may_match(&self, filter: &RuleFilter, ticket: Ticket, held: &Held) -> bool {
        filter.class.is_none_or(|class| class == held.shard.class)
            && filter.arrived_before.is_none_or(|before| held.arrival < before)
            && filter.tenant.as_ref().is_none_or(|tenant| self.dispatcher.tenant(ticket) == Some(tenant))
    }

    /// Finds what of all that is held matches a filter, conversations under way included, and answers where in READY it lies. What
    /// is not in memory is read again.
    pub(super) fn matching(&self, filter: RuleFilter, answer: oneshot::Sender<Vec<(ShardId, u64)>>) {
        let mut found = Vec::new();
        let mut unread = Vec::new();
        let mut reasons = HashMap::new();
        for (&ticket, held) in &self.held {
            let reason = self.dispatcher.wait_reason(ticket);
            match held.packet().map(Packet::envelope) {
                Some(envelope) if matches(&filter, envelope) && waits(&filter, envelope, reason) => {
                    found.push((held.shard, held.sequence));
                }
                None if self.may_match(&filter, ticket, held) => {
                    unread.push((ticket, held.shard, held.sequence));
                    reasons.insert(ticket, (reason, held.shard, held.sequence));
                }
                _ => {}
            }
        }
        let spool = self.tools.spool.clone();
        tokio::spawn(async move {
            let mut reading = read_again(&spool, unread);
            while let Some((ticket, envelope)) = reading.next().await {
                let Some(&(reason, shard, sequence)) = reasons.get(&ticket) else { continue };
                if matches(&filter, &envelope) && waits(&filter, &envelope, reason) {
                    found.push((shard, sequence));
                }
            }
            // Whoever asked may have gone.
            answer.send(found).ok();
        });
    }
}

/// Packets read at a time.
const READING: usize = 50;

/// Envelopes by their places in READY, as many as can be read.
fn read_again(
    spool: &Spool,
    which: Vec<(Ticket, ShardId, u64)>,
) -> Pin<Box<dyn Stream<Item = (Ticket, Envelope)> + Send + '_>> {
    let reads = stream::iter(which).map(async |(ticket, shard, sequence)| {
        let packet = spool.reread_packet(shard, sequence).await;
        // What is gone has been settled meanwhile.
        packet.ok().map(|packet| (ticket, packet.envelope().clone()))
    });
    Box::pin(reads.buffer_unordered(READING).filter_map(async |read| read))
}
