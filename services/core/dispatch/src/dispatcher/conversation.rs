//! A conversation: what its permit still allows, and what it does. What it carries next is decided in `choice`, how it
//! comes about in `asking`, how it fails in `trouble`.

use std::time::Duration;

use postrider_model::{Class, TenantId, Timestamp};

use super::lane::LaneId;
use super::{Permit, RequestId, Ticket};

/// One connection of ours, from the permit on.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) lane: LaneId,
    /// The class its connection was asked for.
    pub(super) asked: Class,
    /// Whose mail it carries, or carried last.
    pub(super) tenant: TenantId,
    pub(super) permit: Permit,
    /// When to renew the permit.
    pub(super) renew_at: Timestamp,
    /// Recipients at MAIL since the permit was acquired.
    pub(super) used: u32,
    /// What is left of the permit's messages.
    pub(super) left: u32,
    /// Nothing was sent since the last grant: then what there is must do.
    pub(super) fresh: bool,
    /// Messages it has carried.
    pub(super) carried: u32,
    /// It has brought at least one message to an end.
    pub(super) useful: bool,
    pub(super) stage: TalkStage,
    /// A renewal that is out.
    pub(super) request: Option<RequestId>,
    /// Not to ask for more before.
    pub(super) ask_at: Option<Timestamp>,
    /// Its permit ended while it was busy.
    pub(super) lapsed: bool,
}

/// What a conversation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TalkStage {
    /// It is being opened, for this ticket if nobody else has taken it.
    Opening(Option<Ticket>),
    /// Greeted, and nothing to do (or no leave to do it).
    Idle { since: Timestamp },
    /// Waiting for the body of its next message.
    Reading(Ticket),
    /// Carrying a message.
    Busy(Ticket),
    /// Being closed.
    Closing,
}

/// A permit is renewed when this much of its life is over.
fn renewal(permit: &Permit, now: Timestamp) -> Timestamp {
    now.after(permit.until.since(now) * 2 / 3)
}

impl Talk {
    pub(super) fn new(
        lane: LaneId,
        asked: Class,
        tenant: TenantId,
        permit: Permit,
        ticket: Ticket,
        now: Timestamp,
    ) -> Self {
        Self {
            lane,
            asked,
            tenant,
            permit,
            renew_at: renewal(&permit, now),
            used: 0,
            left: permit.messages,
            fresh: true,
            carried: 0,
            useful: false,
            stage: TalkStage::Opening(Some(ticket)),
            request: None,
            ask_at: None,
            lapsed: false,
        }
    }

    /// Takes the answer to a renewal.
    pub(super) fn renewed(&mut self, permit: Permit, now: Timestamp) {
        if permit.id != self.permit.id {
            self.used = 0;
        }
        self.permit = permit;
        self.renew_at = renewal(&permit, now);
        self.left = permit.messages;
        self.fresh = true;
        self.ask_at = None;
        self.lapsed = false;
    }

    /// What was left of the messages is given back with a question for more.
    pub(super) fn asks(&mut self, request: RequestId) {
        self.request = Some(request);
        self.ask_at = None;
        if self.left != Permit::UNLIMITED {
            self.left = 0;
        }
    }

    /// Counts a message to so many recipients.
    pub(super) fn carries(&mut self, ticket: Ticket, recipients: u32) {
        self.stage = TalkStage::Busy(ticket);
        self.carried += 1;
        self.used = self.used.saturating_add(recipients);
        self.fresh = false;
        if self.left != Permit::UNLIMITED {
            self.left = self.left.saturating_sub(recipients);
        }
    }

    /// Whether it could take a message at once, as far as it knows.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.stage, TalkStage::Idle { .. }) && self.request.is_none() && self.ask_at.is_none()
    }

    /// Whether it may carry mail of this class.
    pub(super) fn may_carry(&self, class: Class) -> bool {
        class == Class::Transactional || self.permit.class == Class::Bulk
    }

    /// Whether it may take no further message.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.permit.until <= now || self.carried >= self.permit.messages_per_connection.max(1)
    }

    /// To how many of `cost` recipients the next message may go; `None` if leave must be asked for first.
    pub(super) fn leave_for(&self, cost: u32, now: Timestamp) -> Option<u32> {
        if self.permit.messages_until <= now || self.left == 0 {
            None
        } else if self.left >= cost {
            Some(cost)
        } else {
            self.fresh.then_some(self.left)
        }
    }

    /// When to look at it again.
    pub(super) fn wake_at(&self, idle_timeout: Duration) -> Option<Timestamp> {
        let renewal = self.ask_at.unwrap_or(self.renew_at);
        match self.stage {
            TalkStage::Closing => None,
            TalkStage::Busy(_) if self.lapsed => None,
            TalkStage::Idle { .. } if self.request.is_some() => Some(self.permit.until),
            TalkStage::Idle { since } => Some(self.ask_at.unwrap_or(since.after(idle_timeout)).min(self.permit.until)),
            TalkStage::Opening(_) | TalkStage::Reading(_) | TalkStage::Busy(_) if self.request.is_some() => {
                Some(self.permit.until)
            }
            TalkStage::Opening(_) | TalkStage::Reading(_) | TalkStage::Busy(_) => Some(renewal.min(self.permit.until)),
        }
    }
}
