//! What follows when a conversation ends: whose fault it was, what is left alone for how long, and what becomes of the
//! envelope it was opened for. A fault of our side is never held against the destination.

use std::time::Duration;

use postrider_model::{Class, WaitReason};

use super::alarm::Alarm;
use super::conversation::{Talk, TalkStage};
use super::index::Stage;
use super::lane::{LaneId, PathId};
use super::{Action, Conversation, Dispatcher, Failure, FailureScope, Source, Ticket};

/// `first` doubled with each failure in a row, up to `longest`.
fn pause(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(longest)
}

impl Dispatcher {
    /// A connection is gone.
    pub(super) fn conversation_ended(&mut self, id: Conversation, failure: Option<&Failure>) {
        let Some(talk) = self.conversations.remove(&id) else { return };
        self.alarms.set(Alarm::Conversation(id), None);
        self.shares.remove(&talk.tenant);
        let Some((lane, path)) = self.lanes.both_mut(talk.lane) else { return };
        lane.uncount(id, &talk);
        path.idle[talk.permit.class].remove(&id);
        self.idle.remove(&id);
        lane.conversations -= 1;
        path.conversations -= 1;
        if talk.stage == TalkStage::Closing {
            path.closing -= 1;
            self.closing -= 1;
        }
        for class in Class::ALL {
            path.wait[class].take_if(|wait| wait.reason == WaitReason::ConnectionLimit);
        }
        let (path_id, path) = (lane.path, path.path.clone());
        let source = path.source.clone();
        self.actions.push_back(Action::Release { permit: talk.permit.id, path, used: talk.used });
        if let Some(failure) = failure {
            match failure.scope {
                FailureScope::Exchange => self.exchange_failed(&talk, failure),
                FailureScope::Source | FailureScope::Ourselves => self.suspend(&source),
            }
        }
        match talk.stage {
            TalkStage::Busy(ticket) => {
                let in_flight = Stage::InFlight(id);
                let unsent = self.index.get(ticket).is_some_and(|held| held.stage == in_flight);
                if unsent {
                    self.take_back(
                        |action| matches!(action, Action::Transmit { conversation, .. } if *conversation == id),
                    );
                }
                if unsent && self.second_chance(ticket) {
                    return self.after_conversation(talk.lane, path_id);
                }
                let text = failure.map_or("the conversation ended without a result", |failure| &failure.text);
                self.lost_if_in_flight(ticket, id, text);
            }
            TalkStage::Opening(Some(ticket)) | TalkStage::Reading(ticket) => self.put_back_if_bound(ticket, id),
            TalkStage::Opening(None) | TalkStage::Idle { .. } | TalkStage::Closing => {}
        }
        self.after_conversation(talk.lane, path_id);
    }

    fn after_conversation(&mut self, lane: LaneId, path: PathId) {
        for class in Class::ALL {
            self.wants(lane, class);
            self.ask_again(path, class);
        }
        self.rouse(lane);
        self.forget_lane_if_unused(lane);
    }

    /// Takes actions back that the shell has not seen yet. Whether there were any.
    fn take_back(&mut self, which: impl Fn(&Action) -> bool) -> bool {
        let before = self.actions.len();
        self.actions.retain(|action| !which(action));
        self.actions.len() < before
    }

    fn put_back_if_bound(&mut self, ticket: Ticket, conversation: Conversation) {
        let bound = Stage::Bound(conversation);
        if self.index.get(ticket).is_some_and(|held| held.stage == bound) {
            self.put_back(ticket);
        }
    }

    /// The exchangers failed. If others of the lane's conversations stand, no more are opened than there are; else the lane
    /// closes, and the envelope it was opened for has had its attempt.
    fn exchange_failed(&mut self, talk: &Talk, failure: &Failure) {
        if talk.useful || talk.stage == TalkStage::Closing {
            return;
        }
        let until = self.now.after(self.config.first_closure);
        let Some(lane) = self.lanes.lane_mut(talk.lane) else { return };
        if lane.established > 0 {
            lane.ceiling = Some((lane.established, until));
            return self.set_lane_alarm(talk.lane);
        }
        self.close_lane(talk.lane);
        if let TalkStage::Opening(Some(ticket)) = talk.stage {
            self.unreached(ticket, failure);
        }
    }

