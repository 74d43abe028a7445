//! What operators order, held against what the worker holds. The shape of `services/delivery/src/worker/orders.rs`.

use std::rc::Rc;

use postrider_dispatch::dispatcher::{Fact, Ticket};
use postrider_dispatch::rules::{Order, Rules};

use super::{Held, Worker};

impl Worker {
    pub(super) fn ordered(&self, held: &Held) -> Option<Order> {
        self.rules.order(&held.packet.envelope, None, self.here.now())
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
        let orders = self.held.iter().filter_map(order).collect();
        self.fact(Fact::Ordered(orders));
    }
}
