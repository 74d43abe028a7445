//! A whole cluster on this machine: `postrider up` on free ports with its state in a temporary folder, ready when
//! [`Cluster::start`] returns, gone when it is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{place, wait};

/// What `--ready-file` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// Submission with STARTTLS.
    pub submission: SocketAddr,
    /// Submission with implicit TLS.
    pub submissions: SocketAddr,
    /// SMTP without AUTH, for networks that may.
    pub relay: SocketAddr,
    /// gRPC.
    pub control: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
    /// NATS.
    pub nats: SocketAddr,
    /// The simulated receiver, unless `--no-receiver`.
    pub receiver: Option<SocketAddr>,
    /// The demo credential's user name.
    pub username: String,
    /// Its secret.
    pub password: String,
    /// The token of the control service.
    pub token: String,
    /// The demo tenant.
    pub tenant: String,
    /// The domain it sends as.
    pub domain: String,
    /// `process` or `disk`.
    pub durability: String,
    /// Process ids, by name.
    pub pids: Value,
}

/// How often a cluster is started that finds a port taken.
const MOST_STARTS: usize = 4;

/// How a cluster is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    folder: Arc<TempDir>,
    port_base: u16,
    arguments: Vec<String>,
    config: String,
    nats_server: Option<PathBuf>,
}

impl Plan {
    /// A cluster with a state of its own, free ports, and no receiver but those that routes name.
    ///
    /// # Errors
    /// If no temporary folder can be made.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: Arc::new(tempfile::Builder::new().prefix("postrider-").tempdir()?),
            port_base: 0,
            arguments: Vec::new(),
            config: String::new(),
            nats_server: None,
        })
    }

    /// Ports from this one instead of free ones.
    #[must_use]
    pub fn port_base(mut self, base: u16) -> Self {
        self.port_base = base;
        self
    }

    /// A further argument of `postrider up`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// A program to start as nats-server.
    #[must_use]
    pub fn nats_server(mut self, program: PathBuf) -> Self {
        self.nats_server = Some(program);
        self
    }

    /// All mail for `domain` (`*`: everything else) goes there, and no receiver of its own is started.
    #[must_use]
    pub fn route(self, domain: &str, to: SocketAddr) -> Self {
        let plan = self.with(&["--route", &format!("{domain}={to}")]);
        if plan.arguments.iter().any(|argument| argument == "--no-receiver") {
            plan
        } else {
            plan.with(&["--no-receiver"])
        }
    }

    /// Further lines of the file for `--config`.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// Tiers that wait for about a second instead of minutes and hours.
    #[must_use]
    pub fn short_tiers(self) -> Self {
        self.config("[nats]\ntier_delays_secs = [1.0, 1.5, 2.0, 2.5, 3.0]")
    }

    /// The folder of this cluster's state, kept while a plan or a cluster of it lives.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `postrider up`, ready to be spawned.
    ///
    /// # Errors
    /// If the program, nats-server or the configuration file is missing.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(place::program()?);
        command.arg("up").args(["--port-base", &self.port_base.to_string()]).args(&self.arguments);
        command.arg("--data").arg(self.folder().join("data"));
        command.arg("--ready-file").arg(self.ready_file());
        if !self.config.is_empty() {
            let file = self.folder().join("config.toml");
            std::fs::write(&file, &self.config)?;
            command.arg("--config").arg(file);
        }
        let nats_server = self.nats_server.clone().map_or_else(place::nats_server, Ok)?;
        command.env("NATS_SERVER", nats_server).env("HOME", self.folder());
        command.env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info,postrider=debug".to_owned()));
        Ok(command)
    }

    /// Starts `postrider up`, waits until it is ready or has ended. A port that was free when it was chosen may be taken
    /// by the time it is bound, where many tests start clusters at once: then it is started again.
    ///
    /// # Errors
    /// If it ends before it is ready; the error holds what it wrote.
    pub fn start(&self) -> Result<Cluster> {
        let mut last = self.start_once();
        for _ in 1..MOST_STARTS {
            match &last {
                Err(error)
                    if self.port_base == 0
                        && error.to_string().to_ascii_lowercase().contains("address already in use") =>
                {
                    last = self.start_once();
                }
                Ok(_) | Err(_) => break,
            }
        }
        last
    }

    fn start_once(&self) -> Result<Cluster> {
        let ready_file = self.ready_file();
        for old in [&ready_file, &self.log()] {
            if old.exists() {
                std::fs::remove_file(old)?;
            }
        }
        let mut process = Process::start("postrider up", &mut self.command()?, &self.log())?;
        let text = wait::until("the ready file", || {
            if let Some(status) = process.ended()? {
                bail!("postrider up ended with {status}:\n{}", process.output());
            }
            Ok(std::fs::read_to_string(&ready_file).ok().filter(|text| text.trim_end().ends_with('}')))
        })?;
        let ready: Ready = serde_json::from_str(&text).with_context(|| format!("the ready file holds {text}"))?;
        std::fs::write(self.token_file(), &ready.token)?;
        Ok(Cluster { process, ready, plan: self.clone() })
    }

    /// Runs `postrider up` that is expected to refuse: how it ended and what it wrote.
    ///
    /// # Errors
    /// If it does not end.
    pub fn fails(&self) -> Result<(ExitStatus, String)> {
        let log = self.folder().join("refused.log");
        let mut process = Process::start("postrider up", self.command()?.env_remove("RUST_LOG"), &log)?;
        let status = process.wait()?;
        Ok((status, process.output()))
    }

    fn log(&self) -> PathBuf {
        self.folder().join("up.log")
    }

    fn ready_file(&self) -> PathBuf {
        self.folder().join("ready.json")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder().join("token")
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    process: Process,
    /// Where everything listens.
    pub ready: Ready,
    plan: Plan,
}

impl Cluster {
    /// How it was started.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All process ids that the ready file names.
    pub fn pids(&self) -> Vec<u32> {
        fn collect(value: &Value, into: &mut Vec<u32>) {
            match value {
                Value::Number(number) => into.extend(number.as_u64().and_then(|id| u32::try_from(id).ok())),
                Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
                Value::Object(values) => values.values().for_each(|value| collect(value, into)),
                Value::Null | Value::Bool(_) | Value::String(_) => {}
            }
        }
        let mut pids = Vec::new();
        collect(&self.ready.pids, &mut pids);
        pids
    }

    /// Stops it as Ctrl-C does.
    ///
    /// # Errors
    /// If it does not stop cleanly.
    pub fn stop(mut self) -> Result<Plan> {
        self.process.signal("INT")?;
        let status = self.process.wait()?;
        anyhow::ensure!(status.success(), "postrider up ended with {status}:\n{}", self.process.output());
        Ok(self.plan.clone())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A cluster that was killed, or hangs, cannot end its own children.
        let children: Vec<u32> = self.pids().into_iter().filter(|&id| id != self.process.id()).collect();
        if self.process.stop().is_err() {
            self.process.kill().ok();
        }
        for id in children {
            if is_ours(id) {
                process::signal_to(id, "KILL").ok();
            }
        }
    }
}

/// Whether this process is a nats-server or a postrider: an id may have been given to somebody else meanwhile.
fn is_ours(id: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    process::is_alive(id) && (name.starts_with("nats-server") || name.starts_with("postrider"))
}
