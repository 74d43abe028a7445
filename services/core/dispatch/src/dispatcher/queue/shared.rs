//! Deficit round robin between several tenants.

use std::collections::{BTreeSet, HashMap, VecDeque};

use postrider_model::{TenantId, TenantWeight};

use super::row::Row;
use super::{Place, Ticket};

/// Several tenants' envelopes.
#[derive(Debug, Default)]
pub(super) struct Shared {
    tenants: HashMap<TenantId, TenantQueue>,
    /// Tenants that have had no turn since they came. With those of the ring: every tenant with something ready once, and
    /// maybe some without.
    fresh: VecDeque<TenantId>,
    /// All others. Who has nothing ready is dropped when his turn comes, and no earlier: till then he is not new again.
    ring: VecDeque<TenantId>,
    /// Every tenant with something ready, by the cost of it.
    by_cost: BTreeSet<(u64, TenantId)>,
    /// What those with something ready weigh together.
    weights: u64,
}

#[derive(Debug, Default)]
pub(super) struct TenantQueue {
    pub(super) tickets: Row,
    pub(super) cost: u64,
    /// What may still be sent in this turn.
    deficit: u64,
    /// Whether it is its turn and the turn's quantum has been given.
    on_turn: bool,
    pub(super) weight: TenantWeight,
}

impl TenantQueue {
    pub(super) fn new(weight: TenantWeight) -> Self {
        Self { weight, ..Self::default() }
    }

    pub(super) fn push_back(&mut self, ticket: Ticket, cost: u32) -> Place {
        self.cost += u64::from(cost);
        self.tickets.push_back((ticket, cost))
    }

    pub(super) fn push_front(&mut self, ticket: Ticket, cost: u32) -> Place {
        self.cost += u64::from(cost);
        self.tickets.push_front((ticket, cost))
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<u32> {
        let (_, cost) = self.tickets.remove(place)?;
        self.cost -= u64::from(cost);
        Some(cost)
    }

    pub(super) fn pop(&mut self) -> Option<(Ticket, u32)> {
        let (place, first) = self.tickets.first()?;
        self.remove(place);
        Some(first)
    }
}

impl Shared {
    /// A queue that had one tenant so far, who has had his turns.
    pub(super) fn after(one: Option<(TenantId, TenantQueue)>) -> Self {
        let mut shared = Self::default();
        if let Some((tenant, queue)) = one {
            let cost = queue.cost;
            shared.ring.push_back(tenant.clone());
            shared.tenants.insert(tenant.clone(), queue);
            shared.recount(&tenant, 0, cost);
        }
        shared
    }

    /// How much lies before a newcomer of this tenant, if all tenants get their share, whatever there is.
    pub(super) fn cost_before(&self, tenant: &TenantId) -> u64 {
        let queue = self.tenants.get(tenant).filter(|queue| queue.cost > 0);
        let Some(queue) = queue else { return 1 };
        let rounds = queue.cost.saturating_mul(self.weights) / u64::from(queue.weight.get());
        rounds.saturating_add(queue.cost)
    }

    /// Puts a ticket behind its tenant's others.
    pub(super) fn push_back(&mut self, tenant: &TenantId, weight: TenantWeight, ticket: Ticket, cost: u32) -> Place {
        let place = self.queue(tenant, weight).tickets.push_back((ticket, cost));
        self.inserted(tenant, cost);
        place
    }

    /// Puts a ticket that was taken back before its tenant's others, and gives back what its turn cost.
    pub(super) fn put_back(&mut self, tenant: &TenantId, weight: TenantWeight, ticket: Ticket, cost: u32) -> Place {
        let queue = self.queue(tenant, weight);
        queue.deficit += u64::from(cost);
        let place = queue.tickets.push_front((ticket, cost));
        self.inserted(tenant, cost);
        place
    }

    /// Takes a ticket out of the middle: what it costs.
    pub(super) fn remove(&mut self, tenant: &TenantId, place: Place) -> Option<u32> {
        let queue = self.tenants.get_mut(tenant)?;
        let (_, cost) = queue.tickets.remove(place)?;
        let before = queue.cost;
        queue.cost -= u64::from(cost);
        let after = queue.cost;
        self.recount(tenant, before, after);
        Some(cost)
    }

