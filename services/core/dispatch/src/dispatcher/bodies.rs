//! Which bodies are in memory: within a budget, a fifth of it for transactional mail alone. What is furthest from its turn
//! is dropped first; what comes near its turn is read again. Only the shell touches bytes.

use std::collections::BTreeSet;

use postrider_model::{Class, Timestamp};

use super::index::{Indexed, Stage};
use super::lane::LaneId;
use super::per_class::PerClass;
use super::turns::Turns;
use super::{Action, Dispatcher, Ticket};

/// Where a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Not in memory.
    Absent,
    /// Needed now, but there is no room yet.
    Queued,
    /// Being read.
    Reading,
    /// So many bytes in memory.
    Held(u32),
}

/// Bytes of bodies, and what may be dropped.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    budget: u64,
    held: PerClass<u64>,
    reading: PerClass<u64>,
    /// Bodies that may be dropped, by their turns.
    loose: PerClass<BTreeSet<(Timestamp, Ticket)>>,
    loose_bytes: PerClass<u64>,
    /// Bodies that are needed and find no room, tenants in turn.
    queue: PerClass<Turns<Ticket>>,
    /// Envelopes in the index whose bodies nobody has asked for.
    absent: usize,
}

impl Bodies {
    pub(super) fn new(budget: u64) -> Self {
        Self { budget, ..Self::default() }
    }

    /// An envelope comes into the index; it is loosened or pinned afterwards.
    pub(super) fn add(&mut self, held: &Indexed) {
        match held.body {
            Body::Held(bytes) => self.held[held.entry.class] += u64::from(bytes),
            Body::Absent | Body::Queued | Body::Reading => self.absent += 1,
        }
    }

    /// An envelope leaves the index.
    pub(super) fn forget(&mut self, held: &Indexed) {
        let class = held.entry.class;
        self.pin(held);
        match held.body {
            Body::Held(bytes) => self.held[class] -= u64::from(bytes),
            Body::Reading => self.reading[class] -= held.entry.size_bytes(),
            Body::Absent => self.absent -= 1,
            Body::Queued => {}
        }
    }

    /// The body may be dropped; the envelope's turn is as given. Say it again when the turn changes, after pinning.
    pub(super) fn loosen(&mut self, held: &Indexed) {
        if let Body::Held(bytes) = held.body
            && self.loose[held.entry.class].insert((held.turn, held.entry.ticket))
        {
            self.loose_bytes[held.entry.class] += u64::from(bytes);
        }
    }

    /// The body must not be dropped.
    pub(super) fn pin(&mut self, held: &Indexed) {
        if let Body::Held(bytes) = held.body
            && self.loose[held.entry.class].remove(&(held.turn, held.entry.ticket))
        {
            self.loose_bytes[held.entry.class] -= u64::from(bytes);
        }
    }

    /// Whether every count is back at nothing.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let none =
            |class: Class| self.taken(class) == 0 && self.loose_bytes[class] == 0 && self.loose[class].is_empty();
        Class::ALL.into_iter().all(none) && self.absent == 0
    }

    /// What bulk may take.
    fn bulk_budget(&self) -> u64 {
        self.budget - self.budget / 5
    }

    fn taken(&self, class: Class) -> u64 {
        self.held[class] + self.reading[class]
    }

    fn is_over(&self, class: Class) -> bool {
        let all = self.taken(Class::Transactional) + self.taken(Class::Bulk);
        all > self.budget || (class == Class::Bulk && self.taken(Class::Bulk) > self.bulk_budget())
    }

    /// The body to drop next, if too much is held. A single one stays, however large: it would only be read again.
    fn victim(&self) -> Option<Ticket> {
        let loose = self.loose[Class::Transactional].len() + self.loose[Class::Bulk].len();
        if loose == 1 && Class::ALL.iter().all(|&class| self.taken(class) == self.loose_bytes[class]) {
            return None;
        }
        let last = |class| self.loose[class].last().map(|&(_, ticket)| ticket);
        if self.is_over(Class::Bulk)
            && let Some(ticket) = last(Class::Bulk)
        {
            return Some(ticket);
        }
        last(Class::Transactional).filter(|_| self.is_over(Class::Transactional))
    }

    /// Bytes in memory and on their way there.
    pub(super) fn all_taken(&self) -> u64 {
        self.taken(Class::Transactional) + self.taken(Class::Bulk)
    }

    /// Whether so many bytes fit without dropping anything.
    fn has_room(&self, class: Class, bytes: u64) -> bool {
        let all = self.taken(Class::Transactional) + self.taken(Class::Bulk) + bytes;
        all <= self.budget && (class == Class::Transactional || self.taken(Class::Bulk) + bytes <= self.bulk_budget())
    }

    /// Whether so many bytes fit once everything loose is dropped, or nothing else of the class is in use: then even what
    /// is larger than the budget must pass.
    fn can_make_room(&self, class: Class, bytes: u64) -> bool {
        let pinned = |class: Class| self.taken(class) - self.loose_bytes[class];
        let all = pinned(Class::Transactional) + pinned(Class::Bulk) + bytes;
        let fits = all <= self.budget && (class == Class::Transactional || pinned(class) + bytes <= self.bulk_budget());
        fits || pinned(class) == 0
    }
}

