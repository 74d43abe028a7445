//! A queue that several tenants share fairly: deficit round robin (Shreedhar and Varghese 1995) over first-in-first-out
//! queues, counted in recipients. Who has had nothing in it has one turn before the others, and none like it until the round
//! is over (as flows in RFC 8290 section 4.2). Any ticket can be taken out of the middle. It knows nothing of paths or time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use postrider_model::{TenantId, TenantWeight};

use super::Ticket;

/// Where a ticket stands in its tenant's queue. Smaller is nearer its turn.
pub(super) type Place = i64;

/// The ready envelopes of one class in one lane.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    tenants: HashMap<TenantId, TenantQueue>,
    /// Tenants that have had no turn since they came. With those of the ring: every tenant with something ready once, and
    /// maybe some without.
    fresh: VecDeque<TenantId>,
    /// All others. Who has nothing ready is dropped when his turn comes, and no earlier: till then he is not new again.
    ring: VecDeque<TenantId>,
    /// Every tenant with something ready, by the cost of it.
    by_cost: BTreeSet<(u64, TenantId)>,
    length: usize,
    cost: u64,
    /// What those with something ready weigh together.
    weights: u64,
}

#[derive(Debug, Default)]
struct TenantQueue {
    tickets: Row,
    cost: u64,
    /// What may still be sent in this turn.
    deficit: u64,
    /// Whether it is its turn and the turn's quantum has been given.
    on_turn: bool,
    weight: TenantWeight,
}

/// Tickets with their costs, side by side in the order of their places. One that is taken out of the middle leaves a gap, and
/// there is none at either end.
#[derive(Debug, Default)]
struct Row {
    tickets: VecDeque<(Ticket, u32)>,
    first: Place,
}

/// No ticket: dispatchers count from 0.
const GAP: (Ticket, u32) = (Ticket(u64::MAX), 0);

impl Row {
    fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    fn first(&self) -> Option<(Place, (Ticket, u32))> {
        self.tickets.front().map(|&ticket| (self.first, ticket))
    }

    fn last(&self) -> Option<(Ticket, u32)> {
        self.tickets.back().copied()
    }

    fn in_order(&self) -> impl Iterator<Item = (Ticket, u32)> {
        self.tickets.iter().copied().filter(|&ticket| ticket != GAP)
    }

    fn push_back(&mut self, ticket: (Ticket, u32)) -> Place {
        self.tickets.push_back(ticket);
        self.first + Place::try_from(self.tickets.len()).unwrap_or(Place::MAX) - 1
    }

    fn push_front(&mut self, ticket: (Ticket, u32)) -> Place {
        self.tickets.push_front(ticket);
        self.first -= 1;
        self.first
    }

