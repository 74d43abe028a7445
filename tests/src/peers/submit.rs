//! Submitting with other people's programs. Each says what the server answered; none of them decides what is right.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::cluster::Cluster;
use crate::mail::Mail;
use crate::place;

use super::{json_of, node_modules, output_of};

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// By STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
    /// Not at all.
    Plain,
}

impl Security {
    fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::Plain => "none",
        }
    }
}

/// Where to submit, and as whom.
#[derive(Clone, Debug)]
pub struct Account {
    /// The listener.
    pub server: SocketAddr,
    /// How.
    pub security: Security,
    /// The credential; empty: without AUTH.
    pub username: String,
    /// Its secret.
    pub password: String,
}

impl Cluster {
    /// The demo credential at the listener for that kind of connection; [`Security::Plain`] is the relay without AUTH.
    pub fn account(&self, security: Security) -> Account {
        let ready = &self.ready;
        let (server, username, password) = match security {
            Security::StartTls => (ready.submission, ready.username.clone(), ready.password.clone()),
            Security::Implicit => (ready.submissions, ready.username.clone(), ready.password.clone()),
            Security::Plain => (ready.relay, String::new(), String::new()),
        };
        Account { server, security, username, password }
    }

    /// An address of the demo tenant.
    pub fn sender(&self, local: &str) -> String {
        format!("{local}@{}", self.ready.domain)
    }

    /// Submits by smtplib with AUTH over STARTTLS; our id of the message.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn submit(&self, mail: &Mail) -> Result<String> {
        smtplib(&self.account(Security::StartTls), mail)?.message_id()
    }
}

/// What smtplib heard, each reply as `250 text`.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// The banner.
    pub greeting: String,
    /// To AUTH.
    pub login: Option<String>,
    /// To MAIL.
    pub mail: Option<String>,
    /// To each RCPT.
    pub recipients: BTreeMap<String, String>,
    /// To the end of the data.
    pub data: Option<String>,
    /// How the server hung up, if it did.
    pub disconnected: Option<String>,
}

impl Answer {
    /// Our id in the reply to the data.
    ///
    /// # Errors
    /// If there is none: it was not accepted.
    pub fn message_id(&self) -> Result<String> {
        message_id(self.data.as_deref().unwrap_or_default()).with_context(|| format!("not accepted: {self:?}"))
    }
}

/// The id in `250 2.0.0 queued as <id>`, wherever it stands in the text.
///
/// # Errors
/// If it does not.
pub fn message_id(text: &str) -> Result<String> {
    let (_, after) = text.split_once("queued as ").with_context(|| format!("no `queued as` in {text:?}"))?;
    Ok(after.chars().take_while(|c| c.is_ascii_hexdigit() || *c == '-').collect())
}

fn order(account: &Account, mail: &Mail, file: &NamedTempFile) -> String {
    json!({
        "host": account.server.ip(),
        "port": account.server.port(),
        "security": account.security.as_str(),
        "username": account.username,
        "password": account.password,
        "sender": mail.sender,
        "recipients": mail.recipients,
        "message": file.path(),
        "smtputf8": !mail.sender.is_ascii() || mail.recipients.iter().any(|recipient| !recipient.is_ascii()),
    })
    .to_string()
}

fn message_file(mail: &Mail) -> Result<NamedTempFile> {
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), &mail.message)?;
    Ok(file)
}

/// Python's smtplib.
///
/// # Errors
/// If the conversation itself breaks.
pub fn smtplib(account: &Account, mail: &Mail) -> Result<Answer> {
    let file = message_file(mail)?;
    json_of(Command::new("python3").arg(place::peer_script("submit.py")), &order(account, mail, &file))
}

/// nodemailer; its account of the reply to the data, or of what went wrong.
///
/// # Errors
/// If it does not run.
pub fn nodemailer(account: &Account, mail: &Mail) -> Result<String> {
    let file = message_file(mail)?;
    let mut command = Command::new("node");
    command.arg(place::peer_script("submit.cjs")).env("NODE_PATH", node_modules()?);
    let answer: serde_json::Value = json_of(&mut command, &order(account, mail, &file))?;
    Ok(answer.to_string())
}

/// swaks; its whole transcript.
///
/// # Errors
/// If it does not run.
pub fn swaks(account: &Account, mail: &Mail) -> Result<String> {
    let file = message_file(mail)?;
    // It puts the end of the last line there itself.
    std::fs::write(file.path(), mail.message.strip_suffix(b"\r\n").unwrap_or(&mail.message))?;
    let mut command = Command::new("swaks");
    command.args(["--server", &account.server.ip().to_string(), "--port", &account.server.port().to_string()]);
    match account.security {
        Security::StartTls => drop(command.arg("--tls")),
        Security::Implicit => drop(command.arg("--tlsc")),
        Security::Plain => {}
    }
    if !account.username.is_empty() {
        command.args(["--auth", "PLAIN", "--auth-user", &account.username, "--auth-password", &account.password]);
    }
    command.args(["--from", &mail.sender, "--to", &mail.recipients.join(",")]);
    command.arg("--data").arg(format!("@{}", file.path().display()));
    transcript(&mut command)
}

/// curl; its whole transcript.
///
/// # Errors
/// If it does not run.
pub fn curl(account: &Account, mail: &Mail) -> Result<String> {
    let file = message_file(mail)?;
    let scheme = if account.security == Security::Implicit { "smtps" } else { "smtp" };
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--verbose", "--insecure", "--max-time", "120"]);
    command.args(["--url", &format!("{scheme}://{}/curl.test", account.server)]);
    if account.security == Security::StartTls {
        command.arg("--ssl-reqd");
    }
    if !account.username.is_empty() {
        command.args(["--user", &format!("{}:{}", account.username, account.password)]);
    }
    command.args(["--mail-from", &mail.sender]);
    for recipient in &mail.recipients {
        command.args(["--mail-rcpt", recipient]);
    }
    command.arg("--upload-file").arg(file.path());
    transcript(&mut command)
}

fn transcript(command: &mut Command) -> Result<String> {
    let output = output_of(command, "")?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
