//! nats-servers that die or do not answer.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::logged;
use crate::chaos::doubt;
use crate::chaos::world::World;
use crate::load::{Load, Sent, Shape};

/// The only server dies, once or more.
///
/// # Errors
/// If a signal is refused.
pub fn killed(world: &mut World) -> Result<()> {
    for turn in 0..world.dice.between(1, 3) {
        world.pass(100, 1_500);
        let long = turn == 0 && world.dice.chance(20);
        let time = if long { world.dice.millis(13_000, 16_000) } else { world.dice.millis(0, 4_000) };
        let at = doubt::now();
        world.cluster.kill_nats()?;
        std::thread::sleep(time);
        world.cluster.start_nats()?;
        world.outage(at);
        world.tell(&format!("nats-0 killed, back after {:.1} s", time.as_secs_f64()));
    }
    Ok(())
}

/// One of three dies; the others go on.
///
/// # Errors
/// If a signal is refused.
pub fn one_of_three(world: &mut World) -> Result<()> {
    for _ in 0..world.dice.between(1, 2) {
        world.pass(100, 1_500);
        let number = world.dice.count(0, 2);
        let time = world.dice.millis(0, 5_000);
        let at = doubt::now();
        world.cluster.servers().kill(number)?;
        std::thread::sleep(time);
        world.cluster.servers().start(number)?;
        // The next may only die when this one has all that the others have.
        world.cluster.servers().until_healthy()?;
        world.outage(at);
        world.tell(&format!("nats-{number} of 3 killed, back after {:.1} s", time.as_secs_f64()));
    }
    Ok(())
}

/// All of three die, in some order, and come back in another.
///
/// # Errors
/// If a signal is refused.
pub fn three_of_three(world: &mut World) -> Result<()> {
    world.pass(100, 1_500);
    let at = doubt::now();
    let first = world.dice.count(0, 2);
    for turn in 0..3 {
        world.cluster.servers().kill((first + turn) % 3)?;
        world.pass(0, 300);
    }
    let time = world.dice.millis(0, 4_000);
    std::thread::sleep(time);
    let first = world.dice.count(0, 2);
    for turn in 0..3 {
        world.cluster.servers().start((first + turn) % 3)?;
    }
    world.cluster.servers().until_healthy()?;
    world.outage(at);
    world.tell(&format!("all of 3 killed, back after {:.1} s", time.as_secs_f64()));
    Ok(())
}

/// Conversations that last longer than the fault.
const SLOW: Shape = Shape { sessions: 1, rate: 50, recipients: slow, field: |_| "" };

/// How many of them.
const SLOW_ONES: usize = 6;

fn slow(number: usize) -> Vec<String> {
    vec![format!("delay-13+{number}@w{number}.example")]
}

/// The server does not answer for ten seconds: no shard moves, and no conversation is cut.
///
/// # Errors
/// If a shard moved.
pub fn hung(world: &mut World) -> Result<Sent> {
    let load = Load::begin(world.cluster.relay, "slow", SLOW);
    let sent = load.finish(SLOW_ONES)?;
    world.pass(800, 3_800);
    let moves = |world: &World| {
        let names = world.cluster.delivery_names();
        let count = |what| names.iter().map(|name| logged(&world.cluster, name, what)).sum::<usize>();
        [count("shard taken"), count("shard lost"), count("shard released")]
    };
    let before = moves(world);
    world.cluster.signal_nats("STOP")?;
    std::thread::sleep(Duration::from_secs(10));
    world.cluster.signal_nats("CONT")?;
    world.tell("nats-0 hung for 10 s");
    world.pass(3_500, 4_500);
    let after = moves(world);
    ensure!(before == after, "shards moved while NATS hung for 10 s: taken, lost, released {before:?}, then {after:?}");
    Ok(sent)
}