    fn remove(&mut self, place: Place) -> Option<(Ticket, u32)> {
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

impl FairQueue {
    /// How many tickets are in it.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// What all of them cost.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// How much lies before a newcomer of this tenant, if all tenants get their share.
    pub(super) fn cost_before(&self, tenant: &TenantId) -> u64 {
        let queue = self.tenants.get(tenant).filter(|queue| queue.cost > 0);
        let Some(queue) = queue else { return self.cost.min(1) };
        let rounds = queue.cost.saturating_mul(self.weights) / u64::from(queue.weight.get());
        self.cost.min(rounds.saturating_add(queue.cost))
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

    /// Takes a ticket out of the middle.
    pub(super) fn remove(&mut self, tenant: &TenantId, place: Place) {
        let Some(queue) = self.tenants.get_mut(tenant) else { return };
        let Some((_, cost)) = queue.tickets.remove(place) else { return };
        let before = queue.cost;
        queue.cost -= u64::from(cost);
        let after = queue.cost;
        self.recount(tenant, before, after);
        self.length -= 1;
        self.cost -= u64::from(cost);
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
    pub(super) fn pop(&mut self, quantum: u32) -> Option<Ticket> {
        let (ticket, cost) = self.next(quantum)?;
        let tenant = self.next_tenant(quantum)?.clone();
        let queue = self.tenants.get_mut(&tenant)?;
        queue.deficit -= u64::from(cost);
        let (place, _) = queue.tickets.first()?;
        self.remove(&tenant, place);
        Some(ticket)
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
        self.length += 1;
        self.cost += u64::from(cost);
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const QUANTUM: u32 = 100;

    fn tenant(number: u8) -> TenantId {
        format!("tenant{number}").parse().unwrap()
    }

    #[derive(Clone, Debug)]
    enum Event {
        Push { tenant: u8, cost: u32 },
        Pop,
        PutBack,
        Remove { which: usize },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..5u8, 1..100u32).prop_map(|(tenant, cost)| Event::Push { tenant, cost }),
            3 => Just(Event::Pop),
            1 => Just(Event::PutBack),
            1 => any::<usize>().prop_map(|which| Event::Remove { which }),
        ]
    }

    /// Tickets by tenant in their order, as a list that is searched through.
    #[derive(Default)]
    struct Model(Vec<(u8, Place, Ticket, u32)>);

    impl Model {
        fn first_of(&self, ticket: Ticket) -> bool {
            let Some(found) = self.0.iter().find(|(_, _, other, _)| *other == ticket) else { return false };
            self.0.iter().all(|(tenant, place, _, _)| *tenant != found.0 || *place >= found.1)
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_tenant_is_first_in_first_out(events in vec(event(), 1..300)) {
            let (mut queue, mut model, mut popped) = (FairQueue::default(), Model::default(), None);
            for (number, event) in events.iter().enumerate() {
                match *event {
                    Event::Push { tenant: number_of_tenant, cost } => {
                        let ticket = Ticket(number as u64);
                        let place = queue.push_back(&tenant(number_of_tenant), TenantWeight::default(), ticket, cost);
                        model.0.push((number_of_tenant, place, ticket, cost));
                    }
                    Event::Pop => match queue.pop(QUANTUM) {
                        Some(ticket) => {
                            prop_assert!(model.first_of(ticket));
                            let at = model.0.iter().position(|(_, _, other, _)| *other == ticket).unwrap();
                            popped = Some(model.0.remove(at));
                        }
                        None => prop_assert!(model.0.is_empty()),
                    },
                    Event::PutBack => if let Some((number, _, ticket, cost)) = popped.take() {
                        let place = queue.put_back(&tenant(number), TenantWeight::default(), ticket, cost);
                        model.0.push((number, place, ticket, cost));
                        prop_assert!(model.first_of(ticket));
                    },
                    Event::Remove { which } => if !model.0.is_empty() {
                        let (number, place, _, _) = model.0.remove(which % model.0.len());
                        queue.remove(&tenant(number), place);
                    },
                }
                prop_assert_eq!(queue.len(), model.0.len());
                prop_assert_eq!(queue.cost(), model.0.iter().map(|(_, _, _, cost)| u64::from(*cost)).sum::<u64>());
                prop_assert_eq!(queue.next(QUANTUM).is_some(), !model.0.is_empty());
            }
        }

        #[test]
        fn tenants_with_work_get_the_same_up_to_two_turns(costs in vec((0..4u8, 1..100u32), 100..600)) {
            let mut queue = FairQueue::default();
            let mut left: HashMap<u8, u32> = HashMap::new();
            let mut tickets = HashMap::new();
            for (number, (tenant_number, cost)) in costs.iter().enumerate() {
                let ticket = Ticket(number as u64);
                queue.push_back(&tenant(*tenant_number), TenantWeight::default(), ticket, *cost);
                *left.entry(*tenant_number).or_default() += 1;
                tickets.insert(ticket, (*tenant_number, u64::from(*cost)));
            }
            let mut served: HashMap<u8, u64> = left.keys().map(|tenant| (*tenant, 0)).collect();
            // Until the first has nothing left.
            while left.values().all(|left| *left > 0) {
                let (tenant, cost) = tickets[&queue.pop(QUANTUM).unwrap()];
                *served.get_mut(&tenant).unwrap() += cost;
                *left.get_mut(&tenant).unwrap() -= 1;
                let (least, most) = (served.values().min().unwrap(), served.values().max().unwrap());
                prop_assert!(most - least <= 2 * u64::from(QUANTUM), "{served:?}");
            }
        }
    }
}
