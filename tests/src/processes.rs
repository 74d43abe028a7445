//! A cluster of separate processes: its own nats-server, one ingress, control, a receiver with its ledger, and any number of
//! delivery processes, each of which can be killed, frozen and started again. Every cluster has loopback addresses of its
//! own, so that a process that comes back finds its ports free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::place;
use crate::process::Process;
use crate::servers::Servers;
use crate::sink::Sink;
use crate::tmpfs::Tmpfs;
use crate::wait;

mod by_name;

mod logs;

/// Those who load the machine take turns, so that time limits mean something.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for one's turn; it lasts until the guard is dropped.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tenant as whom everything is sent.
const TENANT: &str = "load";

/// What can be different from one cluster to another.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the queue is cut: `cluster` or `single`.
    pub layout: &'static str,
    /// Lines of `[nats]`.
    pub nats: &'static str,
    /// Lines of `[delivery]`.
    pub delivery: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: "cluster", nats: "", delivery: "" }
    }
}

/// What a cluster may have beside that.
#[derive(Clone, Debug)]
pub struct Extras {
    /// How many nats-servers: one or three.
    pub servers: usize,
    /// The first server's store is a tmpfs of so many megabytes (root alone may mount it).
    pub store_megabytes: Option<u32>,
    /// Whole tables at the end of the configuration.
    pub tables: String,
    /// Whether all mail is routed to the receiver, instead of found by MX.
    pub routed: bool,
    /// Every delivery process sends from the first one's address, so that they share paths.
    pub one_source: bool,
    /// Environment of every postrider process; `{name}` stands for its name.
    pub environment: Vec<(String, String)>,
}

impl Default for Extras {
    fn default() -> Self {
        Self {
            servers: 1,
            store_megabytes: None,
            tables: String::new(),
            routed: true,
            one_source: false,
            environment: Vec::new(),
        }
    }
}

/// A running cluster.
pub struct Processes {
    /// Where mail is taken.
    pub relay: SocketAddr,
    /// Where mail goes.
    pub sink: Sink,
    deliveries: BTreeMap<String, Process>,
    known: BTreeSet<String>,
    ingress: Option<Process>,
    control: Option<Process>,
    servers: Servers,
    store: Option<Tmpfs>,
    address: Ipv4Addr,
    settings: Settings,
    extras: Extras,
    logged: Mutex<BTreeMap<String, usize>>,
    folder: TempDir,
}

impl Processes {
    /// Starts everything but delivery.
    ///
    /// # Errors
    /// If one of them does not come up.
    pub fn start(settings: Settings) -> Result<Self> {
        Self::start_with(settings, Extras::default())
    }

