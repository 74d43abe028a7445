//! The processes of a cluster by name, for faults that choose one by chance: `ingress`, `control`, `nats-0` and so on, and
//! the delivery processes by their own names.

use anyhow::{Context, Result};

use super::Processes;
use crate::process::Process;

impl Processes {
    /// All names, in order, of what runs or did.
    pub fn names(&self) -> Vec<String> {
        let ours = ["ingress", "control"].map(str::to_owned);
        let servers = (0..self.servers.count()).map(|number| format!("nats-{number}"));
        ours.into_iter().chain(servers).chain(self.known.iter().cloned()).collect()
    }

    /// The names of delivery processes that were ever started.
    pub fn delivery_names(&self) -> Vec<String> {
        self.known.iter().cloned().collect()
    }

    /// Starts control. Does not wait for it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_control(&mut self) -> Result<()> {
        self.control = Some(self.spawn("control", "control", &[])?);
        Ok(())
    }

    /// Ends one with SIGKILL. Whether it ran.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self, name: &str) -> Result<bool> {
        let process = match (name, server(name)) {
            (_, Some(number)) => {
                let ran = self.servers.is_alive(number);
                self.servers.kill(number).ok();
                return Ok(ran);
            }
            ("ingress", _) => self.ingress.take(),
            ("control", _) => self.control.take(),
            _ => self.deliveries.remove(name),
        };
        let Some(mut process) = process else { return Ok(false) };
        process.kill()?;
        Ok(true)
    }

    /// Starts one, without a look at what becomes of it.
    ///
    /// # Errors
    /// If the program does not start.
    pub fn start_again(&mut self, name: &str) -> Result<()> {
        match (name, server(name)) {
            (_, Some(number)) => self.servers.spawn(number),
            ("ingress", _) => {
                self.ingress = Some(self.spawn("ingress", "ingress", &[])?);
                Ok(())
            }
            ("control", _) => self.start_control(),
            _ => self.start_delivery(name),
        }
    }

    fn process_of(&mut self, name: &str) -> Option<&mut Process> {
        match name {
            "ingress" => self.ingress.as_mut(),
            "control" => self.control.as_mut(),
            _ => self.deliveries.get_mut(name),
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self, name: &str) -> bool {
        match server(name) {
            Some(number) => self.servers.is_alive(number),
            None => self.process_of(name).is_some_and(|process| matches!(process.ended(), Ok(None))),
        }
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it does not run.
    pub fn id_of(&mut self, name: &str) -> Result<u32> {
        match server(name) {
            Some(number) => self.servers.id(number),
            None => Ok(self.process_of(name).with_context(|| format!("no process {name}"))?.id()),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&mut self, name: &str, signal: &str) -> Result<()> {
        crate::process::signal_to(self.id_of(name)?, signal)
    }
}

/// The number of a nats-server.
fn server(name: &str) -> Option<usize> {
    name.strip_prefix("nats-")?.parse().ok()
}
