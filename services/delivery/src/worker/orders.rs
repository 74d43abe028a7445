//! What operators order, held against what the worker holds: at each arrival, and over everything when the rules change.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_dispatch::dispatcher::{Fact, Ticket};
use postrider_dispatch::rules::{Order, Rules, matches, waits};
use postrider_model::{Rule, RuleFilter, RuleId};
use postrider_runtime::clock;

use super::Worker;
use crate::held::Held;

impl Worker {
    /// What is ordered about an envelope that has just arrived.
    pub(super) fn ordered(&self, held: &Held) -> Option<Order> {
        let order = self.rules.borrow().order(held.leased.packet.envelope(), None, clock::now())?;
        Some(self.if_hold_is_full(order))
    }

    /// What HOLD has no room for waits in a tier: it must not stand in the way of other moves.
    fn if_hold_is_full(&self, order: Order) -> Order {
        match order {
            Order::Suspend { .. } if self.tools.spool.hold_is_full() => Order::Park,
            order => order,
        }
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
        let order = |(ticket, held): (&Ticket, &Held)| {
            let reason = self.dispatcher.wait_reason(*ticket);
            rules.order(held.leased.packet.envelope(), reason, now).map(|order| (*ticket, order))
        };
        let orders: Vec<(Ticket, Order)> = self.held.iter().filter_map(order).collect();
        if !orders.is_empty() {
            tracing::info!(envelopes = orders.len(), "operators' rules concern what is held");
        }
        for (ticket, order) in orders {
            let order = self.if_hold_is_full(order);
            self.fact(Fact::Ordered { ticket, order });
        }
    }

    /// How much of what is held matches a filter, conversations under way included.
    pub(super) fn matching(&self, filter: &RuleFilter) -> u64 {
        let matching = |(ticket, held): (&Ticket, &Held)| {
            let envelope = held.leased.packet.envelope();
            matches(filter, envelope) && waits(filter, envelope, self.dispatcher.wait_reason(*ticket))
        };
        u64::try_from(self.held.iter().filter(|entry| matching(*entry)).count()).unwrap_or(u64::MAX)
    }
}
