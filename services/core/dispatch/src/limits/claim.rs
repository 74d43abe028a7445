//! Claims: what those who had to wait leave behind, so that who asks more often or for less is not always served before
//! them. A claim ends by itself soon after its owner should have come back.

use postrider_model::{Class, Timestamp};

use super::Ask;

fn rank(class: Class) -> u8 {
    match class {
        Class::Transactional => 1,
        Class::Bulk => 0,
    }
}

/// Somebody waits for a connection.
#[derive(Debug)]
pub(super) struct ConnectionClaim {
    class: Class,
    /// Connections he holds.
    connections: u32,
    pub(super) until: Timestamp,
}

impl ConnectionClaim {
    /// Connections that are kept from `ask`: one, if the claimant is more urgent or holds fewer.
    pub(super) fn kept_from(&self, ask: &Ask) -> u32 {
        let weaker = (rank(ask.class), std::cmp::Reverse(ask.connections))
            < (rank(self.class), std::cmp::Reverse(self.connections));
        u32::from(weaker)
    }

    /// Whether `ask` may be the claimant's own.
    pub(super) fn is_met_by(&self, ask: &Ask) -> bool {
        self.kept_from(ask) == 0
    }

    /// Leaves a claim, unless there is a stronger one.
    pub(super) fn leave(place: &mut Option<Self>, ask: &Ask, until: Timestamp) {
        if place.as_ref().is_none_or(|claim| claim.is_met_by(ask)) {
            *place = Some(Self { class: ask.class, connections: ask.connections, until });
        }
    }
}

/// Somebody waits for leave to send.
#[derive(Debug)]
pub(super) struct RateClaim {
    class: Class,
    /// Recipients he needs at once.
    least: u32,
    pub(super) until: Timestamp,
}

impl RateClaim {
    /// Recipients that are kept from `ask`: the claimant's, if he is more urgent, or as urgent and needs more at once.
    pub(super) fn kept_from(&self, ask: &Ask) -> u32 {
        let weaker = (rank(ask.class), ask.least) < (rank(self.class), self.least);
        if weaker { self.least } else { 0 }
    }

    /// Whether a grant of `messages` to `ask` may be the claimant's own.
    pub(super) fn is_met_by(&self, ask: &Ask, messages: u32) -> bool {
        ask.class == self.class && messages >= self.least
    }

    /// Leaves a claim, unless there is a stronger one.
    pub(super) fn leave(place: &mut Option<Self>, ask: &Ask, least: u32, until: Timestamp) {
        if place.as_ref().is_none_or(|claim| claim.kept_from(ask) == 0) {
            *place = Some(Self { class: ask.class, least, until });
        }
    }
}
