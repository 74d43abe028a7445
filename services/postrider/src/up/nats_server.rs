//! The nats-server child of `postrider up`: found, checked, started, stopped. It never outlives its parent: a shell between
//! the two waits on a pipe that closes when the parent dies, however it dies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, ChildStdin, Command};

use super::arguments::Durability;

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
                "nats-server is missing: install 2.15.1 or newer on PATH, set NATS_SERVER to its path, or start with \
                 deploy/local/up, which fetches it",
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

/// A running nats-server.
pub struct NatsServer {
    child: Child,
    // Kept apart from the child: waiting for a child closes its standard input, and that ends the server.
    lifeline: Option<ChildStdin>,
    program: PathBuf,
    data: PathBuf,
    address: SocketAddr,
    durability: Durability,
    /// Its process id.
    pub pid: u32,
}

/// A server that lives shorter than this so many times in a row has a reason to die that a new start does not cure.
const SHORT_LIFE: (Duration, u32) = (Duration::from_secs(5), 3);

// $1: the program, $2: its configuration, $3: its process id file. Ends the server when standard input closes, and itself
// when the server ends.
const GUARD: &str = r#"
exec 3<&0
"$1" -c "$2" 3<&- &
server=$!
echo $server > "$3"
( cat <&3 > /dev/null; kill -TERM $server 2>/dev/null ) &
exec 3<&-
trap 'kill -TERM $server 2>/dev/null' TERM
code=0
while kill -0 $server 2>/dev/null; do wait $server; code=$?; done
exit $code
"#;

impl NatsServer {
    /// Starts it on `address` with its store under `data`, and waits until it takes connections.
    ///
    /// # Errors
    /// With the end of its log, if it does not come up.
    pub async fn start(
        program: &Path,
        data: &Path,
        address: SocketAddr,
        durability: Durability,
    ) -> anyhow::Result<Self> {
        end_leftover(data).await?;
        let store = data.join("nats");
        let log = data.join("nats.log");
        let pid_file = data.join("nats.pid");
        let config = data.join("nats.conf");
        std::fs::create_dir_all(&store)?;
        let sync = match durability {
            Durability::Process => String::new(),
            Durability::Disk => "  sync_interval: always\n".to_owned(),
        };
        let text = format!(
            "# Written by `postrider up` at each start.\nlisten: \"{address}\"\nserver_name: \"postrider-up\"\nlog_file: {}\n\
             max_payload: 1MB\nmax_pending: 128MB\njetstream {{\n  store_dir: {}\n  max_mem: 1GB\n  max_file: 1TB\n{sync}}}\n",
            quoted(&log)?,
            quoted(&store)?
        );
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        remove(&pid_file)?;
        let mut child = Command::new("sh")
            .args(["-c", GUARD, "nats-guard"])
            .arg(program)
            .arg(&config)
            .arg(&pid_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a shell for nats-server")?;
        let lifeline = child.stdin.take();
        let mut server =
            Self { child, lifeline, program: program.to_owned(), data: data.to_owned(), address, durability, pid: 0 };
        for _ in 0..300 {
            if let Some(status) = server.child.try_wait()? {
                bail!("nats-server ended at once ({status}); its log {} ends: {}", log.display(), last_lines(&log));
            }
            if server.pid == 0 {
                server.pid = read_pid(&pid_file).unwrap_or(0);
            } else if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!(
            "nats-server did not take connections on {address} within 30 s; its log {} ends: {}",
            log.display(),
            last_lines(&log)
        )
    }

    /// Starts it again whenever it ends by itself: what was acknowledged is in its store. Returns only when that is hopeless.
    ///
    /// # Errors
    /// If it does not come up again, or dies right after it did.
    pub async fn keep(&mut self) -> anyhow::Result<()> {
        let mut short_lives = 0;
        loop {
            let began = Instant::now();
            let status = self.child.wait().await.context("cannot wait for nats-server")?;
            let log = self.data.join("nats.log");
            short_lives = if began.elapsed() < SHORT_LIFE.0 { short_lives + 1 } else { 0 };
            if short_lives == SHORT_LIFE.1 {
                bail!("nats-server keeps ending ({status}); its log {} ends: {}", log.display(), last_lines(&log));
            }
            tracing::warn!(%status, "nats-server ended by itself; starting it again");
            *self = Self::start(&self.program, &self.data, self.address, self.durability).await?;
        }
    }

    /// Stops it in good order.
    pub async fn stop(mut self) {
        drop(self.lifeline.take());
        if tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.is_err() {
            tracing::warn!("nats-server did not stop within 20 s; killing it");
            if let Err(error) = self.child.kill().await {
                tracing::error!(%error, "cannot kill the guard of nats-server");
            }
        }
    }
}

/// Ends a nats-server that a parent killed without warning has left in `data` (the guard needs a moment for it).
async fn end_leftover(data: &Path) -> anyhow::Result<()> {
    let Some(pid) = read_pid(&data.join("nats.pid")) else { return Ok(()) };
    let ours = data.join("nats.conf");
    let is_ours = || {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&*ours.to_string_lossy()))
    };
    for round in 0..100 {
        if !is_ours() {
            return Ok(());
        }
        if round == 20 {
            let status = Command::new("kill").arg(pid.to_string()).status().await?;
            tracing::warn!(pid, %status, "ended a nats-server left by an earlier start");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("a nats-server left by an earlier start (process {pid}) does not end: end it by hand, then start again")
}

fn read_pid(file: &Path) -> Option<u32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn remove(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
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
