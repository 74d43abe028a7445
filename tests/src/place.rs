//! Where things are: the repository, the target folder, the built program, nats-server, the peers that `tests/run`
//! installed. Looks, and says what to do where something is missing; installs nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The folder of the profile that this program was built with: `<target>/<profile>`.
fn built() -> Result<PathBuf> {
    let me = std::env::current_exe().context("where is this program?")?;
    let folder = me.parent().context("this program lies in no folder")?;
    // Tests lie one deeper, in `deps`.
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(folder.context("this program lies in no target folder")?.to_path_buf())
}

/// The target folder that this program was built into.
pub fn target() -> Result<PathBuf> {
    Ok(built()?.parent().context("this program lies in no target folder")?.to_path_buf())
}

/// The program, built with the same profile as this one.
pub fn program() -> Result<PathBuf> {
    let program = built()?.join("postrider");
    ensure!(
        program.is_file(),
        "{} is missing: run `cargo build -p postrider` first (tests/run does)",
        program.display()
    );
    Ok(program)
}

/// A nats-server that is new enough, by the ladder of `deploy/local/nats-server`.
pub fn nats_server() -> Result<PathBuf> {
    let script = repository().join("deploy/local/nats-server");
    let output = Command::new(&script)
        .env("CARGO_TARGET_DIR", target()?)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} does not run", script.display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// A script under `tests/peers`.
pub fn peer_script(name: &str) -> PathBuf {
    repository().join("tests/peers").join(name)
}

/// The folder into which `tests/run` installs Python and Node packages.
pub fn installed_peers() -> Result<PathBuf> {
    match std::env::var_os("POSTRIDER_PEERS") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(target()?.join("peers")),
    }
}

/// Whether a program of that name is on the PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}
