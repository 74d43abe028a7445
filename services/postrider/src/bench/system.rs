//! A system under load: Postrider by `up` in a process of its own, or Postfix, each in a fresh folder, started and ended. A shell
//! between it and the bench ends it when the bench dies, however it dies.

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::group::Group;
use super::{postfix, postrider};
use crate::up::Durability;

/// Who carries the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// This program; what its `250` promises.
    Postrider(Durability),
    /// Postfix, as Debian has it. It always calls fsync before its `250`.
    Postfix,
    /// A system that was started by somebody else.
    Running,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postrider(durability) => write!(f, "postrider {}", durability.as_str()),
            Self::Postfix => f.write_str("postfix"),
            Self::Running => f.write_str("the system that runs"),
        }
    }
}

impl Serialize for Peer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How it is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where all mail goes.
    pub sink: SocketAddr,
    /// Where folders are made.
    pub folder: PathBuf,
    /// STARTTLS in and out.
    pub tls: bool,
    /// Sign what leaves.
    pub dkim: bool,
    /// Connections to the receiver.
    pub connections: usize,
    /// Further routes of Postrider, `DOMAIN=HOST:PORT`.
    pub routes: Vec<String>,
    /// Further settings of Postrider, TOML.
    pub settings: String,
}

/// The domain that all mail comes from.
pub const SENDER_DOMAIN: &str = "bench.example";

/// A running system.
pub struct System {
    /// Where it takes mail.
    pub address: SocketAddr,
    /// Its processes.
    pub group: Group,
    /// What it says of itself, for `postrider up`.
    pub ready: serde_json::Value,
    guards: Vec<Child>,
    folder: TempDir,
    stop: CancellationToken,
}

// $1: file that a process writes its id to, to be counted ("-": none); then the program. Ends the program when standard input
// closes, and itself when the program ends.
const GUARD: &str = r#"
door=$1; shift
exec 3<&0
sh -c 'door=$1; shift; [ "$door" = - ] || echo $$ > "$door"; exec "$@"' enter "$door" "$@" 3<&- < /dev/null &
system=$!
( cat <&3 > /dev/null; kill -TERM $system 2>/dev/null ) &
exec 3<&-
wait $system
code=$?
kill $! 2>/dev/null
exit $code
"#;

impl System {
    /// Starts one and waits until it takes mail.
    ///
    /// # Errors
    /// With the end of what it wrote, if it does not come up; or what is missing on this machine.
    pub fn start(peer: Peer, setup: &Setup, stop: &CancellationToken) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("postrider-bench-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&setup.folder)
            .with_context(|| format!("cannot make a folder in {}", setup.folder.display()))?;
        let start = match peer {
            Peer::Postrider(durability) => postrider::command(durability, setup, folder.path())?,
            Peer::Postfix => postfix::command(setup, folder.path())?,
            Peer::Running => bail!("what runs already is not started"),
        };
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut group = Group::new(&name);
        let log = folder.path().join("output");
        let out = File::create(&log)?;
        let mut guards = Vec::new();
        for words in &start.programs {
            let guard = Command::new("sh")
                .args(["-c", GUARD, "bench-guard"])
                .arg(group.door().unwrap_or_else(|| PathBuf::from("-")))
                .args(words)
                .envs(start.environment.iter().cloned())
                .stdin(Stdio::piped())
                .stdout(out.try_clone()?)
                .stderr(out.try_clone()?)
                .process_group(0)
                .spawn()
                .context("cannot start a shell")?;
            group.begins_with(guard.id());
            guards.push(guard);
        }
        let mut system = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, start.port)),
            group,
            ready: serde_json::Value::Null,
            guards,
            folder,
            stop: stop.clone(),
        };
        system.wait_until_ready(&start, &log)?;
        if setup.dkim && peer != Peer::Postfix {
            postrider::give_key(&system)?;
        }
        Ok(system)
    }

    fn wait_until_ready(&mut self, start: &Start, log: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            for guard in &mut self.guards {
                if let Some(status) = guard.try_wait()? {
                    bail!("the system ended at once ({status}): {}", last_words(log).trim_start_matches("postrider: "));
                }
            }
            if self.stop.is_cancelled() {
                bail!("stopped");
            }
            match &start.ready_file {
                Some(file) => {
                    if let Ok(text) = std::fs::read_to_string(file) {
                        self.ready = serde_json::from_str(&text)?;
                        self.address = self.said("relay")?.parse()?;
                        return Ok(());
                    }
                }
                None if postfix::greets(self.address) && start.beside.iter().all(|port| answers(*port)) => {
                    return Ok(());
                }
                None => {}
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the system does not serve after a minute: {}", last_words(log))
    }

    /// A word of its ready file.
    ///
    /// # Errors
    /// If it is not there.
    pub fn said(&self, name: &str) -> anyhow::Result<&str> {
        self.ready.get(name).and_then(serde_json::Value::as_str).with_context(|| format!("no {name} in the ready file"))
    }

    /// The folder that it lives in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for guard in &mut self.guards {
            drop(guard.stdin.take());
        }
        let ended = |system: &mut Self, within: Duration| {
            let began = Instant::now();
            while began.elapsed() < within {
                let gone = system.guards.iter_mut().all(|guard| !matches!(guard.try_wait(), Ok(None)));
                if gone && (system.group.door().is_none() || system.group.pids().is_empty()) {
                    return true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            false
        };
        for (signal, patience) in [("TERM", 10), ("TERM", 10), ("KILL", 10)] {
            if ended(self, Duration::from_secs(patience)) {
                break;
            }
            let pids = self.group.pids().into_iter().map(|pid| pid.to_string());
            drop(Command::new("kill").args(["-s", signal]).args(pids).stderr(Stdio::null()).status());
        }
        self.group.remove();
    }
}

/// How to start it.
pub struct Start {
    /// The programs with their arguments.
    pub programs: Vec<Vec<std::ffi::OsString>>,
    /// What its environment has besides.
    pub environment: Vec<(&'static str, std::ffi::OsString)>,
    /// Where it will listen, if that is known before.
    pub port: u16,
    /// Other ports that it will listen on.
    pub beside: Vec<u16>,
    /// The file that it writes when it is ready; without one it is ready when it greets.
    pub ready_file: Option<PathBuf>,
}

/// A port that nobody has at the moment.
///
/// # Errors
/// If there is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
