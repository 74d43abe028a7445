//! What operators order, held against what is sent and how mail ends.

use std::rc::Rc;

use postrider_dispatch::rules::{Order, Rules, matches};
use postrider_model::{Envelope, Outcome, Rule, RuleAction, RuleFilter, Timestamp};

use super::{Judge, Part};
use crate::exec::Life;

impl Judge {
    /// An operator gives an order.
    pub fn orders(&self, rule: &Rule) {
        self.book.borrow_mut().ordered.push(rule.clone());
    }

    /// A process has these rules in force, and no others.
    pub fn obeys(&self, life: Life, rules: Rc<Rules>) {
        self.book.borrow_mut().obeyed.insert(life, rules);
    }

    /// A process decides to send something, its clock says when. No rule that it has in force may stand against that.
    pub fn sends(&self, life: Life, envelope: &Envelope, clock: Timestamp) {
        let rules = self.book.borrow().obeyed.get(&life).cloned().unwrap_or_default();
        if let Some(order @ (Order::Suspend { .. } | Order::End { .. })) = rules.order(envelope, None, clock) {
            self.book.borrow_mut().guilty.insert((envelope.message, envelope.part));
            self.violated(format!("{life:?} sends {}, although it has {order:?} in force", envelope.id()));
        }
    }

    /// Whether an operator has ordered that this part ends so.
    pub(super) fn is_ordered(&self, part: Part, outcome: Outcome) -> bool {
        let action = match outcome {
            Outcome::Deleted => RuleAction::Delete,
            _ => RuleAction::Bounce,
        };
        let book = self.book.borrow();
        let Some(offered) = book.parts.get(&part) else { return false };
        // Its site may have been another by then.
        let anywhere = |rule: &Rule| RuleFilter { site: None, ..rule.filter.clone() };
        let mut given = book.ordered.iter().filter(|rule| rule.action == action);
        given.any(|rule| matches(&anywhere(rule), &offered.envelope))
    }
}
