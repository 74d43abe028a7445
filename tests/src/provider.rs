//! A simulated mailbox provider: `postrider receiver` with its ledger and store in a temporary folder.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{place, wait};

/// A line of the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct LedgerLine {
    /// The message's token (`X-Token`, else Message-ID).
    pub token: String,
    /// The envelope sender.
    pub mail_from: String,
    /// The recipient.
    pub rcpt_to: String,
    /// The address it came from.
    pub source: std::net::IpAddr,
    /// The number of the connection.
    pub connection: u64,
    /// Whether it was encrypted.
    pub tls: bool,
    /// SHA-256 of the body.
    pub body_sha256: String,
    /// The file in the store.
    pub file: String,
}

/// A running receiver.
#[derive(Debug)]
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    _process: Process,
}

impl Provider {
    /// Starts one on a free port, with further flags of `postrider receiver`.
    ///
    /// # Errors
    /// If it ends before it listens.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postrider-provider-").tempdir()?;
        let ready_file = folder.path().join("ready.json");
        let mut command = Command::new(place::program()?);
        command.args(["receiver", "--listen", "127.0.0.1:0", "--ledger"]).arg(folder.path().join("ledger"));
        command.arg("--store").arg(folder.path().join("store")).arg("--ready-file").arg(&ready_file).args(arguments);
        let mut process = Process::start("postrider receiver", &mut command, &folder.path().join("log"))?;
        let text = wait::until("the receiver", || {
            if let Some(status) = process.ended()? {
                bail!("postrider receiver ended with {status}:\n{}", process.output());
            }
            Ok(std::fs::read_to_string(&ready_file).ok())
        })?;
        let ready: Value = serde_json::from_str(&text)?;
        let address = ready["address"].as_str().context("no address")?.parse()?;
        Ok(Self { address, folder, _process: process })
    }

    /// The ledger as it stands.
    ///
    /// # Errors
    /// If a whole line of it cannot be read.
    pub fn ledger(&self) -> Result<Vec<LedgerLine>> {
        let text = std::fs::read_to_string(self.folder.path().join("ledger"))?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The lines of one token.
    ///
    /// # Errors
    /// As [`Provider::ledger`].
    pub fn lines_of(&self, token: &str) -> Result<Vec<LedgerLine>> {
        Ok(self.ledger()?.into_iter().filter(|line| line.token == token).collect())
    }

    /// Waits until so many lines have this token.
    ///
    /// # Errors
    /// If they do not come in time.
    pub fn received(&self, token: &str, count: usize) -> Result<Vec<LedgerLine>> {
        wait::until(&format!("{count} lines of {token} in the ledger"), || {
            Ok(Some(self.lines_of(token)?).filter(|lines| lines.len() >= count))
        })
        .with_context(|| format!("the ledger: {:?}", self.ledger()))
    }

    /// The exact bytes of a received message.
    ///
    /// # Errors
    /// If the file is not there.
    pub fn message(&self, line: &LedgerLine) -> Result<Vec<u8>> {
        Ok(std::fs::read(self.folder.path().join("store").join(&line.file))?)
    }
}
