//! What `postrider up` says once everything serves: where, how durable, what to paste, what to type next; and the same for
//! programs, in the ready file.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use postrider_runtime::Readiness;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::arguments::UpArgs;
use super::demo;
use super::durability::Durability;
use super::store::{Secrets, Store, write_private};

/// Everything worth knowing about a running cluster.
pub struct Facts<'a> {
    /// Submission with STARTTLS.
    pub submission: Option<SocketAddr>,
    /// Submission with implicit TLS.
    pub submissions: Option<SocketAddr>,
    /// The relay listener.
    pub relay: Option<SocketAddr>,
    /// gRPC.
    pub control: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
    /// Every nats-server.
    pub nats: &'a [SocketAddr],
    /// The simulated receiver.
    pub receiver: Option<SocketAddr>,
    /// The secrets.
    pub secrets: &'a Secrets,
    /// The data folder.
    pub store: &'a Store,
    /// The flags.
    pub args: &'a UpArgs,
    /// What a `250` promises.
    pub durability: Durability,
    /// This process and every nats-server.
    pub pids: &'a [u32],
}

#[derive(Serialize)]
struct ReadyFile<'a> {
    submission: String,
    submissions: String,
    relay: String,
    control: String,
    metrics: String,
    nats: String,
    nats_servers: Vec<String>,
    receiver: Option<String>,
    username: &'a str,
    password: &'a str,
    token: &'a str,
    tenant: &'a str,
    domain: &'a str,
    durability: &'a str,
    pids: &'a [u32],
}

/// Says a line to the person at the terminal.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Says a line if there is somebody to hear it: a terminal that is gone must not keep a stop from being orderly.
pub fn mention(text: &str) {
    if let Err(error) = say(text) {
        tracing::debug!(%error, text, "nobody hears");
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

impl Facts<'_> {
    /// Waits until every part says that it serves.
    pub async fn wait_until_ready(&self, readiness: &Readiness, stop: &CancellationToken) {
        while !readiness.is_ready() && !stop.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes the ready file and the banner.
    pub fn announce(&self) -> anyhow::Result<()> {
        if let Some(file) = &self.args.ready_file {
            self.write_ready_file(file)?;
        }
        mention(&self.banner());
        Ok(())
    }

    fn write_ready_file(&self, file: &Path) -> anyhow::Result<()> {
        let ready = ReadyFile {
            submission: shown(self.submission),
            submissions: shown(self.submissions),
            relay: shown(self.relay),
            control: self.control.to_string(),
            metrics: self.metrics.to_string(),
            nats: self.nats.first().map(ToString::to_string).unwrap_or_default(),
            nats_servers: self.nats.iter().map(ToString::to_string).collect(),
            receiver: self.receiver.map(|address| address.to_string()),
            username: demo::USERNAME,
            password: &self.secrets.password,
            token: &self.secrets.token,
            tenant: demo::TENANT,
            domain: demo::DOMAIN,
            durability: self.durability.as_str(),
            pids: self.pids,
        };
        // Written whole: whoever waits for it never reads half of it.
        write_private(file, &serde_json::to_string_pretty(&ready)?)
    }

    fn banner(&self) -> String {
        let (submission, submissions, relay) = (shown(self.submission), shown(self.submissions), shown(self.relay));
        let data = self.store.path.display();
        let token_file = quoted(&self.store.file("token"));
        let program = std::env::current_exe().map_or_else(|_| "postrider".to_owned(), |path| short(&path));
        let receiver = match self.receiver {
            Some(address) => format!("{address}  (a simulated provider; unless routed elsewhere, all mail ends here)"),
            None => "none: mail goes to the exchangers of the world, unless a route says otherwise".to_owned(),
        };
        let nats: Vec<String> = self.nats.iter().map(ToString::to_string).collect();
        let trusted = if self.args.trust_loopback { ", no AUTH from 127.0.0.1" } else { "" };
        let (user, password) = (demo::USERNAME, &self.secrets.password);
        let (from, to) = (format!("news@{}", demo::DOMAIN), "alice@example.net");
        format!(
            "\nPostrider is up. Ctrl-C stops all of it; the queue stays in {data}.\n\n  \
             submission   {submission} (STARTTLS), {submissions} (TLS)\n  \
             relay        {relay}{trusted}\n  \
             receiver     {receiver}\n  \
             control      {control}    metrics http://{metrics}/metrics    NATS {nats}\n  \
             durability   {durability}: {promise}\n\n\
             Send a message as tenant {tenant} (domain {domain}), with swaks or with curl:\n\n  \
             swaks --server {submission} --tls --auth PLAIN --auth-user {user} --auth-password {password} \\\n    \
             --from {from} --to {to}\n\n  \
             printf 'From: {from}\\nTo: {to}\\nSubject: hello\\n\\nHello.\\n' | curl --silent --show-error --ssl-reqd --insecure \\\n    \
             --user {user}:{password} --mail-from {from} --mail-rcpt {to} --crlf --upload-file - smtp://{submission}\n\n\
             Then see what became of it:\n\n  \
             export POSTRIDER_SERVER=http://{control} POSTRIDER_TOKEN_FILE={token_file}\n  \
             {program} message find --to {to} --since 10m\n  \
             {program} message show ID        (the id in \"queued as ID\", or the Message-ID)\n  \
             {program} queue summary\n  \
             {program} event tail -f\n\n\
             Recipients like defer2@example.net, refuse@example.net or hang@example.net show the other ways of mail: \
             {program} receiver --help\n",
            control = self.control,
            metrics = self.metrics,
            nats = nats.join(", "),
            durability = self.durability.as_str(),
            promise = self.durability.promise(),
            tenant = demo::TENANT,
            domain = demo::DOMAIN,
        )
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A path as one would type it here.
fn short(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        // A bare name would be looked for on PATH.
        Ok(name) if name.components().count() == 1 => format!("./{}", quoted(name)),
        Ok(below) => quoted(below),
        Err(_) => quoted(path),
    }
}
