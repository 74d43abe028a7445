//! The command line of `postrider receiver`: a configuration file, flags that override it, or flags alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Flavour, Misbehaviour, ReceiverConfig};

/// Arguments of `postrider receiver`.
#[derive(Clone, Debug, Default, Args)]
pub struct ReceiverArguments {
    /// Configuration file (TOML); the flags below override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:2026]; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// The name in the greeting.
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// Offer STARTTLS with a self-signed certificate.
    #[arg(long)]
    starttls: bool,
    /// Append one JSON line for each accepted (message, recipient) to this file.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Keep each accepted message as a file in this folder.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// What it does to every client before a recipient is named.
    #[arg(long, value_name = "HOW")]
    misbehave: Option<Misbehaviour>,
    /// Whose replies the limits below give.
    #[arg(long, value_name = "PROVIDER")]
    flavour: Option<Flavour>,
    /// The most open connections a source address.
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// The most messages a connection.
    #[arg(long, value_name = "N")]
    messages_per_connection: Option<u32>,
    /// The most messages a minute from a source address.
    #[arg(long, value_name = "N")]
    messages_per_minute: Option<u32>,
    /// Write `{"address": "IP:PORT"}` to this file once it listens.
    #[arg(long, value_name = "FILE")]
    pub(super) ready_file: Option<PathBuf>,
}

impl ReceiverArguments {
    /// The configuration these arguments mean.
    ///
    /// # Errors
    /// If the configuration file is refused.
    pub fn into_config(self) -> anyhow::Result<ReceiverConfig> {
        let mut config: ReceiverConfig = match &self.config {
            Some(path) => postrider_runtime::load_config(path, "POSTRIDER")?,
            None => ReceiverConfig::default(),
        };
        let limits = &mut config.limits;
        override_by(&mut limits.flavour, self.flavour);
        limits.connections = self.connections.or(limits.connections);
        limits.messages_per_connection = self.messages_per_connection.or(limits.messages_per_connection);
        limits.messages_per_minute = self.messages_per_minute.or(limits.messages_per_minute);
        override_by(&mut config.listen, self.listen);
        override_by(&mut config.host_name, self.host_name);
        config.starttls |= self.starttls;
        config.ledger = self.ledger.or(config.ledger);
        config.store = self.store.or(config.store);
        config.misbehave = self.misbehave.or(config.misbehave);
        Ok(config)
    }
}

fn override_by<T>(value: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *value = flag;
    }
}
