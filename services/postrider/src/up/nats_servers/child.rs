//! One nats-server child of `postrider up`: started, kept, stopped. It never outlives its parent: a shell between the two waits
//! on a pipe that closes when the parent dies, however it dies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, ChildStdin, Command};

/// What a server is: its name, which begins the names of its files in `data`, where it listens, and what its configuration
/// says beside that.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub program: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    /// Its name there: `nats` or `nats-2`.
    pub name: String,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Whether it calls fsync before it acknowledges.
    pub sync_always: bool,
    /// Further lines of its configuration.
    pub further: String,
}

impl Plan {
    fn file(&self, ending: &str) -> PathBuf {
        self.data.join(format!("{}.{ending}", self.name))
    }

    /// The folder of its store.
    pub fn store(&self) -> PathBuf {
        self.data.join(&self.name)
    }

    fn configuration(&self) -> anyhow::Result<String> {
        let sync = if self.sync_always { "  sync_interval: always\n" } else { "" };
        Ok(format!(
            "# Written by `postrider up` at each start.\nlisten: \"{}\"\nserver_name: \"postrider-up-{}\"\nlog_file: {}\n\
             max_payload: 1MB\nmax_pending: 128MB\njetstream {{\n  store_dir: {}\n  max_mem: 1GB\n  max_file: 1TB\n{sync}}}\n{}",
            self.address,
            self.name,
            quoted(&self.file("log"))?,
            quoted(&self.store())?,
            self.further
        ))
    }
}

/// A running nats-server.
pub struct NatsServer {
    child: Child,
    // Kept apart from the child: waiting for a child closes its standard input, and that ends the server.
    lifeline: Option<ChildStdin>,
    plan: Plan,
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
    /// Starts it and waits until it takes connections.
    ///
    /// # Errors
    /// With the end of its log, if it does not come up.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        end_leftover(plan).await?;
        let (log, pid_file, config) = (plan.file("log"), plan.file("pid"), plan.file("conf"));
        std::fs::create_dir_all(plan.store())?;
        std::fs::write(&config, plan.configuration()?).with_context(|| format!("cannot write {}", config.display()))?;
        remove(&pid_file)?;
        let mut child = Command::new("sh")
            .args(["-c", GUARD, "nats-guard"])
            .arg(&plan.program)
            .arg(&config)
            .arg(&pid_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a shell for nats-server")?;
        let lifeline = child.stdin.take();
        let mut server = Self { child, lifeline, plan: plan.clone(), pid: 0 };
        for _ in 0..300 {
            if let Some(status) = server.child.try_wait()? {
                bail!("nats-server ended at once ({status}); its log {} ends: {}", log.display(), last_lines(&log));
            }
            if server.pid == 0 {
                server.pid = read_pid(&pid_file).unwrap_or(0);
            } else if tokio::net::TcpStream::connect(plan.address).await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!(
            "nats-server did not take connections on {} within 30 s; its log {} ends: {}",
            plan.address,
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
            let log = self.plan.file("log");
            short_lives = if began.elapsed() < SHORT_LIFE.0 { short_lives + 1 } else { 0 };
            if short_lives == SHORT_LIFE.1 {
                bail!("nats-server keeps ending ({status}); its log {} ends: {}", log.display(), last_lines(&log));
            }
            tracing::warn!(%status, name = self.plan.name, "nats-server ended by itself; starting it again");
            *self = Self::start(&self.plan).await?;
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

/// Ends a nats-server that a parent killed without warning has left (the guard needs a moment for it).
async fn end_leftover(plan: &Plan) -> anyhow::Result<()> {
    let Some(pid) = read_pid(&plan.file("pid")) else { return Ok(()) };
    let ours = plan.file("conf");
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
