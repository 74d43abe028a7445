//! Clocks that step by an hour, by libfaketime under our processes. nats-server is a static Go program that reads the clock
//! without a library, so its clock stays; a step of all of ours by one hour is to it the same as a step of its own the other way.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::chaos::world::World;

const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The library, where it is installed.
pub fn library() -> Option<PathBuf> {
    LIBRARIES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The environment under which a process reads its offset from a file of its name in `folder`, every second. The monotonic
/// clock goes on as it is.
///
/// # Errors
/// If the library is not installed.
pub fn environment(folder: &Path) -> Result<Vec<(String, String)>> {
    let library = library().context("libfaketime is not installed")?;
    for name in ["ingress", "control", "one", "two", "three"] {
        set(folder, name, 0)?;
    }
    let variables = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", format!("{}/{{name}}", folder.display())),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    Ok(variables.map(|(key, value)| (key.to_owned(), value)).into())
}

fn set(folder: &Path, name: &str, seconds: i64) -> Result<()> {
    // In one step: whoever reads it meanwhile must not find half of it.
    let (new, file) = (folder.join(format!("{name}.new")), folder.join(name));
    std::fs::write(&new, format!("{seconds:+}\n"))?;
    Ok(std::fs::rename(new, file)?)
}

/// The clocks of all processes, or of some, step an hour forth or back, and perhaps again.
///
/// # Errors
/// If the files cannot be written.
pub fn step(world: &mut World) -> Result<()> {
    let names: Vec<String> = world.cluster.names().into_iter().filter(|name| !name.starts_with("nats")).collect();
    for _ in 0..world.dice.between(2, 3) {
        let seconds = *world.dice.pick(&[3_600, -3_600, 0]);
        let who = if world.dice.chance(50) { names.clone() } else { vec![world.dice.pick(&names).clone()] };
        for name in &who {
            set(world.clocks.path(), name, seconds)?;
        }
        world.pass(2_000, 4_000);
        world.tell(&format!("clock of {} at {seconds:+} s", who.join(", ")));
    }
    Ok(())
}
