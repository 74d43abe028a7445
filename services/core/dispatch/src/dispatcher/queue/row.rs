//! One tenant's tickets in their order: the first and the last are at hand, and any can be taken out of the middle.

use std::collections::VecDeque;

use super::{Place, Ticket};

/// Tickets with their costs, side by side in the order of their places. One that is taken out of the middle leaves a gap, and
/// there is none at either end.
#[derive(Debug, Default)]
pub(super) struct Row {
    tickets: VecDeque<(Ticket, u32)>,
    first: Place,
}

/// No ticket: dispatchers count from 0.
const GAP: (Ticket, u32) = (Ticket(u64::MAX), 0);

impl Row {
    pub(super) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    pub(super) fn first(&self) -> Option<(Place, (Ticket, u32))> {
        self.tickets.front().map(|&ticket| (self.first, ticket))
    }

    pub(super) fn last(&self) -> Option<(Ticket, u32)> {
        self.tickets.back().copied()
    }

    pub(super) fn in_order(&self) -> impl Iterator<Item = (Ticket, u32)> {
        self.tickets.iter().copied().filter(|&ticket| ticket != GAP)
    }

    pub(super) fn push_back(&mut self, ticket: (Ticket, u32)) -> Place {
        self.tickets.push_back(ticket);
        self.first + Place::try_from(self.tickets.len()).unwrap_or(Place::MAX) - 1
    }

    pub(super) fn push_front(&mut self, ticket: (Ticket, u32)) -> Place {
        self.tickets.push_front(ticket);
        self.first -= 1;
        self.first
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<(Ticket, u32)> {
        let at = self.tickets.get_mut(usize::try_from(place - self.first).ok()?)?;
        let taken = std::mem::replace(at, GAP);
        while self.tickets.back() == Some(&GAP) {
            self.tickets.pop_back();
        }
        while self.tickets.front() == Some(&GAP) {
            self.tickets.pop_front();
            self.first += 1;
        }
        // A burst that is over gives its room back.
        if self.tickets.len() < self.tickets.capacity() / 4 {
            self.tickets.shrink_to(self.tickets.capacity() / 2);
        }
        (taken != GAP).then_some(taken)
    }
}
