//! JetStream's store without room, without leave to write, and slow. Root ignores the bits of a mode and a mount with open files
//! cannot be made read-only, so files and folders are made immutable (`chattr +i`): every write fails, of open files too.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::chaos::doubt;
use crate::chaos::world::World;

/// The file system of the store is full for a while.
///
/// # Errors
/// If it cannot be filled.
pub fn full(world: &mut World) -> Result<()> {
    for _ in 0..world.dice.between(1, 2) {
        world.pass(100, 1_000);
        let at = doubt::now();
        world.cluster.store().context("no store")?.fill()?;
        let time = world.dice.millis(1_500, 4_000);
        let mut filled = 1;
        let until = std::time::Instant::now() + time;
        // What the server frees is taken again.
        while std::time::Instant::now() < until {
            world.pass(200, 200);
            world.cluster.store().context("no store")?.fill()?;
            filled += 1;
        }
        world.cluster.store().context("no store")?.relieve()?;
        world.outage(at);
        world.tell(&format!("disk full for {:.1} s ({filled} times filled)", time.as_secs_f64()));
    }
    Ok(())
}

/// The store cannot be written to for a while: the running server's, or that of one that starts meanwhile.
///
/// # Errors
/// If it cannot be made so.
pub fn read_only(world: &mut World) -> Result<()> {
    world.pass(100, 1_000);
    let store = world.cluster.servers().store(0);
    let at = doubt::now();
    let time = world.dice.millis(1_500, 4_000);
    let starts = world.dice.chance(40);
    if starts {
        world.cluster.kill_nats()?;
    }
    immutable(&store, true)?;
    if starts {
        world.cluster.servers().spawn(0)?;
    }
    std::thread::sleep(time);
    immutable(&store, false)?;
    let how = if starts { "for a server that starts" } else { "under a running server" };
    world.tell(&format!("store read-only for {:.1} s {how}", time.as_secs_f64()));
    if starts {
        // It has ended, or runs without JetStream: who supervises it starts it again.
        world.cluster.servers().kill(0).ok();
        world.cluster.start_nats()?;
    }
    world.outage(at);
    Ok(())
}

/// The calls by which nats-server changes its store. Sockets are written to by others.
const WRITES: &str = "pwrite64,fsync,fdatasync,openat,ftruncate,renameat,unlinkat";

/// The store is slow for a while: a tracer holds up each of those calls before it is made.
///
/// # Errors
/// If the server cannot be traced.
pub fn slow(world: &mut World) -> Result<()> {
    for _ in 0..world.dice.between(1, 2) {
        world.pass(100, 1_000);
        let (each, time) = (world.dice.millis(20, 500), world.dice.millis(4_000, 12_000));
        let server = world.cluster.servers().id(0)?;
        let at = doubt::now();
        let calls = world.clocks.path().join("slow-calls");
        let mut tracer = Command::new("strace")
            .args(["-f", "-q", "-e", "signal=none", "-e", &format!("trace={WRITES}"), "-o"])
            .arg(&calls)
            .args(["-e", &format!("inject={WRITES}:delay_enter={}", each.as_micros())])
            .args(["-p", &server.to_string()])
            .stderr(Stdio::null())
            .spawn()
            .context("strace")?;
        let traced = crate::wait::until("the tracer of nats-server", || Ok((tracer_of(server)? != 0).then_some(())));
        std::thread::sleep(time);
        // Asked to end, it lets go of the server; killed, it would leave calls held up.
        let asked = crate::process::signal_to(tracer.id(), "TERM");
        tracer.wait()?;
        traced.and(asked)?;
        world.outage(at);
        let held_up = std::fs::read_to_string(&calls)?.matches("(DELAYED)").count();
        ensure!(held_up > 0, "the tracer held up no call of nats-server");
        let each = each.as_millis();
        world.tell(&format!("disk slow for {:.1} s ({each} ms for each of {held_up} calls)", time.as_secs_f64()));
    }
    Ok(())
}

/// Who traces a process; 0 if nobody does.
fn tracer_of(process: u32) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).context("no TracerPid")?;
    Ok(line.trim().parse()?)
}

/// Files and folders that nobody may change, or may again.
fn immutable(folder: &Path, immutable: bool) -> Result<()> {
    let how = if immutable { "+i" } else { "-i" };
    let mut failed = String::new();
    // A file that is removed while the tree is walked is none that has to be changed: once more tells.
    for _ in 0..5 {
        let output = Command::new("chattr").args(["-R", how]).arg(folder).output()?;
        if output.status.success() {
            return Ok(());
        }
        failed = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    }
    ensure!(failed.contains("No such file"), "chattr {how}: {failed}");
    Ok(())
}

/// Whether that works here.
pub fn can_be_immutable() -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    let file = folder.path().join("file");
    std::fs::write(&file, "").is_ok()
        && immutable(folder.path(), true).is_ok()
        && std::fs::write(&file, "x").is_err() | immutable(folder.path(), false).is_err()
        && { immutable(folder.path(), false).is_ok() }
}
