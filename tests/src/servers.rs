//! The nats-servers of a cluster of processes: one, or three that make a NATS cluster. Each has a loopback address and a store
//! of its own and can be killed, frozen and started again by its number.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::{place, wait};

const CLIENTS: u16 = 4222;
const ROUTES: u16 = 6222;
const MONITOR: u16 = 8222;

/// The servers; dropping them ends them.
pub struct Servers {
    address: Ipv4Addr,
    folder: PathBuf,
    running: Vec<Option<Process>>,
}

impl Servers {
    /// So many servers, none of which runs yet, with stores and logs in `folder`. The first has `address`, the others those
    /// behind it.
    pub fn new(address: Ipv4Addr, folder: &Path, count: usize) -> Self {
        Self { address, folder: folder.to_path_buf(), running: (0..count).map(|_| None).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    fn at(&self, number: usize, port: u16) -> SocketAddr {
        let first = u32::from(self.address);
        let address = Ipv4Addr::from(first + u32::try_from(number).unwrap_or_default());
        SocketAddr::new(IpAddr::V4(address), port)
    }

    /// Where clients find a server.
    pub fn address(&self, number: usize) -> SocketAddr {
        self.at(number, CLIENTS)
    }

    /// All of them, as clients want them.
    pub fn urls(&self) -> Vec<String> {
        (0..self.count()).map(|number| format!("nats://{}", self.address(number))).collect()
    }

    /// The folder of a server's store.
    pub fn store(&self, number: usize) -> PathBuf {
        self.folder.join(if number == 0 { "nats".to_owned() } else { format!("nats-{number}") })
    }

    /// Starts all that do not run, and waits until JetStream works.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn start_all(&mut self) -> Result<()> {
        for number in 0..self.count() {
            if !self.is_alive(number) {
                self.spawn(number)?;
            }
        }
        self.until_healthy()
    }

    /// Starts one on its store, and waits until it listens.
    ///
    /// # Errors
    /// If it does not.
    pub fn start(&mut self, number: usize) -> Result<()> {
        self.spawn(number)?;
        let address = self.address(number);
        wait::until(&format!("nats-server to listen at {address}"), || Ok(TcpStream::connect(address).ok().map(drop)))
    }

    /// Starts one without a look at what becomes of it.
    ///
    /// # Errors
    /// If the program is missing.
    pub fn spawn(&mut self, number: usize) -> Result<()> {
        let file = self.folder.join(format!("nats-{number}.conf"));
        std::fs::write(&file, self.configuration(number))?;
        let mut command = Command::new(place::nats_server()?);
        command.arg("-c").arg(&file);
        let log = if number == 0 { "nats.log".to_owned() } else { format!("nats-{number}.log") };
        self.running[number] = Some(Process::start("nats-server", &mut command, &self.folder.join(log))?);
        Ok(())
    }

    fn configuration(&self, number: usize) -> String {
        let mut text = format!(
            "listen: \"{}\"\nhttp: \"{}\"\nserver_name: n{number}\nmax_payload: 1MB\nmax_pending: 128MB\n\
             jetstream {{\n store_dir: \"{}\"\n max_mem: 1GB\n max_file: 100GB\n}}\n",
            self.address(number),
            self.at(number, MONITOR),
            self.store(number).display()
        );
        if self.count() > 1 {
            let routes = (0..self.count()).map(|n| format!("\"nats://{}\"", self.at(n, ROUTES)));
            text.push_str(&format!(
                "cluster {{\n name: trial\n listen: \"{}\"\n routes: [{}]\n}}\n",
                self.at(number, ROUTES),
                routes.collect::<Vec<_>>().join(", ")
            ));
        }
        text
    }

    /// Whether it runs.
    pub fn is_alive(&mut self, number: usize) -> bool {
        self.running[number].as_mut().is_some_and(|process| matches!(process.ended(), Ok(None)))
    }

    /// Whether a server says that its JetStream works.
    pub fn is_healthy(&self, number: usize) -> bool {
        health(self.at(number, MONITOR)).unwrap_or(false)
    }

    /// Waits until every server says that its JetStream works.
    ///
    /// # Errors
    /// If one does not.
    pub fn until_healthy(&self) -> Result<()> {
        wait::until("JetStream to work", || Ok((0..self.count()).all(|n| self.is_healthy(n)).then_some(())))
    }

    /// Ends one with SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.running[number].take().context("no nats-server")?.kill()
    }

    /// Ends one as its supervisor does: SIGTERM, and SIGKILL if that takes too long.
    ///
    /// # Errors
    /// If it does not run.
    pub fn stop(&mut self, number: usize) -> Result<()> {
        let mut process = self.running[number].take().context("no nats-server")?;
        if process.stop().is_err() {
            process.kill()?;
        }
        Ok(())
    }

    /// Sends one a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, number: usize, signal: &str) -> Result<()> {
        self.running[number].as_ref().context("no nats-server")?.signal(signal)
    }

    /// The process id of one.
    ///
    /// # Errors
    /// If it does not run.
    pub fn id(&self, number: usize) -> Result<u32> {
        Ok(self.running[number].as_ref().context("no nats-server")?.id())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in self.running.iter().flatten() {
            process.signal("CONT").ok();
        }
    }
}

fn health(monitor: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&monitor, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
}
