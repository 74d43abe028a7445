//! A queue that several tenants share fairly: deficit round robin (Shreedhar and Varghese 1995) over first-in-first-out
//! queues, counted in recipients. Who has had nothing in it has one turn before the others, and none like it until the round
//! is over (as flows in RFC 8290 section 4.2). Any ticket can be taken out of the middle. It knows nothing of paths or time.

mod row;

mod shared;

use std::collections::HashMap;

use postrider_model::{TenantId, TenantWeight};

use super::Ticket;
use shared::{Shared, TenantQueue};

/// Where a ticket stands in its tenant's queue. Smaller is nearer its turn.
pub(super) type Place = i64;

/// The ready envelopes of one class in one lane. Nearly every lane has one tenant's mail at a time: there is nothing to share
/// then, and hardly any memory is needed.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    /// The only tenant.
    one: Option<(TenantId, TenantQueue)>,
    /// Or several of them, until nothing is left.
    several: Option<Box<Shared>>,
    length: usize,
    cost: u64,
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
        match (&self.several, &self.one) {
            (Some(shared), _) => self.cost.min(shared.cost_before(tenant)),
            (None, Some((one, _))) if one == tenant => self.cost,
            (None, _) => self.cost.min(1),
        }
    }

    /// Puts a ticket behind its tenant's others.
    pub(super) fn push_back(&mut self, tenant: &TenantId, weight: TenantWeight, ticket: Ticket, cost: u32) -> Place {
        self.length += 1;
        self.cost += u64::from(cost);
        match self.queue_alone(tenant, weight) {
            Some(queue) => queue.push_back(ticket, cost),
            None => self.shared().push_back(tenant, weight, ticket, cost),
        }
    }

    /// Puts a ticket that was taken back before its tenant's others, and gives back what its turn cost.
    pub(super) fn put_back(&mut self, tenant: &TenantId, weight: TenantWeight, ticket: Ticket, cost: u32) -> Place {
        self.length += 1;
        self.cost += u64::from(cost);
        match self.queue_alone(tenant, weight) {
            Some(queue) => queue.push_front(ticket, cost),
            None => self.shared().put_back(tenant, weight, ticket, cost),
        }
    }

    /// Takes a ticket out of the middle.
    pub(super) fn remove(&mut self, tenant: &TenantId, place: Place) {
        let cost = match (&mut self.several, &mut self.one) {
            (Some(shared), _) => shared.remove(tenant, place),
            (None, Some((one, queue))) if one == tenant => queue.remove(place),
            (None, _) => None,
        };
        if let Some(cost) = cost {
            self.removed(cost);
        }
    }

    /// The ticket whose turn it is, and its cost.
    pub(super) fn next(&mut self, quantum: u32) -> Option<(Ticket, u32)> {
        match &mut self.several {
            Some(shared) => shared.next(quantum),
            None => self.one.as_ref()?.1.tickets.first().map(|(_, ticket)| ticket),
        }
    }

    /// Whose turn it is.
    pub(super) fn next_tenant(&mut self, quantum: u32) -> Option<&TenantId> {
        match &mut self.several {
            Some(shared) => shared.next_tenant(quantum),
            None => self.one.as_ref().map(|(tenant, _)| tenant),
        }
    }

    /// Takes the ticket whose turn it is.
    pub(super) fn pop(&mut self, quantum: u32) -> Option<Ticket> {
        let (ticket, cost) = match &mut self.several {
            Some(shared) => shared.pop(quantum)?,
            None => self.one.as_mut()?.1.pop()?,
        };
        self.removed(cost);
        Some(ticket)
    }

    /// The ticket furthest from its turn: the last of the tenant with the most.
    pub(super) fn last(&self) -> Option<Ticket> {
        match &self.several {
            Some(shared) => shared.last(),
            None => self.one.as_ref()?.1.tickets.last().map(|(ticket, _)| ticket),
        }
    }

    /// The next few tickets, about in the order of their turns.
    pub(super) fn upcoming(&self, most: usize) -> Vec<Ticket> {
        match (&self.several, &self.one) {
            (Some(shared), _) => shared.upcoming(most),
            (None, Some((_, queue))) => queue.tickets.in_order().take(most).map(|(ticket, _)| ticket).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// The weights are others from now on.
    pub(super) fn set_weights(&mut self, weights: &HashMap<TenantId, TenantWeight>) {
        if let Some((tenant, queue)) = &mut self.one {
            queue.weight = weights.get(tenant).copied().unwrap_or_default();
        }
        if let Some(shared) = &mut self.several {
            shared.set_weights(weights);
        }
    }

    /// The queue of a tenant that is alone here.
    fn queue_alone(&mut self, tenant: &TenantId, weight: TenantWeight) -> Option<&mut TenantQueue> {
        if self.several.is_some() {
            return None;
        }
        let alone = || (tenant.clone(), TenantQueue::new(weight));
        let (one, queue) = self.one.get_or_insert_with(alone);
        (one == tenant).then_some(queue)
    }

    /// For several tenants from now on.
    fn shared(&mut self) -> &mut Shared {
        let one = self.one.take();
        self.several.get_or_insert_with(|| Box::new(Shared::after(one)))
    }

    fn removed(&mut self, cost: u32) {
        self.length -= 1;
        self.cost -= u64::from(cost);
        if self.length == 0 {
            (self.one, self.several) = (None, None);
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
