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
    _directory: TempDir,
    port: u16,
}

impl Server {
    pub fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut child = spawn(directory.path());
        let port = port(&mut child, directory.path());
        Self { child, _directory: directory, port }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub async fn spool(&self) -> Spool {
        let config = NatsConfig {
            urls: vec![self.url()],
            storage_bytes: 1 << 30,
            publish_budget_secs: 10,
            ..NatsConfig::default()
        };
        Spool::open(&config, "test", ShardLayout::SINGLE).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("nats-server {}: {error}", self.child.id());
        }
    }
}

fn spawn(directory: &Path) -> Child {
    let log = std::fs::File::create(directory.join("log")).unwrap();
    Command::new(program())
        .args(["--js", "--addr", "127.0.0.1", "--port", "-1"])
        .arg("--store_dir")
        .arg(directory)
        .arg("--ports_file_dir")
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The server writes its port into `nats-server_<pid>.ports` once it listens.
fn port(child: &mut Child, directory: &Path) -> u16 {
    let file = directory.join(format!("nats-server_{}.ports", child.id()));
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let digits = text.split("nats://127.0.0.1:").nth(1).map(|rest| rest.split('"').next().unwrap_or_default());
        if let Some(port) = digits.and_then(|digits| digits.parse().ok()) {
            return port;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    panic!("nats-server wrote no port:\n{log}");
}

fn program() -> PathBuf {
    let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    // Where deploy/local/nats-server unpacks it.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let unpacked =
        std::fs::read_dir(target.join("nats-server")).into_iter().flatten().flatten().map(|file| file.path());
    let mut candidates = named.into_iter().chain(unpacked).chain(on_path);
    candidates.find(|candidate| candidate.is_file()).unwrap_or_else(|| {
        panic!(
            "no nats-server: set NATS_SERVER to one of version 2.15.1 or newer, or run deploy/local/nats-server, which \
             unpacks one under the target folder"
        )
    })
}
