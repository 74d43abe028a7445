//! An owner of the shard: takes over, settles, and is cut off by a crash.

use postrider_model::{EnvelopeId, Move, Timestamp};

use super::world::{Copy, Crashed, StoredBody, World, id};
use crate::settle::{DoneSet, Settle, SettlePlan, SettleStep, SettledThrough, moved_state};

/// An owner of the shard, from its takeover to its crash.
pub(super) struct Owner {
    done: DoneSet,
    through: SettledThrough,
}

impl Owner {
    pub(super) fn take_over(world: &World) -> Self {
        let (mut done, mut through) = (DoneSet::new(), SettledThrough::starting_at(world.settled_through));
        for (sequence, id, next) in world.events.iter().filter(|(sequence, ..)| *sequence > world.settled_through) {
            done.replayed(*id, next.clone());
            through.replayed(*sequence, *id);
        }
        Self { done, through }
    }

    /// Works until nothing is left. `script` is the next move by hop.
    pub(super) fn work(&mut self, world: &mut World, script: &[Move]) -> Result<(), Crashed> {
        // What was in READY at the takeover comes first.
        for copy in world.ready.clone() {
            self.take(world, &copy, script)?;
        }
        self.done.caught_up(Timestamp::default());
        self.through.caught_up();
        world.settled_through = self.through.through();
        while world.lives() {
            for copy in world.ready.clone() {
                self.take(world, &copy, script)?;
            }
            world.promote()?;
        }
        Ok(())
    }

    fn take(&mut self, world: &mut World, copy: &Copy, script: &[Move]) -> Result<(), Crashed> {
        let id = id(copy.state.hop);
        let settle = self.done.repeat(id, copy.body.state()).unwrap_or_else(|| {
            world.conversations += 1;
            let next = script[usize::try_from(copy.state.hop).unwrap()].clone();
            Settle::new(SettlePlan { id, record: Some(record(id, &next)), body: copy.body.state(), next })
        });
        self.through.resumed(&id);
        self.settle(world, copy, settle)
    }

    fn settle(&mut self, world: &mut World, old: &Copy, mut settle: Settle) -> Result<(), Crashed> {
        let mut body = old.body;
        loop {
            let moved = || moved_state(&old.state, settle.next_move()).map(|state| Copy { state, body });
            match settle.step() {
                SettleStep::Record => {
                    let sequence = u64::try_from(world.events.len()).unwrap() + 1;
                    let flush = self.through.flush_begun();
                    let next = settle.next_move().clone();
                    world.effect(|world| world.events.push((sequence, settle.id(), next.clone())))?;
                    self.done.recorded(settle.id(), next);
                    self.through.recorded(flush, sequence, [settle.id()]);
                    // The lease may be written at any moment.
                    world.settled_through = self.through.through();
                }
                SettleStep::SpillBody => {
                    let sequence = world.written_bodies + 1;
                    body = StoredBody::At { sequence, shared: false };
                    world.effect(|world| {
                        world.bodies.insert(sequence);
                        world.written_bodies = sequence;
                    })?;
                }
                // HOLD is left as a tier is: published to READY under the same id, then deleted.
                SettleStep::CopyToTier(_) | SettleStep::CopyToHold => {
                    let copy = moved().unwrap();
                    world.effect(|world| world.publish_tier(copy))?;
                }
                SettleStep::CopyToReady => {
                    let copy = moved().unwrap();
                    world.effect(|world| world.publish_ready(copy))?;
                }
                SettleStep::BuryDead => world.effect(|world| world.dead_letters += 1)?,
                SettleStep::AckOld => world.effect(|world| {
                    let position = world.ready.iter().position(|copy| copy.state.hop == old.state.hop);
                    drop(position.map(|position| world.ready.remove(position)));
                })?,
                SettleStep::DeleteBody => {
                    let StoredBody::At { sequence, .. } = old.body else { panic!("deletes a body that is not stored") };
                    world.effect(|world| assert!(world.bodies.remove(&sequence) || !world.remembers_ids))?;
                }
                SettleStep::Finished => break,
            }
            settle.done();
        }
        self.done.finished(settle.id(), Timestamp::default());
        self.through.settled(&settle.id());
        world.settled_through = self.through.through();
        Ok(())
    }
}

fn record(id: EnvelopeId, next: &Move) -> postrider_model::Record {
    postrider_model::Record {
        id,
        at: Timestamp::default(),
        shard: "b00".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        class: postrider_model::Class::Bulk,
        campaign: None,
        pool: None,
        site: "example.net".parse().unwrap(),
        sender: postrider_model::ReversePath::Null,
        header_message_id: String::new(),
        arrival: Timestamp::default(),
        size_bytes: 1,
        body: None,
        metadata: Vec::new(),
        attempt: None,
        outcomes: Vec::new(),
        next: Some(next.clone()),
    }
}
