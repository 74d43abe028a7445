//! An envelope arrives: what is held already is no second one, what moved elsewhere is passed on. The shape of
//! `services/delivery/src/worker/arrive.rs`.

use postrider_dispatch::dispatcher::{Fact, Ticket};
use postrider_model::{Reply, Timestamp};

use super::{Arrival, Held, Input, Settling, Worker};
use crate::jetstream::Token;
use crate::process::settlement::Unfinished;
use crate::process::shard::{OnTheWay, finish};
use crate::spool::Leased;

impl Worker {
    pub(super) fn arrive(&mut self, arrival: Arrival, on_the_way: OnTheWay) {
        let (held, order, move_on) = match arrival {
            Arrival::Dispatch(held) => (held, None, None),
            Arrival::Unresolvable(held) => (Held { resolved: false, ..held }, None, None),
            Arrival::Ordered(held, order) => (held, Some(order), None),
            Arrival::Elsewhere(held, settle) => (held, None, Some(settle)),
        };
        let Some(shard) = self.shards.get(&held.shard).filter(|_| !on_the_way.is_void()) else { return };
        let id = held.packet.id();
        if let Some(ticket) = self.known.get(&id).copied() {
            return self.renew_lease(ticket, held.token);
        }
        if let Some(settle) = shard.floor.settlements.repeat(&held.packet) {
            let leased =
                Leased { token: held.token, stored: Timestamp::default(), payload: crate::nats::Payload::Gone };
            let settlements = &shard.floor.settlements;
            return finish(&self.here, &self.inputs, settlements, settle, leased, held.packet, on_the_way);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.known.insert(id, ticket);
        if let Some(settle) = move_on {
            let (settlements, inputs) = (shard.floor.settlements.clone(), self.inputs.clone());
            self.settling.insert(ticket, Settling { shard: held.shard, id, repeats: Vec::new() });
            return self.here.spawn(async move {
                let settled = settlements.settle(*settle, held.token, held.packet).await;
                drop(on_the_way);
                drop(inputs.send(match settled {
                    Ok(()) => Input::Settled(ticket),
                    Err(Unfinished::Left) => Input::LeftBehind(ticket),
                    Err(Unfinished::Lost) => Input::Left,
                }));
            });
        }
        let entry = held.entry(ticket);
        let resolved = held.resolved;
        // Rules may have changed since it was looked up.
        let order = self.ordered(&held).or(order);
        self.held.insert(ticket, held);
        self.fact(match order {
            Some(order) => Fact::ArrivedUnder { entry, order },
            None => Fact::Arrived(entry),
        });
        if !resolved {
            let reply = Reply::new(451, None, "no answer from DNS");
            self.fact(Fact::Unresolvable { ticket, permanent: false, reply });
        }
    }

    pub(super) fn renew_lease(&mut self, ticket: Ticket, again: Token) {
        match (self.held.get_mut(&ticket), self.settling.get_mut(&ticket)) {
            (Some(held), _) if held.token.sequence == again.sequence => held.token = again,
            (_, Some(settling)) => settling.repeats.push(again),
            (Some(_) | None, _) => self.acknowledge(again),
        }
    }
}
