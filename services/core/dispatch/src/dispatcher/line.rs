//! Standing in line: how an envelope comes into its queue, out of it and back. Every change of an envelope's stage is made
//! here.

use std::time::Duration;

use postrider_model::{ShardId, Timestamp};

use super::alarm::Alarm;
use super::index::{Indexed, Stage};
use super::lane::LaneId;
use super::{Action, Class, Dispatcher, Ticket};

/// What an envelope is taken to need if nothing is known of its lane's speed.
const PRESUMED: Duration = Duration::from_millis(10);

impl Dispatcher {
    /// Puts an envelope that may go behind its tenant's others.
    pub(super) fn stand_in_line(&mut self, ticket: Ticket) {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return };
        let (lane_id, class, cost) = (held.lane, held.entry.class, held.entry.cost());
        let weight = self.weight_of(&held.entry.tenant);
        let Some(lane) = self.lanes.lane_mut(lane_id) else { return };
        let before = lane.before(&held.entry);
        let turn = now.after(lane.pace.guess_for(before, now).unwrap_or_else(|| presumed(before)));
        let place = lane.queues[class].push_back(&held.entry.tenant, weight, ticket, cost);
        if let Some(held) = self.index.get_mut(ticket) {
            self.bodies.pin(held);
            held.turn = turn;
        }
        self.set_stage(ticket, Stage::Ready(place));
        self.joined_line(lane_id);
        self.offer(lane_id, class);
    }

    /// Puts an envelope whose turn had come before its tenant's others, and offers it.
    pub(super) fn put_back(&mut self, ticket: Ticket) {
        self.stand_in_line_again(ticket);
        if let Some(held) = self.index.get(ticket) {
            let (lane, class) = (held.lane, held.entry.class);
            self.offer(lane, class);
        }
    }

    /// The same without offering it to anybody.
    pub(super) fn stand_in_line_again(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get(ticket) else { return };
        let (lane_id, class, cost) = (held.lane, held.entry.class, held.entry.cost());
        let weight = self.weight_of(&held.entry.tenant);
        let Some(lane) = self.lanes.lane_mut(lane_id) else { return };
        let place = lane.queues[class].put_back(&held.entry.tenant, weight, ticket, cost);
        self.set_stage(ticket, Stage::Ready(place));
        self.joined_line(lane_id);
    }

    /// Something is ready in a lane: a conversation with nothing to do takes it, or another is wanted, or it is to be moved.
    pub(super) fn offer(&mut self, lane: LaneId, class: Class) {
        self.wake_idle(lane, class);
        self.wants(lane, class);
        self.move_lane_if_blocked(lane, class);
    }

    fn joined_line(&mut self, id: LaneId) {
        let now = self.now;
        let review = self.config.index_wait / 2;
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        let busy = !lane.is_closed(now);
        lane.pace.set_busy(busy, now);
        if lane.review_at.is_none() {
            lane.review_at = Some(now.after(review));
            self.set_lane_alarm(id);
        }
    }

    /// Something was taken out of a lane's queues.
    pub(super) fn left_line(&mut self, id: LaneId) {
        let now = self.now;
        if let Some(lane) = self.lanes.lane_mut(id)
            && lane.is_empty()
        {
            lane.pace.set_busy(false, now);
        }
    }

    /// Notes how far along an envelope is. Its body may be dropped only as long as it is not needed soon.
    pub(super) fn set_stage(&mut self, ticket: Ticket, stage: Stage) {
        let Some(held) = self.index.get_mut(ticket) else { return };
        self.bodies.pin(held);
        let before = held.wake();
        held.stage = stage;
        self.alarms.set_entry(ticket, before, held.wake());
        match stage {
            Stage::Waiting { until, .. } => {
                held.turn = until;
                self.bodies.loosen(held);
            }
            Stage::Ready(_) => self.bodies.loosen(held),
            Stage::Bound(_) | Stage::InFlight(_) | Stage::Settling { .. } => {}
        }
    }

    /// Takes an envelope out of whatever it waits in, before it is settled or handed back.
    pub(super) fn take_out(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get(ticket) else { return };
        match held.stage {
            Stage::Ready(place) => {
                let (lane_id, class, tenant) = (held.lane, held.entry.class, held.entry.tenant.clone());
                if let Some(lane) = self.lanes.lane_mut(lane_id) {
                    lane.queues[class].remove(&tenant, place);
                }
                self.left_line(lane_id);
            }
            Stage::Bound(conversation) => self.unbind(conversation, ticket),
            Stage::Waiting { .. } | Stage::InFlight(_) | Stage::Settling { .. } => {}
        }
    }

    /// The envelope leaves the index.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Box<Indexed>> {
        self.take_out(ticket);
        let held = self.index.remove(ticket)?;
        self.alarms.set_entry(ticket, held.wake(), None);
        self.bodies.forget(&held);
        if let Stage::Settling { slot: Some(slot), .. } = held.stage {
            self.moves.ended(slot);
        }
        if let Some(lane) = self.lanes.lane_mut(held.lane) {
            lane.entries -= 1;
        }
        self.forget_lane_if_unused(held.lane);
        Some(held)
    }

    /// Everything of a shard that has not begun goes back to its stream.
    pub(super) fn release_shard(&mut self, shard: ShardId) {
        for ticket in self.index.release_shard(shard) {
            let begun = match self.index.get(ticket).map(|held| held.stage) {
                Some(Stage::InFlight(_) | Stage::Settling { .. }) | None => true,
                Some(Stage::Waiting { .. } | Stage::Ready(_) | Stage::Bound(_)) => false,
            };
            if !begun {
                self.remove(ticket);
                self.actions.push_back(Action::HandBack(ticket));
            }
        }
    }

    /// Everything of a shard is forgotten; what carries something of it is closed.
    pub(super) fn lose_shard(&mut self, shard: ShardId) {
        let mut carrying = Vec::new();
        let lost = self.index.lose_shard(shard);
        self.jams.lose_shard(shard);
        for &ticket in &lost {
            if let Some(held) = self.remove(ticket)
                && let Stage::InFlight(conversation) = held.stage
            {
                carrying.push(conversation);
            }
        }
        self.actions.retain(|action| action.about().is_none_or(|ticket| !lost.contains(&ticket)));
        for conversation in carrying {
            self.close(conversation);
        }
    }

    /// The time of an envelope's alarm has come.
    pub(super) fn entry_alarm(&mut self, ticket: Ticket) {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return };
        let expired = held.entry.expiry <= now;
        match held.stage {
            Stage::InFlight(_) | Stage::Settling { .. } => {}
            Stage::Waiting { .. } | Stage::Ready(_) | Stage::Bound(_) if expired => self.expire(ticket),
            Stage::Waiting { until, .. } if until <= now => self.stand_in_line(ticket),
            Stage::Waiting { .. } | Stage::Ready(_) | Stage::Bound(_) => {}
        }
    }

    pub(super) fn set_lane_alarm(&mut self, id: LaneId) {
        let now = self.now;
        let Some(lane) = self.lanes.lane(id) else { return };
        let ahead = |time: Timestamp| (time > now).then_some(time);
        let times = [lane.closed_until, lane.ceiling.map(|(_, until)| until), lane.review_at];
        let next = times.into_iter().flatten().filter_map(ahead).min();
        let forget = lane.remembered_until(self.config.longest_closure).and_then(ahead);
        self.alarms.set(Alarm::Lane(id), next.or(forget));
    }

    pub(super) fn forget_lane_if_unused(&mut self, id: LaneId) {
        let now = self.now;
        let Some(lane) = self.lanes.lane(id) else { return };
        if lane.entries > 0 || lane.conversations > 0 {
            return;
        }
        if lane.remembered_until(self.config.longest_closure).is_some_and(|until| until > now) {
            return self.set_lane_alarm(id);
        }
        self.alarms.set(Alarm::Lane(id), None);
        self.lanes.forget(id);
    }
}

fn presumed(cost: u64) -> Duration {
    PRESUMED.saturating_mul(u32::try_from(cost).unwrap_or(u32::MAX))
}
