//! Records that nobody can read, or only a newer build can, among those that travel.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::metrics;
use crate::chaos::wire::{Wire, of_the_next_version};
use crate::chaos::world::World;
use crate::wait;

const TIERS: [&str; 5] = ["1m", "5m", "15m", "1h", "4h"];

/// A subject of the kind, made of one that READY has: `ready.<shard>.<site>.<tenant>`. Its stream, too.
fn somewhere(world: &mut World, ready: &str) -> (String, String) {
    let rest = ready.trim_start_matches("ready.").to_owned();
    match world.dice.between(0, 9) {
        0..=4 => (ready.to_owned(), ready_stream(&rest)),
        5..=7 => {
            let tier = *world.dice.pick(&TIERS);
            (format!("retry.{tier}.{}.{rest}", rest.chars().next().unwrap_or('b')), format!("RETRY_{tier}"))
        }
        _ => ("intake.b".to_owned(), "INTAKE".to_owned()),
    }
}

/// Bulk shards are dealt out to `READY_B0..3`, 16 each where there are 64; where there are four, to one stream.
fn ready_stream(rest: &str) -> String {
    let shard = rest.split('.').next().unwrap_or_default();
    if shard.starts_with('t') { "READY_T".to_owned() } else { "READY_B".to_owned() }
}

/// Some records that are no packets: each ends among the dead letters, is counted, and is in nobody's way.
///
/// # Errors
/// If they cannot be published, or are not counted.
pub fn poison(world: &mut World) -> Result<()> {
    let wire = Wire::connect(world.cluster.nats_address())?;
    let heard = wire.overhear(8)?;
    let count = world.dice.count(5, 40);
    for number in 0..count {
        let (subject, record) = world.dice.pick(&heard).clone();
        let (subject, _) = somewhere(world, &subject);
        let poison = match world.dice.between(0, 3) {
            0 => Vec::new(),
            1 => {
                let length = world.dice.count(1, 3_000);
                // No field has the number 0, so that chance makes no packet.
                [vec![0], world.dice.bytes(length)].concat()
            }
            2 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            _ => record[..world.dice.count(1, record.len() - 1)].to_vec(),
        };
        wire.publish(&subject, &format!("poison-{number}"), poison).with_context(|| subject.clone())?;
        if world.dice.chance(20) {
            world.pass(50, 300);
        }
    }
    world.tell(&format!("{count} poisoned records"));
    let dead = u64::try_from(count)?;
    world.left.insert("DEAD".to_owned(), dead);
    // The metric is brought up to date every half a minute: not every run waits for it.
    if world.dice.chance(75) {
        return Ok(());
    }
    let name = world.cluster.delivery_names().first().context("no delivery")?.clone();
    let address = world.cluster.metrics_of(&name);
    let mut last = None;
    wait::until("the poison to be counted", || {
        last = gauge(address, "postrider_dead_letters").ok();
        Ok((last == Some(dead)).then_some(()))
    })
    .with_context(|| format!("{count} were published, postrider_dead_letters says {last:?}"))
}

/// Some records for a newer reader: each stays where it is, and is in nobody's way.
///
/// # Errors
/// If they cannot be published.
pub fn next_version(world: &mut World) -> Result<()> {
    let wire = Wire::connect(world.cluster.nats_address())?;
    let heard = wire.overhear(8)?;
    let count = world.dice.count(5, 30);
    for number in 0..count {
        let (subject, record) = world.dice.pick(&heard).clone();
        let (subject, stream) = somewhere(world, &subject);
        let record = if subject == "intake.b" { Vec::new() } else { record };
        wire.publish(&subject, &format!("next-{number}"), of_the_next_version(record))
            .with_context(|| subject.clone())?;
        *world.left.entry(stream).or_default() += 1;
    }
    world.tell(&format!("{count} records of the next version"));
    world.pass(500, 2_000);
    if world.dice.chance(50) {
        // Whoever takes the shards over finds them again.
        let name = world.cluster.delivery_names().first().context("no delivery")?.clone();
        let at = crate::chaos::doubt::now();
        world.cluster.kill(&name)?;
        world.doubt(&name, at, at);
        world.cluster.start_again(&name)?;
        world.tell(&format!("kill {name}"));
    }
    Ok(())
}

/// The value of a metric without labels.
fn gauge(address: SocketAddr, name: &str) -> Result<u64> {
    let text = metrics(address)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
}
