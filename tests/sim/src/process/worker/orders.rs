//! What operators order, held against what the worker holds. The shape of `services/delivery/src/worker/orders.rs`.

use std::rc::Rc;

use postrider_dispatch::dispatcher::{Fact, Ticket};
use postrider_dispatch::rules::{Order, Rules};

use super::{Held, Worker};

impl Worker {
    pub(super) fn ordered(&self, held: &Held) -> Option<Order> {
        let order = self.rules.order(&held.packet.envelope, None, self.here.now())?;
        Some(self.if_hold_is_full(order))
    }

    fn if_hold_is_full(&self, order: Order) -> Order {
        match order {
            Order::Suspend { .. } if self.here.hold_is_full.get() => Order::Park,
            order => order,
        }
    }

    /// Other rules are in force: everything that is held is held against them.
    pub(super) fn follow(&mut self, rules: Rc<Rules>) {
        self.rules = Rc::clone(&rules);
        self.here.judge.obeys(self.here.life, Rc::clone(&rules));
        let now = self.here.now();
        let order = |(ticket, held): (&Ticket, &Held)| {
            let reason = self.dispatcher.wait_reason(*ticket);
            rules.order(&held.packet.envelope, reason, now).map(|order| (*ticket, order))
        };
        let orders: Vec<(Ticket, Order)> = self.held.iter().filter_map(order).collect();
        let orders = orders.into_iter().map(|(ticket, order)| (ticket, self.if_hold_is_full(order))).collect();
        self.fact(Fact::Ordered(orders));
    }
}