    fn close_lane(&mut self, id: LaneId) {
        let now = self.now;
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if !lane.is_closed(now) {
            lane.failures = lane.failures.saturating_add(1);
            let pause = pause(self.config.first_closure, self.config.longest_closure, lane.failures);
            lane.closed_until = Some(now.after(pause));
            lane.closed_at = now;
            lane.pace.set_busy(false, now);
        }
        self.set_lane_alarm(id);
        for class in Class::ALL {
            self.move_lane_if_blocked(id, class);
        }
    }

    /// A conversation was greeted: the lane's exchangers are well.
    pub(super) fn reopen(&mut self, id: LaneId) {
        let now = self.now;
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        lane.failures = 0;
        if lane.closed_until.take().is_some() {
            lane.pace.set_busy(!lane.is_empty(), now);
            self.set_lane_alarm(id);
        }
    }

    /// The time of a lane's alarm has come: it opens again, or wants a review, or is to be forgotten.
    pub(super) fn lane_alarm(&mut self, id: LaneId) {
        let now = self.now;
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        lane.ceiling.take_if(|(_, until)| *until <= now);
        let busy = !lane.is_closed(now) && !lane.is_empty();
        lane.pace.set_busy(busy, now);
        self.review_lane(id);
        for class in Class::ALL {
            self.wants(id, class);
        }
        self.set_lane_alarm(id);
        self.forget_lane_if_unused(id);
    }

    /// The time of a path's alarm has come: its limit owner may be asked again.
    pub(super) fn path_alarm(&mut self, id: PathId) {
        let now = self.now;
        let Some(path) = self.lanes.path_mut(id) else { return };
        for class in Class::ALL {
            path.wait[class].take_if(|wait| wait.until <= now);
        }
        for class in Class::ALL {
            self.ask_again(id, class);
        }
        self.set_path_alarm(id);
    }

    /// A source failed, or we did: it is left alone for a while.
    fn suspend(&mut self, source: &Source) {
        let now = self.now;
        let (first, longest) = (self.config.first_suspension, self.config.longest_suspension);
        let Some(state) = self.lanes.source_mut(source) else { return };
        if state.suspended_until.is_some_and(|until| until > now) {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        let until = now.after(pause(first, longest, state.failures));
        state.suspended_until = Some(until);
        // Remembered for as long again, so that failures in a row are counted.
        self.alarms.set(Alarm::Source(source.clone()), Some(until));
    }

    /// The time of a source's alarm has come: its paths may ask again.
    pub(super) fn source_alarm(&mut self, source: &Source) {
        let Some(state) = self.lanes.source_mut(source) else { return };
        state.suspended_until = None;
        let paths: Vec<_> = state.paths.iter().copied().collect();
        for path in paths {
            for class in Class::ALL {
                self.ask_again(path, class);
            }
        }
        self.lanes.forget_source_if_unused(source);
    }

    /// A conversation from this source was greeted.
    pub(super) fn source_works(&mut self, lane: LaneId) {
        let Some((_, path)) = self.lanes.both(lane) else { return };
        let source = path.path.source.clone();
        if let Some(state) = self.lanes.source_mut(&source).filter(|state| state.failures > 0) {
            state.failures = 0;
            state.suspended_until = None;
            self.alarms.set(Alarm::Source(source.clone()), Some(self.now));
        }
    }

    /// An envelope that was bound to a conversation is settled or handed back.
    pub(super) fn unbind(&mut self, id: Conversation, ticket: Ticket) {
        let Some(stage) = self.conversations.get(&id).map(|talk| talk.stage) else { return };
        if stage == TalkStage::Reading(ticket) {
            self.change(id, |talk, now| talk.stage = TalkStage::Idle { since: now });
            self.restless.push(id);
        } else if stage == TalkStage::Opening(Some(ticket)) {
            self.change(id, |talk, _| talk.stage = TalkStage::Opening(None));
            if self.take_back(|action| matches!(action, Action::Open { conversation, .. } if *conversation == id)) {
                self.conversation_ended(id, None);
            }
        }
    }
}