    /// As [`Processes::start`], with more.
    ///
    /// # Errors
    /// If one of them does not come up, or the store cannot be mounted.
    pub fn start_with(settings: Settings, extras: Extras) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postrider-processes-").tempdir()?;
        let address = own_address()?;
        std::fs::write(folder.path().join("token"), "a-token-for-this-test-alone\n")?;
        write_private(&folder.path().join("secret.key"), &[7; 32])?;
        let sink = Sink::start(SocketAddr::new(address.into(), 2026))?;
        let mut processes = Self {
            relay: SocketAddr::new(address.into(), 2025),
            sink,
            deliveries: BTreeMap::new(),
            known: BTreeSet::new(),
            ingress: None,
            control: None,
            servers: Servers::new(address, folder.path(), extras.servers),
            store: None,
            address,
            settings,
            extras,
            logged: Mutex::default(),
            folder,
        };
        processes.write_configuration()?;
        if let Some(megabytes) = processes.extras.store_megabytes {
            processes.store = Some(Tmpfs::mount(&processes.servers.store(0), megabytes)?);
        }
        processes.servers.start_all()?;
        processes.start_control()?;
        processes.run_until_it_works(&["tenant", "create", TENANT])?;
        if processes.extras.routed {
            let sink = processes.sink.address.to_string();
            processes.run_until_it_works(&["route", "create", "*", &sink])?;
        }
        processes.start_ingress()?;
        Ok(processes)
    }

    fn write_configuration(&self) -> Result<()> {
        let Settings { layout, nats, delivery } = &self.settings;
        let (address, folder) = (self.address, self.folder.path().display());
        let (urls, replicas) = (self.servers.urls(), self.servers.count());
        let text = format!(
            "[log]\nfilter = \"info,postrider=debug,postrider_delivery=debug\"\n\
             [cluster]\nsecret_key_file = \"{folder}/secret.key\"\nlayout = \"{layout}\"\n\
             [nats]\nurls = {urls:?}\nreplicas = {replicas}\n{nats}\n\
             [ingress]\nhost_name = \"localhost\"\n\
             [[ingress.listeners]]\nname = \"relay\"\naddress = \"{address}:2025\"\nkind = \"relay\"\n\
             [[ingress.networks]]\ncidrs = [\"127.0.0.0/8\"]\ntenant = \"{TENANT}\"\nany_sender = true\nclass = \"bulk\"\n\
             [delivery]\nehlo_name = \"localhost\"\n{delivery}\n\
             [control]\nlisten = \"{address}:2090\"\ntoken_file = \"{folder}/token\"\n{}",
            self.extras.tables
        );
        Ok(std::fs::write(self.configuration(), text)?)
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    fn spawn(&self, role: &str, name: &str, environment: &[(&str, String)]) -> Result<Process> {
        let mut command = Command::new(place::program()?);
        command.args([role, "--config"]).arg(self.configuration()).env_remove("RUST_LOG");
        command.env("POSTRIDER_CLUSTER__MEMBER", name);
        let own = |(key, value): &(String, String)| (key.clone(), value.replace("{name}", name));
        command.envs(self.extras.environment.iter().map(own));
        command.envs(environment.iter().map(|(key, value)| (*key, value.clone())));
        Process::start(&format!("postrider {role} {name}"), &mut command, &self.log(name))
    }

    /// Where a process writes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// Where this delivery process sends from: `one` from .11, `two` from .12 and so on, by the last byte of its name.
    pub fn source_of(&self, name: &str) -> IpAddr {
        self.own_address_of(if self.extras.one_source { "all" } else { name })
    }

    fn own_address_of(&self, name: &str) -> IpAddr {
        let [a, b, c, _] = self.address.octets();
        let last = name.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) | 16;
        Ipv4Addr::new(a, b, c, last).into()
    }

    /// Where a delivery process shows its metrics.
    pub fn metrics_of(&self, name: &str) -> SocketAddr {
        SocketAddr::new(self.own_address_of(name), 2091)
    }

    /// Starts a delivery process and waits until it works.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_delivery(&mut self, name: &str) -> Result<()> {
        self.start_delivery_with(name, &[])
    }

    /// Starts a delivery process that ends itself at a fault point.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_delivery_with_fault(&mut self, name: &str, fault: &str) -> Result<()> {
        self.start_delivery_with(name, &[("POSTRIDER_FAULT", fault.to_owned())])
    }

    fn start_delivery_with(&mut self, name: &str, environment: &[(&str, String)]) -> Result<()> {
        let mut environment = environment.to_vec();
        environment.push(("POSTRIDER_DELIVERY__SOURCE_ADDRESS", self.source_of(name).to_string()));
        environment.push(("POSTRIDER_METRICS__ADDRESS", self.metrics_of(name).to_string()));
        let process = self.spawn("delivery", name, &environment)?;
        self.deliveries.insert(name.to_owned(), process);
        self.known.insert(name.to_owned());
        Ok(())
    }

    /// Waits until a process has written this since it was last asked to be.
    ///
    /// # Errors
    /// If it does not.
    pub fn until_logged(&self, name: &str, text: &str) -> Result<()> {
        let log = self.log(name);
        let seen = || std::fs::read_to_string(&log).unwrap_or_default().matches(text).count();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let before = logged.entry(format!("{name} {text}")).or_default();
        wait::until(&format!("{name} to write {text:?}"), || Ok((seen() > *before).then_some(())))?;
        *before = seen();
        Ok(())
    }

    /// A running delivery process.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn delivery(&mut self, name: &str) -> Result<&mut Process> {
        self.deliveries.get_mut(name).with_context(|| format!("no delivery process {name}"))
    }

    /// Ends a delivery process with SIGKILL.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn kill_delivery(&mut self, name: &str) -> Result<()> {
        let mut process = self.deliveries.remove(name).with_context(|| format!("no delivery process {name}"))?;
        process.kill()
    }

    /// Stops a delivery process with SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// If it does not end well.
    pub fn stop_delivery(&mut self, name: &str) -> Result<()> {
        let mut process = self.deliveries.remove(name).with_context(|| format!("no delivery process {name}"))?;
        let status = process.stop()?;
        ensure!(status.success(), "{name} ended with {status}");
        Ok(())
    }

    /// Waits until a process has ended by itself, as one with a fault does.
    ///
    /// # Errors
    /// If it goes on.
    pub fn until_ended(&mut self, name: &str) -> Result<()> {
        let process = self.delivery(name)?;
        wait::until(&format!("{name} to end"), || process.ended())?;
        self.deliveries.remove(name);
        Ok(())
    }

    /// Starts ingress and waits until it listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_ingress(&mut self) -> Result<()> {
        self.ingress = Some(self.spawn("ingress", "ingress", &[])?);
        until_listens(self.relay)
    }

    /// Ends ingress with SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill_ingress(&mut self) -> Result<()> {
        self.ingress.take().context("no ingress")?.kill()
    }

    /// The nats-servers.
    pub fn servers(&mut self) -> &mut Servers {
        &mut self.servers
    }

    /// Where the store is, if it is a file system of its own.
    pub fn store(&self) -> Option<&Tmpfs> {
        self.store.as_ref()
    }

    /// Starts the first nats-server on its store, and waits until it listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_nats(&mut self) -> Result<()> {
        self.servers.start(0)
    }

    /// Where NATS is.
    pub fn nats_address(&self) -> SocketAddr {
        self.servers.address(0)
    }

    /// Ends the first nats-server with SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill_nats(&mut self) -> Result<()> {
        self.servers.kill(0)
    }

    /// Sends the first nats-server a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal_nats(&self, signal: &str) -> Result<()> {
        self.servers.signal(0, signal)
    }

    /// Runs a client command that must succeed, and reads its JSON.
    ///
    /// # Errors
    /// If it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.output(&[arguments, &["-o", "json"]].concat())?)?)
    }

    /// Runs a client command that must succeed: what it wrote.
    ///
    /// # Errors
    /// If it fails.
    pub fn output(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(place::program()?)
            .args(arguments)
            .env("POSTRIDER_SERVER", format!("{}:2090", self.address))
            .env("POSTRIDER_TOKEN_FILE", self.folder.path().join("token"))
            .env("HOME", self.folder.path())
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "postrider {arguments:?} ended with {}: {complaint}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    fn run_until_it_works(&self, arguments: &[&str]) -> Result<()> {
        let mut last = None;
        wait::until(&format!("postrider {arguments:?}"), || match self.json(arguments) {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                last = Some(error.to_string());
                Ok(None)
            }
        })
        .with_context(|| format!("{last:?}"))
    }

    /// Waits until no stream that mail passes through holds anything, nothing is unacknowledged, and nothing is among the
    /// dead letters.
    ///
    /// # Errors
    /// Names what is left.
    pub fn until_empty(&self, patience: Duration) -> Result<()> {
        crate::streams::until_empty(self.nats_address(), patience)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Ok(folder) = std::env::var("POSTRIDER_KEEP_LOGS") {
            self.keep_logs(Path::new(&folder));
        }
        for process in self.deliveries.values().chain(&self.ingress).chain(&self.control) {
            process.signal("CONT").ok();
        }
        for number in 0..self.servers.count() {
            self.servers.signal(number, "CONT").ok();
        }
        // In this order: who needs NATS to end well ends before it.
        self.ingress = None;
        self.deliveries.clear();
        self.control = None;
        self.servers = Servers::new(self.address, self.folder.path(), 0);
    }
}

fn until_listens(address: SocketAddr) -> Result<()> {
    wait::until(&format!("somebody to listen at {address}"), || {
        Ok(std::net::TcpStream::connect(address).ok().map(drop))
    })
}

fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, bytes)?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?)
}

/// A loopback address that nobody else uses: 127.x.y.1, with x and y by process and turn.
fn own_address() -> Result<Ipv4Addr> {
    let seed = std::process::id();
    for turn in 0..10_000u32 {
        let [_, _, a, b] = seed.wrapping_mul(2_654_435_761).wrapping_add(turn).to_be_bytes();
        let address = Ipv4Addr::new(127, a.clamp(16, 250), b, 1);
        let ports = [2025, 2026, 2090, 4222, 8222];
        let free = ports.iter().all(|port| TcpListener::bind((address, *port)).is_ok());
        if free {
            return Ok(address);
        }
    }
    bail!("no loopback address is free")
}
