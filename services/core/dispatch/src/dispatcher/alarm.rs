//! When something has to be looked at again. One alarm for each thing at most; nothing here knows what the thing does then.

use std::collections::{BTreeSet, HashMap};

use postrider_model::Timestamp;

use super::lane::{LaneId, PathId};
use super::{Conversation, Source, Ticket};

/// What has an alarm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Alarm {
    /// An envelope: it may go, or is too old. See [`Alarms::set_entry`].
    Entry(Ticket),
    /// A conversation: its permit wants renewing, or it has been idle for long.
    Conversation(Conversation),
    /// A lane: it opens again, or wants a review.
    Lane(LaneId),
    /// A path: its limit owner may be asked again.
    Path(PathId),
    /// A source: it may be tried again.
    Source(Source),
}

/// All alarms by time.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    times: HashMap<Alarm, Timestamp>,
    order: BTreeSet<(Timestamp, Alarm)>,
    // Apart, because there are so many of them: the index itself remembers when each rings.
    entries: BTreeSet<(Timestamp, Ticket)>,
}

impl Alarms {
    /// Sets, changes or ends an alarm.
    pub(super) fn set(&mut self, alarm: Alarm, time: Option<Timestamp>) {
        let before = match time {
            Some(time) => self.times.insert(alarm.clone(), time),
            None => self.times.remove(&alarm),
        };
        if before == time {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, alarm.clone()));
        }
        if let Some(time) = time {
            self.order.insert((time, alarm));
        }
    }

    /// Changes an envelope's alarm from `before` to `time`. One that has rung is gone, whatever `before` says.
    pub(super) fn set_entry(&mut self, ticket: Ticket, before: Option<Timestamp>, time: Option<Timestamp>) {
        if let Some(before) = before.filter(|_| before != time) {
            self.entries.remove(&(before, ticket));
        }
        if let Some(time) = time {
            self.entries.insert((time, ticket));
        }
    }

    /// The time of the next alarm.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let other = self.order.first().map(|(time, _)| *time);
        self.entries.first().map(|(time, _)| *time).into_iter().chain(other).min()
    }

    /// Takes one alarm that is due.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        if let Some((_, ticket)) = self.entries.first().copied().filter(|(time, _)| *time <= now) {
            self.entries.pop_first();
            return Some(Alarm::Entry(ticket));
        }
        let (_, alarm) = self.order.pop_first()?;
        self.times.remove(&alarm);
        Some(alarm)
    }
}
