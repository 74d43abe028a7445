//! How many of the connections each tenant has, and when one of his gives way to who waits for one.

use std::collections::HashMap;

use postrider_model::{Class, TenantId, TenantWeight, WaitReason};

use super::{Conversation, Dispatcher};

/// Conversations by the tenants they last carried something of.
#[derive(Debug, Default)]
pub(super) struct Shares {
    tenants: HashMap<TenantId, Share>,
    /// What all of these tenants weigh together.
    weights: u64,
}

#[derive(Debug)]
struct Share {
    conversations: usize,
    weight: u64,
}

impl Shares {
    /// One conversation more.
    pub(super) fn add(&mut self, tenant: &TenantId, weight: TenantWeight) {
        if let Some(share) = self.tenants.get_mut(tenant) {
            share.conversations += 1;
            return;
        }
        let weight = u64::from(weight.get());
        self.weights += weight;
        self.tenants.insert(tenant.clone(), Share { conversations: 1, weight });
    }

    /// One less.
    pub(super) fn remove(&mut self, tenant: &TenantId) {
        let Some(share) = self.tenants.get_mut(tenant) else { return };
        share.conversations -= 1;
        if share.conversations == 0 {
            self.weights -= share.weight;
            self.tenants.remove(tenant);
        }
    }

    /// Whether every count is back at nothing.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty() && self.weights == 0
    }

    /// Whether a tenant has more than its share of so many, one more tenant counted.
    fn is_exceeded(&self, tenant: &TenantId, of: usize) -> bool {
        let of = u64::try_from(of).unwrap_or(u64::MAX);
        self.tenants.get(tenant).is_some_and(|share| {
            let conversations = u64::try_from(share.conversations).unwrap_or(u64::MAX);
            conversations.saturating_mul(self.weights + 1) > of.saturating_mul(share.weight)
        })
    }
}

impl Dispatcher {
    /// Notes whose mail a conversation carries from now on.
    pub(super) fn carries_for(&mut self, id: Conversation, tenant: &TenantId) {
        let weight = self.weight_of(tenant);
        let Some(talk) = self.conversations.get_mut(&id).filter(|talk| talk.tenant != *tenant) else { return };
        self.shares.remove(&talk.tenant);
        self.shares.add(tenant, weight);
        talk.tenant = tenant.clone();
    }

    /// Whether a conversation that has ended a message is to be closed, because another tenant waits for a connection: anywhere
    /// while this one has more than its share; or to another exchange of the same path that has none, once this conversation
    /// has carried enough.
    pub(super) fn gives_way(&mut self, id: Conversation) -> bool {
        let Some((class, ticket, _)) = self.next_for(id) else { return false };
        let Some(tenant) = self.index.get(ticket).map(|held| held.entry.tenant.clone()) else { return false };
        // Bulk never goes before transactional mail.
        let waiting = match class {
            Class::Transactional => &[Class::Transactional][..],
            Class::Bulk => &Class::ALL[..],
        };
        waiting.iter().any(|&class| self.leaves_room(class, &tenant) || self.leaves_path(id, class, &tenant))
    }

    /// Whether a tenant has more than its share of this process's connections, and not enough are being closed for the others.
    fn leaves_room(&self, class: Class, tenant: &TenantId) -> bool {
        !self.has_room_for_conversation(class)
            && self.closing < self.turns[class].others_than(tenant)
            && self.shares.is_exceeded(tenant, self.config.conversations)
    }

    /// Whether the limit of a conversation's path is what others wait for, for an exchange that has no connection, and either
    /// it is long since they had one or this conversation has carried enough.
    fn leaves_path(&self, id: Conversation, class: Class, tenant: &TenantId) -> bool {
        let Some(talk) = self.conversations.get(&id) else { return false };
        let Some((_, path)) = self.lanes.both(talk.lane) else { return false };
        if path.closing > 0 || path.wait[class].is_none_or(|wait| wait.reason != WaitReason::ConnectionLimit) {
            return false;
        }
        let Some((&first, is_fresh)) = path.wanting[class].first_but(tenant) else { return false };
        let first = self.lanes.lane(first).filter(|_| is_fresh || talk.carried >= self.config.quantum);
        first.is_some_and(|other| other.conversations == 0 && other.wants(class, &self.config, self.now))
    }
}
