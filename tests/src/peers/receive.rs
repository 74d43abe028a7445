//! Receiving with other people's servers, each with its state in a temporary folder.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{place, wait};

use super::packaged_python;

/// A message that a server keeps.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The envelope sender.
    pub mail_from: String,
    /// The recipients of the transaction.
    pub rcpt_tos: Vec<String>,
    /// The message, lines ended by CRLF.
    pub message: Vec<u8>,
}

/// An aiosmtpd that keeps the exact bytes.
#[derive(Debug)]
pub struct Aiosmtpd {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    _process: Process,
}

#[derive(Deserialize)]
struct Envelope {
    mail_from: String,
    rcpt_tos: Vec<String>,
}

impl Aiosmtpd {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// If it ends before it listens.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one that speaks LMTP (RFC 2033).
    ///
    /// # Errors
    /// If it ends before it listens.
    pub fn start_lmtp() -> Result<Self> {
        Self::start_with(&["lmtp"])
    }

    fn start_with(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postrider-aiosmtpd-").tempdir()?;
        let mut command = Command::new(packaged_python()?);
        command.arg(place::peer_script("receive.py")).arg(folder.path()).args(arguments);
        let mut process = Process::start("aiosmtpd", &mut command, &folder.path().join("log"))?;
        let text = wait::until("aiosmtpd", || {
            if let Some(status) = process.ended()? {
                bail!("aiosmtpd ended with {status}:\n{}", process.output());
            }
            Ok(std::fs::read_to_string(folder.path().join("ready.json")).ok())
        })?;
        let ready: Value = serde_json::from_str(&text)?;
        let address = ready["address"].as_str().context("no address")?.parse()?;
        Ok(Self { address, folder, _process: process })
    }

    /// The messages so far, in order.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn messages(&self) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        loop {
            let path = self.folder.path().join(format!("{}.json", kept.len()));
            let Ok(text) = std::fs::read_to_string(&path) else { return Ok(kept) };
            let envelope: Envelope = serde_json::from_str(&text)?;
            let message = std::fs::read(path.with_extension("eml"))?;
            kept.push(Kept { mail_from: envelope.mail_from, rcpt_tos: envelope.rcpt_tos, message });
        }
    }

    /// Waits until it keeps so many.
    ///
    /// # Errors
    /// If they do not come in time.
    pub fn received(&self, count: usize) -> Result<Vec<Kept>> {
        wait::until(&format!("{count} messages at aiosmtpd"), || {
            Ok(Some(self.messages()?).filter(|messages| messages.len() >= count))
        })
    }
}

/// A private Postfix that takes mail for anybody into one maildir.
#[derive(Debug)]
pub struct Postfix {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    _process: Process,
}

impl Postfix {
    /// Starts one; needs root.
    ///
    /// # Errors
    /// If it ends before it listens.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postrider-postfix-").tempdir()?;
        // Postfix cannot be told to take a free port: find one and hope that nobody takes it in the next second.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(place::peer_script("postfix/start"));
        command.arg(folder.path()).arg(address.port().to_string());
        // The master ends its children by the process group, so it must lead one.
        command.process_group(0);
        let mut process = Process::start("postfix", &mut command, &folder.path().join("start.log"))?;
        wait::until("Postfix", || {
            if let Some(status) = process.ended()? {
                let log = std::fs::read_to_string(folder.path().join("log/maillog")).unwrap_or_default();
                bail!("Postfix ended with {status}:\n{}{log}", process.output());
            }
            Ok(TcpStream::connect(address).ok())
        })?;
        Ok(Self { address, folder, _process: process })
    }

    /// The messages so far: one for each recipient, with Postfix's own header fields, line ends as they came by SMTP.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn messages(&self) -> Result<Vec<Vec<u8>>> {
        let inbox = self.folder.path().join("mail/inbox/new");
        let Ok(entries) = std::fs::read_dir(inbox) else { return Ok(Vec::new()) };
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        files.into_iter().map(|path| Ok(with_crlf(&std::fs::read(path)?))).collect()
    }

    /// Waits until it keeps so many.
    ///
    /// # Errors
    /// If they do not come in time.
    pub fn received(&self, count: usize) -> Result<Vec<Vec<u8>>> {
        wait::until(&format!("{count} messages at Postfix"), || {
            Ok(Some(self.messages()?).filter(|messages| messages.len() >= count))
        })
        .with_context(|| std::fs::read_to_string(self.folder.path().join("log/maillog")).unwrap_or_default())
    }
}

/// A maildir keeps lines that end in LF alone.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => lines.extend_from_slice(&[line, b"\r\n"].concat()),
            None => lines.extend_from_slice(line),
        }
    }
    lines
}
