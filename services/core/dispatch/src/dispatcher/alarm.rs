//! When something has to be looked at again. One alarm for each thing at most; nothing here knows what the thing does then.

use std::collections::{BTreeSet, HashMap};

use postrider_model::Timestamp;

use super::lane::{LaneId, PathId};
use super::{Conversation, Source, Ticket};

/// What has an alarm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Alarm {
    /// An envelope: it may go, or is too old.
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

    /// The time of the next alarm.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(time, _)| *time)
    }

    /// Takes one alarm that is due.
    pub(super) fn due(&mut self, now: Timestamp) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        let (_, alarm) = self.order.pop_first()?;
        self.times.remove(&alarm);
        Some(alarm)
    }
}
