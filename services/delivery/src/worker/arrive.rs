//! What the worker does with an envelope that has arrived: one that it has already is no second one, one whose site is another by
//! now is passed on, every other comes into the index.

use postrider_dispatch::dispatcher::{Fact, Ticket};
use postrider_dispatch::settle::Settle;
use postrider_model::EnvelopeId;
use postrider_nats::Handle;

use super::{EXTRA, Input, Settling, Worker};
use crate::arrivals::{OnTheWay, finish, repeat};
use crate::held::{Arrival, Held};
use crate::settlement::{Settlements, Unfinished};

impl Worker {
    pub(super) fn arrive(&mut self, arrival: Arrival, on_the_way: OnTheWay) {
        let (mut held, failure, order, elsewhere) = match arrival {
            Arrival::Dispatch(held) => (held, None, None, None),
            Arrival::Unresolvable(held, failure) => (held, Some(failure), None, None),
            Arrival::Ordered(held, order) => (held, None, Some(order), None),
            Arrival::Elsewhere(held, settle) => (held, None, None, Some(settle)),
        };
        let Some(shard) = self.shards.get(&held.shard).filter(|_| !on_the_way.is_void()) else {
            // Lost meanwhile: the lease is the next owner's to RESET.
            return;
        };
        let Some(packet) = held.packet() else { return };
        let id = packet.id();
        // What comes again while it is held or being settled is no second envelope.
        if let Some(ticket) = self.dispatcher.ticket_of(&id).or_else(|| self.passing.get(&id).copied()) {
            self.renew_lease(ticket, held.handle, held.sequence);
            return;
        }
        // It may have come twice, and its twin been settled while this one waited for DNS.
        if let Some(settle) = repeat(&shard.floor.settlements, packet) {
            let settlements = shard.floor.settlements.clone();
            if let Some(loaded) = held.loaded {
                finish(settlements, settle, held.handle, loaded.packet, on_the_way, self.inputs.clone());
            }
            return;
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if let Some(settle) = elsewhere {
            let settlements = shard.floor.settlements.clone();
            return self.pass_on(ticket, id, held, settle, settlements, on_the_way);
        }
        let Some(entry) = held.entry(ticket, self.tools.source) else { return };
        // Rules may have changed since it was looked up.
        let order = self.ordered(&held).or(order);
        if !entry.body_held {
            self.extra += 1;
            if self.extra > EXTRA {
                self.unload(&mut held);
            }
        }
        self.held.insert(ticket, Box::new(held));
        self.fact(match order {
            Some(order) => Fact::ArrivedUnder { entry, order },
            None => Fact::Arrived(entry),
        });
        if let Some(failure) = failure {
            self.fact(Fact::Unresolvable { ticket, permanent: failure.is_permanent(), reply: failure.reply() });
        }
    }

    /// An envelope that we have came again. If it is the same record, its consumer was made anew, and the lease we had means
    /// nothing any more. If it is another one, a move was made twice, and one of the two is enough.
    fn renew_lease(&mut self, ticket: Ticket, again: Handle, sequence: u64) {
        match (self.held.get_mut(&ticket), self.settling.get_mut(&ticket)) {
            (Some(held), _) if held.sequence == sequence => held.handle = again,
            (_, Some(settling)) => settling.repeats.push(again),
            (Some(_) | None, _) => self.acknowledge(again),
        }
    }

    /// A part whose site is another by now goes to the shard of that site. What comes again of it meanwhile is no second one.
    fn pass_on(
        &mut self,
        ticket: Ticket,
        id: EnvelopeId,
        held: Held,
        settle: Box<Settle>,
        settlements: Settlements,
        on_the_way: OnTheWay,
    ) {
        let Held { handle, shard, loaded: Some(loaded), .. } = held else { return };
        self.tools.metrics.moved("site", loaded.packet.envelope().class);
        self.passing.insert(id, ticket);
        self.settling.insert(ticket, Settling { shard, repeats: Vec::new(), passing: Some(id) });
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            let settled = settlements.settle(*settle, handle, loaded.packet).await;
            drop(on_the_way);
            let input = match settled {
                Ok(()) => Input::Settled(ticket),
                Err(Unfinished::Left) => Input::LeftBehind(ticket),
                // A shard that is lost takes the rest with it.
                Err(Unfinished::Lost) => Input::Left,
            };
            // The worker ends only with the process.
            drop(inputs.send(input).await);
        });
    }
}
