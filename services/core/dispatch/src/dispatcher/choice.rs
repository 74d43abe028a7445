//! What a conversation that is ready carries next: transactional first, then whose turn it is; or nothing, and then it is
//! closed after a while.

use postrider_model::{Class, Timestamp};

use super::alarm::Alarm;
use super::bodies::Body;
use super::conversation::{Talk, TalkStage};
use super::index::Stage;
use super::lane::LaneId;
use super::{Action, Conversation, Dispatcher, Ticket};

impl Dispatcher {
    /// Changes a conversation, and keeps its lane's counts and its alarm right. `None` if there is no such conversation.
    pub(super) fn change<T>(&mut self, id: Conversation, change: impl FnOnce(&mut Talk, Timestamp) -> T) -> Option<T> {
        let talk = self.conversations.get_mut(&id)?;
        let (lane, path) = self.lanes.both_mut(talk.lane)?;
        lane.uncount(id, talk);
        path.idle[talk.permit.class].remove(&id);
        let result = change(talk, self.now);
        lane.count(id, talk);
        if talk.is_free() {
            path.idle[talk.permit.class].insert(id);
            self.idle.insert(id);
        } else {
            self.idle.remove(&id);
        }
        self.alarms.set(Alarm::Conversation(id), talk.wake_at(self.config.idle_timeout));
        Some(result)
    }

    /// It is greeted, or has ended a message.
    pub(super) fn conversation_ready(&mut self, id: Conversation) {
        let now = self.now;
        let Some(talk) = self.conversations.get(&id) else { return };
        let lane = talk.lane;
        match talk.stage {
            TalkStage::Opening(ticket) => {
                self.change(id, |talk, now| talk.stage = TalkStage::Idle { since: now });
                self.reopen(lane);
                self.source_works(lane);
                if let Some(ticket) = ticket {
                    self.put_back(ticket);
                }
            }
            TalkStage::Busy(ticket) => {
                self.lost_if_in_flight(ticket, id, "the conversation went on without a result");
                self.change(id, |talk, now| {
                    talk.useful = true;
                    talk.stage = TalkStage::Idle { since: now };
                    // It has leave left: that its renewal must wait does not stop it.
                    talk.ask_at.take_if(|_| talk.left > 0);
                });
            }
            TalkStage::Idle { .. } | TalkStage::Reading(_) | TalkStage::Closing => return,
        }
        if let Some(lane) = self.lanes.lane_mut(lane) {
            lane.ceiling.take_if(|(_, until)| *until <= now);
        }
        // What it was opened for it may carry by now: then it gives way when that is done.
        let is_idle = self.conversations.get(&id).is_some_and(|talk| matches!(talk.stage, TalkStage::Idle { .. }));
        if is_idle && self.gives_way(id) {
            self.close(id);
        }
        self.choose(id);
        self.wants(lane, Class::Transactional);
        self.wants(lane, Class::Bulk);
    }

    /// Gives an idle conversation its next message, if there is one and leave to send it.
    pub(super) fn choose(&mut self, id: Conversation) {
        loop {
            let now = self.now;
            let Some(talk) = self.conversations.get(&id) else { return };
            if !matches!(talk.stage, TalkStage::Idle { .. }) || talk.request.is_some() {
                return;
            }
            if talk.is_over(now) {
                return self.close(id);
            }
            let lane = talk.lane;
            let Some((class, ticket, cost)) = self.next_for(id) else {
                if self.take_over_from_opening(id) {
                    continue;
                }
                return;
            };
            if self.index.get(ticket).is_some_and(|held| held.entry.expiry <= now) {
                self.expire(ticket);
                continue;
            }
            let Some(talk) = self.conversations.get(&id) else { return };
            let Some(recipients) = talk.leave_for(cost, now) else {
                if talk.ask_at.is_none_or(|ask_at| ask_at <= now) {
                    let messages = self.lanes.lane(lane).map_or(0, |lane| lane.queues[class].cost());
                    self.renew(id, class, cost, u32::try_from(messages).unwrap_or(u32::MAX - 1));
                }
                return;
            };
            let quantum = self.config.quantum;
            let popped = self.lanes.lane_mut(lane).and_then(|lane| lane.queues[class].pop(quantum));
            if popped != Some(ticket) {
                return;
            }
            self.left_line(lane);
            self.set_stage(ticket, Stage::Bound(id));
            self.begin(id, ticket, recipients);
            return self.read_ahead(lane);
        }
    }

    /// The next ticket a conversation may carry.
    pub(super) fn next_for(&mut self, id: Conversation) -> Option<(Class, Ticket, u32)> {
        let talk = self.conversations.get(&id)?;
        let quantum = self.config.quantum;
        let lane = self.lanes.lane_mut(talk.lane)?;
        Class::ALL
            .into_iter()
            .filter(|&class| talk.may_carry(class))
            .find_map(|class| lane.queues[class].next(quantum).map(|(ticket, cost)| (class, ticket, cost)))
    }

