//! A cluster of separate processes: its own nats-server, one ingress, control, a receiver with its ledger, and any number of
//! delivery processes, each of which can be killed, frozen and started again. Every cluster has loopback addresses of its
//! own, so that a process that comes back finds its ports free.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::sink::Sink;
use crate::{place, wait};

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

/// A running cluster.
pub struct Processes {
    /// Where mail is taken.
    pub relay: SocketAddr,
    /// Where mail goes.
    pub sink: Sink,
    deliveries: BTreeMap<String, Process>,
    ingress: Option<Process>,
    control: Option<Process>,
    nats: Option<Process>,
    address: Ipv4Addr,
    settings: Settings,
    logged: Mutex<BTreeMap<String, usize>>,
    folder: TempDir,
}

impl Processes {
    /// Starts everything but delivery.
    ///
    /// # Errors
    /// If one of them does not come up.
    pub fn start(settings: Settings) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postrider-processes-").tempdir()?;
        let address = own_address()?;
        std::fs::write(folder.path().join("token"), "a-token-for-this-test-alone\n")?;
        write_private(&folder.path().join("secret.key"), &[7; 32])?;
        let sink = Sink::start(SocketAddr::new(address.into(), 2026))?;
        let mut processes = Self {
            relay: SocketAddr::new(address.into(), 2025),
            sink,
            deliveries: BTreeMap::new(),
            ingress: None,
            control: None,
            nats: None,
            address,
            settings,
            logged: Mutex::default(),
            folder,
        };
        processes.write_configuration()?;
        processes.start_nats()?;
        processes.control = Some(processes.spawn("control", "control", &[])?);
        processes.run_until_it_works(&["tenant", "create", TENANT])?;
        let sink = processes.sink.address.to_string();
        processes.run_until_it_works(&["route", "create", "*", &sink])?;
        processes.start_ingress()?;
        Ok(processes)
    }

    fn write_configuration(&self) -> Result<()> {
        let Settings { layout, nats, delivery } = &self.settings;
        let (address, folder) = (self.address, self.folder.path().display());
        let text = format!(
            "[log]\nfilter = \"info,postrider=debug,postrider_delivery=debug\"\n\
             [cluster]\nsecret_key_file = \"{folder}/secret.key\"\nlayout = \"{layout}\"\n\
             [nats]\nurls = [\"nats://{address}:4222\"]\n{nats}\n\
             [ingress]\nhost_name = \"localhost\"\n\
             [[ingress.listeners]]\nname = \"relay\"\naddress = \"{address}:2025\"\nkind = \"relay\"\n\
             [[ingress.networks]]\ncidrs = [\"127.0.0.0/8\"]\ntenant = \"{TENANT}\"\nany_sender = true\nclass = \"bulk\"\n\
             [delivery]\nehlo_name = \"localhost\"\n{delivery}\n\
             [control]\nlisten = \"{address}:2090\"\ntoken_file = \"{folder}/token\"\n"
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
        command.envs(environment.iter().map(|(key, value)| (*key, value.clone())));
        Process::start(&format!("postrider {role} {name}"), &mut command, &self.log(name))
    }

    /// Where a process writes.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// Where this delivery process sends from: `one` from .11, `two` from .12 and so on, by the last byte of its name.
    pub fn source_of(&self, name: &str) -> IpAddr {
        let [a, b, c, _] = self.address.octets();
        let last = name.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) | 16;
        Ipv4Addr::new(a, b, c, last).into()
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
        let process = self.spawn("delivery", name, &environment)?;
        self.deliveries.insert(name.to_owned(), process);
        Ok(())
    }

    /// Waits until shards that it is said to have are as many as `holds` wants, by the lines of its log.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn until_shards(&self, name: &str, holds: impl Fn(usize) -> bool) -> Result<()> {
        let mut last = 0;
        wait::until(&format!("{name} to have its shards"), || {
            last = self.shards(name);
            Ok(holds(last).then_some(()))
        })
        .with_context(|| format!("it has {last}"))
    }

    /// Shards that a process has now, by its log.
    pub fn shards(&self, name: &str) -> usize {
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        // A log is appended to when a process of that name starts again.
        let life = log.rfind("delivery starts").map_or(log.as_str(), |start| &log[start..]);
        let count = |what: &str| life.matches(what).count();
        count("shard taken").saturating_sub(count("shard released") + count("shard lost"))
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

    /// Starts nats-server on its store, and waits until it listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_nats(&mut self) -> Result<()> {
        let file = self.folder.path().join("nats.conf");
        let text = format!(
            "listen: \"{}:4222\"\nmax_payload: 1MB\nmax_pending: 128MB\njetstream {{\n store_dir: \"{}/nats\"\n \
             max_mem: 1GB\n max_file: 100GB\n}}\n",
            self.address,
            self.folder.path().display()
        );
        std::fs::write(&file, text)?;
        let mut command = Command::new(place::nats_server()?);
        command.arg("-c").arg(&file);
        self.nats = Some(Process::start("nats-server", &mut command, &self.log("nats"))?);
        until_listens(self.nats_address())
    }

    fn nats_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), 4222)
    }

    /// Ends nats-server with SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill_nats(&mut self) -> Result<()> {
        self.nats.take().context("no nats-server")?.kill()
    }

    /// Sends nats-server a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal_nats(&self, signal: &str) -> Result<()> {
        self.nats.as_ref().context("no nats-server")?.signal(signal)
    }

    /// Runs a client command that must succeed, and reads its JSON.
    ///
    /// # Errors
    /// If it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(place::program()?)
            .args(arguments)
            .args(["-o", "json"])
            .env("POSTRIDER_SERVER", format!("{}:2090", self.address))
            .env("POSTRIDER_TOKEN_FILE", self.folder.path().join("token"))
            .env("HOME", self.folder.path())
            .output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "postrider {arguments:?} ended with {}: {complaint}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
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

    /// What the logs should not hold: panics and errors.
    ///
    /// # Errors
    /// With the first of these lines.
    pub fn check_logs(&self) -> Result<()> {
        for file in std::fs::read_dir(self.folder.path())? {
            let path = file?.path();
            let ours = path.extension().is_some_and(|extension| extension == "log");
            if !ours || path.ends_with("nats.log") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            if let Some(line) = text.lines().find(|line| line.contains("panicked at") || line.contains(" ERROR ")) {
                bail!("{} says: {line}", path.display());
            }
        }
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Ok(folder) = std::env::var("POSTRIDER_KEEP_LOGS") {
            keep_logs(self.folder.path(), Path::new(&folder));
            std::fs::copy(self.sink.ledger(), Path::new(&folder).join("ledger")).ok();
        }
        for process in self.deliveries.values().chain(&self.nats) {
            process.signal("CONT").ok();
        }
        // In this order: who needs NATS to end well ends before it.
        self.ingress = None;
        self.deliveries.clear();
        self.control = None;
        self.nats = None;
    }
}

fn keep_logs(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).ok();
    for file in std::fs::read_dir(from).into_iter().flatten().flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).ok();
        }
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
        let ports = [2025, 2026, 2090, 4222];
        let free = ports.iter().all(|port| TcpListener::bind((address, *port)).is_ok());
        if free {
            return Ok(address);
        }
    }
    bail!("no loopback address is free")
}