    /// The ticket whose turn it is, and its cost.
    pub(super) fn next(&mut self, quantum: u32) -> Option<(Ticket, u32)> {
        loop {
            let is_fresh = !self.fresh.is_empty();
            let turns = if is_fresh { &mut self.fresh } else { &mut self.ring };
            let queue = self.tenants.get_mut(turns.front()?)?;
            if let Some((_, (ticket, cost))) = queue.tickets.first() {
                if !queue.on_turn {
                    queue.on_turn = true;
                    queue.deficit += u64::from(quantum.max(1)) * u64::from(queue.weight.get());
                }
                if queue.deficit >= u64::from(cost) {
                    return Some((ticket, cost));
                }
            }
            queue.on_turn = false;
            let is_over = queue.tickets.is_empty() && !is_fresh;
            let tenant = turns.pop_front()?;
            if is_over {
                self.tenants.remove(&tenant);
            } else {
                self.ring.push_back(tenant);
            }
        }
    }

    /// Whose turn it is.
    pub(super) fn next_tenant(&mut self, quantum: u32) -> Option<&TenantId> {
        self.next(quantum)?;
        self.fresh.front().or(self.ring.front())
    }

    /// Takes the ticket whose turn it is.
    pub(super) fn pop(&mut self, quantum: u32) -> Option<(Ticket, u32)> {
        let (ticket, cost) = self.next(quantum)?;
        let tenant = self.next_tenant(quantum)?.clone();
        let queue = self.tenants.get_mut(&tenant)?;
        queue.deficit -= u64::from(cost);
        let (place, _) = queue.tickets.first()?;
        self.remove(&tenant, place);
        Some((ticket, cost))
    }

    /// The ticket furthest from its turn: the last of the tenant with the most.
    pub(super) fn last(&self) -> Option<Ticket> {
        let (_, tenant) = self.by_cost.last()?;
        self.tenants.get(tenant)?.tickets.last().map(|(ticket, _)| ticket)
    }

    /// The next few tickets, about in the order of their turns.
    pub(super) fn upcoming(&self, most: usize) -> Vec<Ticket> {
        let mut found = Vec::new();
        for tenant in self.fresh.iter().chain(&self.ring).take(most) {
            let Some(queue) = self.tenants.get(tenant) else { continue };
            found.extend(queue.tickets.in_order().take(most - found.len()).map(|(ticket, _)| ticket));
            if found.len() >= most {
                break;
            }
        }
        found
    }

    /// The weights are others from now on.
    pub(super) fn set_weights(&mut self, weights: &HashMap<TenantId, TenantWeight>) {
        for (tenant, queue) in &mut self.tenants {
            queue.weight = weights.get(tenant).copied().unwrap_or_default();
        }
        let weights = self.tenants.values().filter(|queue| queue.cost > 0).map(|queue| u64::from(queue.weight.get()));
        self.weights = weights.sum();
    }

    fn queue(&mut self, tenant: &TenantId, weight: TenantWeight) -> &mut TenantQueue {
        if !self.tenants.contains_key(tenant) {
            self.fresh.push_back(tenant.clone());
        }
        let queue = self.tenants.entry(tenant.clone()).or_default();
        if queue.tickets.is_empty() {
            queue.weight = weight;
            // Nothing is saved for later turns.
            if !queue.on_turn {
                queue.deficit = 0;
            }
        }
        queue
    }

    fn inserted(&mut self, tenant: &TenantId, cost: u32) {
        let Some(queue) = self.tenants.get_mut(tenant) else { return };
        let before = queue.cost;
        queue.cost += u64::from(cost);
        let after = queue.cost;
        self.recount(tenant, before, after);
    }

    fn recount(&mut self, tenant: &TenantId, before: u64, after: u64) {
        let weight = self.tenants.get(tenant).map_or(0, |queue| u64::from(queue.weight.get()));
        if before > 0 {
            self.by_cost.remove(&(before, tenant.clone()));
            self.weights -= weight;
        }
        if after > 0 {
            self.by_cost.insert((after, tenant.clone()));
            self.weights += weight;
        }
    }
}