    /// Takes a ticket that waits for a conversation still being opened: this one can have it at once.
    fn take_over_from_opening(&mut self, id: Conversation) -> bool {
        let Some(talk) = self.conversations.get(&id) else { return false };
        let Some(lane) = self.lanes.lane(talk.lane) else { return false };
        let found = lane.opening_with_ticket.iter().find_map(|&other| {
            let TalkStage::Opening(Some(ticket)) = self.conversations.get(&other)?.stage else { return None };
            let class = self.index.get(ticket)?.entry.class;
            talk.may_carry(class).then_some((other, ticket))
        });
        let Some((other, ticket)) = found else { return false };
        self.change(other, |talk, _| talk.stage = TalkStage::Opening(None));
        self.stand_in_line_again(ticket);
        true
    }

    /// Transmits, or waits for the body first.
    fn begin(&mut self, id: Conversation, ticket: Ticket, recipients: u32) {
        if let Some(tenant) = self.index.get(ticket).map(|held| held.entry.tenant.clone()) {
            self.carries_for(id, &tenant);
        }
        let is_held = self.index.get(ticket).is_some_and(|held| matches!(held.body, Body::Held(_)));
        if is_held {
            self.change(id, |talk, _| talk.carries(ticket, recipients));
            self.set_stage(ticket, Stage::InFlight(id));
            self.actions.push_back(Action::Transmit { conversation: id, ticket, recipients });
        } else {
            self.change(id, |talk, _| talk.stage = TalkStage::Reading(ticket));
            self.need_body(ticket);
        }
    }

    /// The body of a ticket has come: the conversation that waited for it sends that very one, as long as it may. (Choosing
    /// anew could choose another whose body is not there, for ever in turn.)
    pub(super) fn resume(&mut self, id: Conversation, ticket: Ticket) {
        let now = self.now;
        let Some(talk) = self.conversations.get(&id).filter(|talk| talk.stage == TalkStage::Reading(ticket)) else {
            return;
        };
        let (Some(held), Some(lane)) = (self.index.get(ticket), self.lanes.lane(talk.lane)) else { return };
        let urgent_waits = held.entry.class == Class::Bulk && lane.queues[Class::Transactional].len() > 0;
        let may_go = !talk.is_over(now) && !urgent_waits;
        let (lane, leave) = (talk.lane, talk.leave_for(held.entry.cost(), now));
        match leave.filter(|_| may_go) {
            Some(recipients) => {
                self.begin(id, ticket, recipients);
                self.read_ahead(lane);
            }
            None => {
                self.change(id, |talk, now| talk.stage = TalkStage::Idle { since: now });
                self.stand_in_line_again(ticket);
                self.choose(id);
            }
        }
    }

    /// Closes a conversation; what was bound to it goes back.
    pub(super) fn close(&mut self, id: Conversation) {
        let before = self.change(id, |talk, _| std::mem::replace(&mut talk.stage, TalkStage::Closing));
        let Some(before) = before else { return };
        if before == TalkStage::Closing {
            return;
        }
        self.actions.push_back(Action::Close(id));
        self.closing += 1;
        if let Some(lane) = self.conversations.get(&id).map(|talk| talk.lane) {
            if let Some((_, path)) = self.lanes.both_mut(lane) {
                path.closing += 1;
            }
            self.rouse(lane);
        }
        match before {
            TalkStage::Opening(Some(ticket)) | TalkStage::Reading(ticket) => self.put_back(ticket),
            TalkStage::Opening(None) | TalkStage::Idle { .. } | TalkStage::Busy(_) | TalkStage::Closing => {}
        }
    }

    /// Wakes a conversation of a lane that has nothing to do, for a ticket of this class.
    pub(super) fn wake_idle(&mut self, lane: LaneId, class: Class) {
        if let Some(id) = self.lanes.lane(lane).and_then(|lane| lane.idle_for(class)) {
            self.choose(id);
        }
    }

    /// A conversation is gone that may have asked for leave to send what is ready: another that has nothing to do is looked
    /// at again soon.
    pub(super) fn rouse(&mut self, lane: LaneId) {
        let Some(lane) = self.lanes.lane(lane) else { return };
        for class in Class::ALL.into_iter().filter(|&class| lane.queues[class].len() > 0) {
            self.restless.extend(lane.idle_for(class));
        }
    }

    /// The time of a conversation's alarm has come.
    pub(super) fn conversation_alarm(&mut self, id: Conversation) {
        let now = self.now;
        let idle_timeout = self.config.idle_timeout;
        let Some(talk) = self.conversations.get(&id) else { return };
        let ended = talk.permit.until <= now;
        match talk.stage {
            TalkStage::Closing => {}
            TalkStage::Busy(_) if ended => {
                self.change(id, |talk, _| talk.lapsed = true);
            }
            TalkStage::Opening(_) | TalkStage::Reading(_) if ended => self.close(id),
            TalkStage::Opening(_) | TalkStage::Reading(_) | TalkStage::Busy(_) => {
                if talk.request.is_none() && talk.ask_at.unwrap_or(talk.renew_at) <= now {
                    self.renew(id, talk.asked, 0, 0);
                } else {
                    self.change(id, |_, _| ());
                }
            }
            TalkStage::Idle { since } => {
                let waits_for_leave = talk.request.is_some() || talk.ask_at.is_some();
                if ended || (!waits_for_leave && since.after(idle_timeout) <= now) {
                    return self.close(id);
                }
                self.change(id, |talk, now| talk.ask_at.take_if(|ask_at| *ask_at <= now));
                self.choose(id);
            }
        }
    }
}
