//! The command line of `postrider receiver`: a configuration file, flags that override it, or flags alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::process::ProcessConfig;

use super::{Flavour, Misbehaviour, ReceiverConfig};

/// What a recipient's name does, for the help; the whole table stands at the top of the module `receiver`.
const NAMES: &str = "\
What a recipient's name does, whatever the domain, up to a '+':
  refuse, refuse-552           550 5.1.1 to RCPT, or the code named
  refuse-data                  554 5.7.1 to the end of the data
  defer                        451 4.7.1 to RCPT, always
  defer2                       451 twice for this sender and recipient, then accepts
  defer-data, defer2-data      the same to the end of the data (defer2-data: for this recipient and message)
  busy                         421 4.3.2 to RCPT, and closes
  delay-3                      the reply to the end of the data comes 3 seconds late
  drip, drip-50                replies come a byte a second, or a byte in 50 ms
  hang, hang-data              RCPT, or the end of the data, is never answered
  disconnect-PHASE             drops at mail, rcpt, data, body, end, or right after the last reply (after)
  every other                  accepts

Examples:
  postrider receiver --listen 127.0.0.1:2526 --ledger ledger.ndjson
  postrider receiver --flavour gmail --messages-per-minute 100 --connections 5";

/// Arguments of `postrider receiver`.
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = NAMES)]
pub struct ReceiverArguments {
    /// Configuration file (TOML) with a table [receiver]; the flags below override it.
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
            Some(path) => ProcessConfig::load(path)?.receiver,
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
