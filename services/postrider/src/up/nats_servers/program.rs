//! The program nats-server: found and checked to be new enough. Runs it for its version only.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio::process::Command;

const OLDEST: (u64, u64, u64) = (2, 15, 1);

/// The program to run: `NATS_SERVER`, else the first `nats-server` on PATH, checked to be new enough.
///
/// # Errors
/// One line that says what is missing or too old and what to do.
pub async fn find() -> anyhow::Result<PathBuf> {
    let program = match std::env::var_os("NATS_SERVER") {
        Some(given) => PathBuf::from(given),
        None => std::env::var_os("PATH")
            .and_then(|path| {
                std::env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|file| file.is_file())
            })
            .context(
                "nats-server is missing: install 2.15.1 or newer on PATH, or set NATS_SERVER to its path \
                 (NATS_SERVER=$(deploy/local/nats-server) fetches it)",
            )?,
    };
    let output = Command::new(&program).arg("--version").output().await.with_context(|| {
        format!("{} cannot be run: set NATS_SERVER to a nats-server of 2.15.1 or newer", program.display())
    })?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
    let found = version(&text)
        .with_context(|| format!("{} does not say that it is nats-server: {text:?}", program.display()))?;
    if found < OLDEST {
        bail!(
            "{} is version {}.{}.{}: Postrider needs nats-server 2.15.1 or newer (deploy/local/up fetches one; or set \
             NATS_SERVER)",
            program.display(),
            found.0,
            found.1,
            found.2
        );
    }
    Ok(program)
}

fn version(text: &str) -> Option<(u64, u64, u64)> {
    let numbers = text.strip_prefix("nats-server: v")?;
    let mut parts = numbers.split(['.', '-', ' ']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("nats-server: v2.15.1"), Some((2, 15, 1)));
        assert_eq!(version("nats-server: v2.15.0-RC.1"), Some((2, 15, 0)));
        assert!(version("nats-server: v2.9.25") < Some(OLDEST));
        assert_eq!(version("hello"), None);
    }
}
