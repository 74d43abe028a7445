//! SIGKILL, and SIGSTOP with SIGCONT, of any process.

use anyhow::Result;

use crate::chaos::doubt;
use crate::chaos::world::World;

/// Any process, delivery twice as often as others.
fn victim(world: &mut World) -> String {
    let (mut names, deliveries) = (world.cluster.names(), world.cluster.delivery_names());
    names.extend(deliveries);
    world.dice.pick(&names).clone()
}

/// Some processes die, one after the other; some stay dead until the end of the fault.
///
/// # Errors
/// If a signal is refused.
pub fn kill(world: &mut World) -> Result<()> {
    for _ in 0..world.dice.between(2, 4) {
        world.pass(100, 1_200);
        let name = victim(world);
        let at = doubt::now();
        if !world.cluster.kill(&name)? {
            continue;
        }
        world.tell(&format!("kill {name}"));
        world.doubt(&name, at, at);
        // Nothing works without NATS, and a load that hears nothing but silence shows nothing.
        if name.starts_with("nats") || world.dice.chance(70) {
            world.pass(0, 2_500);
            world.cluster.start_again(&name)?;
        }
        if name.starts_with("nats") {
            world.outage(at);
        }
    }
    Ok(())
}

/// Some processes stand still for a while, delivery now and then for longer than its membership lasts.
///
/// # Errors
/// If a signal is refused.
pub fn freeze(world: &mut World) -> Result<()> {
    for turn in 0..world.dice.between(1, 3) {
        world.pass(100, 1_000);
        let name = victim(world);
        let is_delivery = world.cluster.delivery_names().contains(&name);
        let long = turn == 0 && is_delivery && world.dice.chance(60);
        let time = if long { world.dice.millis(13_000, 17_000) } else { world.dice.millis(300, 4_000) };
        let at = doubt::now();
        world.cluster.signal(&name, "STOP")?;
        std::thread::sleep(time);
        let awake = doubt::now();
        world.cluster.signal(&name, "CONT")?;
        world.tell(&format!("{name} frozen for {:.1} s", time.as_secs_f64()));
        if long {
            world.doubt(&name, at, awake);
        }
        if name.starts_with("nats") {
            world.outage(at);
        }
    }
    Ok(())
}
