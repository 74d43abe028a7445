//! A nats-server of one's own: found by `NATS_SERVER`, PATH or under `target/`, started on a free port, killed with its
//! handle. Absent, it fails loudly: no test here is silently skipped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postrider_model::ShardLayout;
use postrider_nats::{NatsConfig, Spool};
use tempfile::TempDir;

/// How long anything may take here.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(TempDir::new().unwrap(), &[])
    }

    /// With more arguments, which may name files in its directory.
    pub fn start_with(directory: TempDir, arguments: &[&str]) -> Self {
        let child = spawn(directory.path(), "-1", arguments);
        let mut server = Self { child, directory, port: 0 };
        server.port = server.chosen_port();
        server
    }

    /// The server writes its port into `<program>_<pid>.ports` once it listens.
    fn chosen_port(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let files = std::fs::read_dir(self.directory.path()).unwrap().map(|file| file.unwrap().path());
            let text = files.filter(|file| file.extension().is_some_and(|extension| extension == "ports"));
            let text: String = text.map(|file| std::fs::read_to_string(file).unwrap_or_default()).collect();
            let digits = text.split("://127.0.0.1:").nth(1).map(|rest| rest.split('"').next().unwrap_or_default());
            if let Some(port) = digits.and_then(|digits| digits.parse().ok()) {
                return port;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                self.break_off(&format!("ended with {status}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.break_off("wrote no port");
    }

    fn break_off(&self, why: &str) -> ! {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("nats-server {why}:\n{log}");
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn config(&self) -> NatsConfig {
        NatsConfig { urls: vec![self.url()], storage_bytes: 1 << 30, publish_budget_secs: 10, ..NatsConfig::default() }
    }

    pub async fn spool(&self) -> Spool {
        self.spool_of(&self.config()).await
    }

    pub async fn spool_of(&self, config: &NatsConfig) -> Spool {
        Spool::open(config, "test", ShardLayout::SINGLE).await.unwrap()
    }

    /// A client that knows nothing of the layout, to look behind the scenes.
    pub async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same store on the same port.
    pub fn start_again(&mut self) {
        self.child = spawn(self.directory.path(), &self.port.to_string(), &[]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

/// On a free port for `-1`, which is then found in a file.
fn spawn(directory: &Path, port: &str, arguments: &[&str]) -> Child {
    let directory_text = directory.to_str().unwrap();
    run(directory, &[&["--port", port, "--ports_file_dir", directory_text], arguments].concat())
}

/// A server on loopback with its store and its log in a directory.
pub fn run(directory: &Path, arguments: &[&str]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("log")).unwrap();
    Command::new(program())
        .args(["--js", "--addr", "127.0.0.1", "--store_dir"])
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn program() -> PathBuf {
    let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    // Where deploy/local/nats-server unpacks it.
    let test = std::env::current_exe().unwrap();
    let folders = test.ancestors().filter_map(|folder| std::fs::read_dir(folder.join("nats-server")).ok());
    let unpacked = folders.flatten().flatten().map(|file| file.path());
    let mut candidates = named.into_iter().chain(unpacked).chain(on_path);
    candidates.find(|candidate| candidate.is_file()).unwrap_or_else(|| {
        panic!(
            "no nats-server: set NATS_SERVER to one of version 2.15.1 or newer, or run deploy/local/nats-server, which \
             unpacks one under the target folder"
        )
    })
}

/// Waits until `look` says something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tick.tick().await;
    }
}
