//! Two owners at once: the lease bucket is written to by somebody who does not know what a lease is for.

use anyhow::{Context, Result};

use crate::chaos::doubt;
use crate::chaos::wire::{Lease, Wire};
use crate::chaos::world::World;

/// What is done to a lease.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    /// The other member owns it, one epoch later.
    Other,
    /// The other member owns it, in the same epoch.
    SameEpoch,
    /// The other member owns it, in an earlier epoch.
    Earlier,
    /// Somebody owns it who does not exist.
    Ghost,
    /// It says that it was given back.
    Released,
    /// It is no lease.
    Garbage,
    /// It is gone.
    Gone,
}

const TAMPERINGS: [Tampering; 7] = [
    Tampering::Other,
    Tampering::SameEpoch,
    Tampering::Earlier,
    Tampering::Ghost,
    Tampering::Released,
    Tampering::Garbage,
    Tampering::Gone,
];

/// Some leases change, or a living member is declared dead, once or more.
///
/// # Errors
/// If NATS refuses.
pub fn two(world: &mut World) -> Result<()> {
    let wire = Wire::connect(world.cluster.nats_address())?;
    for _ in 0..world.dice.between(1, 3) {
        world.pass(300, 1_500);
        let at = doubt::now();
        if world.dice.chance(30) {
            let name = world.dice.pick(&["one", "two"]);
            wire.delete(&format!("member.{name}"))?;
            world.tell(&format!("{name} is no member any more"));
        } else {
            let shards: Vec<(String, Lease)> = wire.leases()?.into_iter().collect();
            let tampering = *world.dice.pick(&TAMPERINGS);
            let count = if world.dice.chance(50) { shards.len() } else { world.dice.count(1, 3) };
            for _ in 0..count {
                let (shard, lease) = world.dice.pick(&shards).clone();
                tamper(world, &wire, tampering, &shard, &lease)?;
            }
            world.tell(&format!("{count} leases of {}: {tampering:?}", shards.len()));
        }
        world.pass(500, 2_500);
        // Whoever lost a shard had something in flight then.
        world.doubts.push(doubt::Doubt::between(None, at, doubt::now()));
    }
    Ok(())
}

fn tamper(world: &mut World, wire: &Wire, tampering: Tampering, shard: &str, lease: &Lease) -> Result<()> {
    let key = format!("shard.{shard}");
    let other = if lease.owner == "one" { "two" } else { "one" }.to_owned();
    let (lease, epoch) = (lease.clone(), lease.epoch);
    let changed = match tampering {
        Tampering::Other => Lease { owner: other, epoch: epoch + 1, ..lease },
        Tampering::SameEpoch => Lease { owner: other, ..lease },
        Tampering::Earlier => Lease { owner: other, epoch: epoch.saturating_sub(1), ..lease },
        Tampering::Ghost => Lease { owner: "ghost".to_owned(), epoch: epoch + 1, ..lease },
        Tampering::Released => Lease { released: true, epoch: epoch + 1, ..lease },
        Tampering::Garbage => {
            let count = world.dice.count(1, 40);
            return wire.put(&key, world.dice.bytes(count)).context(key);
        }
        Tampering::Gone => return wire.delete(&key).context(key),
    };
    wire.put(&key, changed.encode()).context(key)
}