impl Dispatcher {
    /// A conversation waits for this body.
    pub(super) fn need_body(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get_mut(ticket) else { return };
        let (class, bytes) = (held.entry.class, held.entry.size_bytes());
        match held.body {
            Body::Held(_) | Body::Reading | Body::Queued => {}
            Body::Absent if self.bodies.can_make_room(class, bytes) => self.read_body(ticket),
            Body::Absent => {
                held.body = Body::Queued;
                self.bodies.absent -= 1;
                self.bodies.queue[class].push(&held.entry.tenant, ticket);
            }
        }
    }

    /// Reads bodies ahead for the next few in a lane's line, if there is room without dropping others.
    pub(super) fn read_ahead(&mut self, id: LaneId) {
        if self.bodies.absent == 0 {
            return;
        }
        let Some(lane) = self.lanes.lane(id) else { return };
        let mut upcoming = Vec::new();
        for class in Class::ALL {
            upcoming.extend(lane.queues[class].upcoming(self.config.read_ahead));
        }
        for ticket in upcoming.into_iter().take(self.config.read_ahead) {
            self.read_ahead_of(ticket);
        }
    }

    /// Reads one body ahead.
    pub(super) fn read_ahead_of(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get(ticket) else { return };
        if held.body == Body::Absent && self.bodies.has_room(held.entry.class, held.entry.size_bytes()) {
            self.read_body(ticket);
        }
    }

    fn read_body(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get_mut(ticket) else { return };
        if held.body == Body::Absent {
            self.bodies.absent -= 1;
        }
        held.body = Body::Reading;
        self.bodies.reading[held.entry.class] += held.entry.size_bytes();
        self.actions.push_back(Action::ReadBody(ticket));
        self.keep_within_budget();
    }

    /// A body has come.
    pub(super) fn body_read(&mut self, ticket: Ticket, bytes: u64) {
        let Some(held) = self.index.get_mut(ticket) else { return };
        if held.body != Body::Reading {
            return;
        }
        let class = held.entry.class;
        self.bodies.reading[class] -= held.entry.size_bytes();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bodies.held[class] += u64::from(bytes);
        held.body = Body::Held(bytes);
        match held.stage {
            Stage::Bound(conversation) => self.resume(conversation, ticket),
            Stage::Ready(_) | Stage::Waiting { .. } => self.bodies.loosen(held),
            Stage::InFlight(_) | Stage::Settling { .. } => {}
        }
        self.keep_within_budget();
    }

    /// An envelope that is being settled has left its body behind.
    pub(super) fn spilled(&mut self, ticket: Ticket) {
        let Some(held) = self.index.get_mut(ticket) else { return };
        if let (Stage::Settling { .. }, Body::Held(bytes)) = (held.stage, held.body) {
            self.bodies.held[held.entry.class] -= u64::from(bytes);
            self.bodies.absent += 1;
            held.body = Body::Absent;
        }
    }

    /// Drops bodies until the rest is within the budget, or nothing more may be dropped.
    pub(super) fn keep_within_budget(&mut self) {
        while let Some(ticket) = self.bodies.victim() {
            let Some(held) = self.index.get_mut(ticket) else { return };
            self.bodies.pin(held);
            if let Body::Held(bytes) = held.body {
                self.bodies.held[held.entry.class] -= u64::from(bytes);
            }
            held.body = Body::Absent;
            self.bodies.absent += 1;
            self.actions.push_back(Action::DropBody(ticket));
        }
    }

    /// Reads what was needed and found no room, as far as there is some now.
    pub(super) fn read_queued_bodies(&mut self) {
        for class in Class::ALL {
            while let Some((_, &ticket)) = self.bodies.queue[class].first() {
                let wanted = self.index.get_mut(ticket).filter(|held| held.body == Body::Queued);
                match wanted {
                    None => {}
                    Some(held) if !matches!(held.stage, Stage::Bound(_)) => {
                        held.body = Body::Absent;
                        self.bodies.absent += 1;
                    }
                    Some(held) if self.bodies.can_make_room(class, held.entry.size_bytes()) => self.read_body(ticket),
                    Some(_) => break,
                }
                self.bodies.queue[class].pop();
            }
        }
    }
}
