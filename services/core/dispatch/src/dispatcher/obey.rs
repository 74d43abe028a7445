//! What operators order about envelopes that are held: to HOLD, to their end, or at once into line. Conversations and settles
//! under way are let end: what comes of them meets the order when it arrives the next time.

use postrider_model::{Class, Move, Outcome, Tier, Timestamp, WaitReason};

use super::index::Stage;
use super::kept::Kept;
use super::lane::LaneId;
use super::{Dispatcher, Plan, Ticket};
use crate::retry::{self, with_room};
use crate::rules::Order;

impl Dispatcher {
    /// Why an envelope waits; `None` if it is not held.
    pub fn wait_reason(&self, ticket: Ticket) -> Option<WaitReason> {
        self.index.get(ticket).map(|held| self.wait_of(held, self.now).reason)
    }

    /// Those orders that are of one kind.
    pub(super) fn obey_all(&mut self, orders: &[(Ticket, Order)], which: impl Fn(&Order) -> bool) {
        for (ticket, order) in orders.iter().filter(|(_, order)| which(order)) {
            self.obey(*ticket, order);
        }
    }

    /// Something is ordered about an envelope. Whether that has taken it out of its ordinary course.
    pub(super) fn obey(&mut self, ticket: Ticket, order: &Order) -> bool {
        let Some(held) = self.index.get(ticket) else { return false };
        let (lane, stage) = (held.lane, held.stage);
        // What comes back from a dead connection is not sent once more beside the order: it is settled, and meets it again.
        if matches!(stage, Stage::InFlight(_)) && !matches!(order, Order::Flush { .. }) {
            if let Some(held) = self.index.get_mut(ticket) {
                held.entry.second_chance = true;
            }
            return false;
        }
        match stage {
            Stage::InFlight(_) | Stage::Settling { .. } | Stage::Waiting { reason: WaitReason::Held, .. } => {
                return false;
            }
            Stage::Waiting { .. } | Stage::Ready(_) | Stage::Bound(_) => {}
        }
        let plan = match order {
            Order::Flush { given } => {
                self.lift(lane, *given);
                if matches!(stage, Stage::Waiting { reason, .. } if reason != WaitReason::NotBefore) {
                    self.stand_in_line(ticket);
                }
                return false;
            }
            Order::Suspend { .. } if self.moves.hold_is_full => self.park(&held.entry),
            Order::Suspend { rule } => {
                let outcomes = held.entry.pending.iter().map(|&index| (index, Outcome::Suspended, None)).collect();
                Plan { attempted: false, outcomes, next: Move::Hold { rule: rule.clone() } }
            }
            Order::End { outcome, reply, recipients } => {
                let mut plan = self.rest(&held.entry, recipients, Tier::M1, WaitReason::Queued);
                for (index, ended, said) in &mut plan.outcomes {
                    if recipients.contains(index) {
                        (*ended, *said) = (*outcome, Some(reply.clone()));
                    }
                }
                plan
            }
        };
        // Nobody may send it any more; it is moved when its turn to be moved has come.
        self.take_out(ticket);
        let until = self.index.get(ticket).map_or(self.now, |held| held.entry.expiry);
        self.set_stage(ticket, Stage::Waiting { until, reason: WaitReason::Held });
        self.moves.order(ticket, plan);
        true
    }

    /// What HOLD has no room for waits in a tier: it must not stand in the way of other moves.
    fn park(&self, entry: &Kept) -> Plan {
        self.rest(entry, &[], Tier::H4, WaitReason::Held)
    }

    /// What was to go to HOLD waits in a tier, if it has not begun to go.
    pub(super) fn park_instead(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get(ticket) else { return };
        if matches!(held.stage, Stage::Waiting { reason: WaitReason::Held, .. }) {
            let plan = self.park(&held.entry);
            self.moves.order(ticket, plan);
        }
    }

    /// The plan for those that are not in `ended`: they wait in this tier, or the longest that ends before their expiry.
    fn rest(&self, entry: &Kept, ended: &[u32], tier: Tier, reason: WaitReason) -> Plan {
        let (now, delays) = (self.now, &self.config.tier_delays);
        let pending: Vec<u32> = entry.pending.iter().copied().filter(|index| !ended.contains(index)).collect();
        let tier = match pending.is_empty() {
            true => None,
            false => retry::tier_nearest(now.after(delays.of(tier)), tier, now, entry.expiry, delays)
                .map(|tier| with_room(tier, Tier::H4, &self.moves.full, now, entry.expiry, delays).unwrap_or(tier)),
        };
        let outcome = if tier.is_some() { Outcome::Moved } else { Outcome::Expired };
        let outcomes = entry.pending.iter().map(|&index| (index, outcome, None)).collect();
        let next = tier.map_or(Move::Finished, |tier| Move::Tier {
            tier,
            reason,
            until: now.after(delays.of(tier)),
            attempt: entry.attempt,
            pending,
            last_reply: None,
        });
        Plan { attempted: false, outcomes, next }
    }

    /// Moves a few more of what was ordered to move.
    pub(super) fn make_ordered_moves(&mut self) {
        while let Some((ticket, plan, slot)) = self.moves.next_ordered(self.config.moves_at_once) {
            let stage = self.index.get(ticket).map(|held| held.stage);
            // It may have expired or been handed back meanwhile.
            if matches!(stage, Some(Stage::Waiting { reason: WaitReason::Held, .. })) {
                self.moves.begun(slot);
                let (until, reason) = (self.now, WaitReason::Held);
                self.settle(ticket, plan, Stage::Settling { until, reason, slot: Some(slot) });
            }
        }
    }

    /// Opens a lane that was closed before the order was given. Closures in a row are still counted: if its exchangers fail
    /// again it is left alone for longer.
    pub(super) fn lift(&mut self, id: LaneId, given: Timestamp) {
        let now = self.now;
        let Some(lane) = self.lanes.lane_mut(id).filter(|lane| lane.closed_at < given) else { return };
        lane.ceiling = None;
        if lane.closed_until.take_if(|until| *until > now).is_none() {
            return;
        }
        let busy = !lane.is_empty();
        lane.pace.set_busy(busy, now);
        self.set_lane_alarm(id);
        for class in Class::ALL {
            self.wants(id, class);
        }
    }
}
