//! Postrider under load: this same program as `postrider up`, without receiver, with a route to the sink for everything.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::system::{SENDER_DOMAIN, Setup, Start, System};
use crate::up::Durability;

/// How to start it in this folder.
///
/// # Errors
/// If its settings cannot be written.
pub fn command(durability: Durability, setup: &Setup, folder: &Path) -> anyhow::Result<Start> {
    let program = std::env::current_exe().context("this program does not know its own path")?;
    let config = folder.join("up.toml");
    // A fifth of the connections is kept for transactional mail; the load is bulk.
    let text = format!(
        "[delivery.shaping.default]\nconnections = {}\nmessages_per_connection = 1000\n\n{}",
        (setup.connections * 5).div_ceil(4),
        setup.settings
    );
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let ready_file = folder.join("ready.json");
    let mut words = vec![program.into_os_string(), "up".into(), "--data".into(), folder.join("data").into()];
    words.extend(["--port-base", "0", "--no-receiver", "--trust-loopback", "--durability"].map(Into::into));
    words.push(durability.as_str().into());
    words.extend(["--route".into(), format!("*={}", setup.sink).into()]);
    for route in &setup.routes {
        words.extend(["--route".into(), route.into()]);
    }
    words.extend(["--config".into(), config.into(), "--ready-file".into(), ready_file.clone().into()]);
    Ok(Start {
        programs: vec![words],
        environment: Vec::new(),
        port: 0,
        beside: Vec::new(),
        ready_file: Some(ready_file),
    })
}

/// Gives the sender's domain a key.
///
/// # Errors
/// If the client command fails.
pub fn give_key(system: &System) -> anyhow::Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .args(["domain", "create", SENDER_DOMAIN, "--tenant", system.said("tenant")?])
        .env("POSTRIDER_SERVER", format!("http://{}", system.said("control")?))
        .env("POSTRIDER_TOKEN_FILE", system.folder().join("data/token"))
        .output()
        .context("the client does not run")?;
    anyhow::ensure!(output.status.success(), "domain create: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
