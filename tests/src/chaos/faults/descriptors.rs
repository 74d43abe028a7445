//! A process that may open no further file, socket or connection.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::chaos::doubt;
use crate::chaos::world::World;

/// The soft limit of a process.
fn limit(id: u32, soft: &str) -> Result<()> {
    let output = Command::new("prlimit").args(["--pid", &id.to_string(), &format!("--nofile={soft}:")]).output()?;
    ensure!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn soft_limit(id: u32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{id}/limits"))?;
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    Ok(line.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("1024").to_owned())
}

/// One or two processes have no descriptors left for a while.
///
/// # Errors
/// If the limit cannot be set.
pub fn exhausted(world: &mut World) -> Result<()> {
    for _ in 0..world.dice.between(1, 2) {
        world.pass(100, 1_000);
        let names = world.cluster.names();
        let name = world.dice.pick(&names).clone();
        let id = world.cluster.id_of(&name)?;
        let before = soft_limit(id)?;
        let open = std::fs::read_dir(format!("/proc/{id}/fd"))?.count();
        let left = world.dice.count(0, 2);
        let at = doubt::now();
        limit(id, &(open.saturating_sub(2) + left).max(3).to_string())?;
        let time = world.dice.millis(1_500, 5_000);
        std::thread::sleep(time);
        if world.cluster.is_running(&name) {
            limit(id, &before)?;
        }
        world.tell(&format!("{name} may open no file for {:.1} s", time.as_secs_f64()));
        if name.starts_with("nats") {
            world.outage(at);
        }
    }
    Ok(())
}
