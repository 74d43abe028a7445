//! The client commands as a script uses them: run, exit code, JSON.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::{place, wait};

impl Cluster {
    /// Runs a client command against this cluster.
    ///
    /// # Errors
    /// If it does not start.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(place::program()?)
            .args(arguments)
            .env("POSTRIDER_SERVER", self.ready.control.to_string())
            .env("POSTRIDER_TOKEN_FILE", self.plan().token_file())
            .env("HOME", self.plan().folder())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("postrider {arguments:?} does not start"))
    }

    /// Runs a client command that must succeed, and reads its JSON.
    ///
    /// # Errors
    /// If it fails, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(&[arguments, &["-o", "json"]].concat())?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "postrider {arguments:?} ended with {}: {complaint}", output.status);
        serde_json::from_str(&said).with_context(|| format!("postrider {arguments:?} printed {said:?}"))
    }

    /// The life of a message; nothing while none of its events can be found.
    ///
    /// # Errors
    /// If the command fails for another reason than that (exit code 3).
    pub fn message(&self, id: &str) -> Result<Option<Life>> {
        let output = self.run(&["message", "show", id, "-o", "json"])?;
        if output.status.code() == Some(3) {
            return Ok(None);
        }
        ensure!(output.status.success(), "message show: {}", String::from_utf8_lossy(&output.stderr));
        let mut lives: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        Ok(lives.pop().map(Life))
    }

    /// Waits until every recipient of a message has come to its end: delivered, bounced, expired.
    ///
    /// # Errors
    /// If that does not happen in time; the error holds the life as last seen.
    pub fn end_of(&self, id: &str) -> Result<Life> {
        self.message_until(id, "its end", Life::is_over)
    }

    /// Waits until a message waits for something.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn wait_of(&self, id: &str) -> Result<Life> {
        self.message_until(id, "a wait", |life| life.waiting().is_some())
    }

    /// Waits until a recipient's last event is `deferred`.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn deferred(&self, id: &str) -> Result<Life> {
        self.message_until(id, "a deferral", |life| life.events().iter().any(|event| event == "deferred"))
    }

    /// Waits until something holds of a message.
    ///
    /// # Errors
    /// If that does not happen in time; the error holds the life as last seen.
    pub fn message_until(&self, id: &str, what: &str, holds: impl Fn(&Life) -> bool) -> Result<Life> {
        let mut last = None;
        let found = wait::until(&format!("{what} of message {id}"), || {
            last = self.message(id)?;
            Ok(last.clone().filter(|life| holds(life)))
        });
        found.with_context(|| format!("message show says {}", last.map_or(Value::Null, |life| life.0)))
    }
}

/// What `message show -o json` says of one message.
#[derive(Clone, Debug)]
pub struct Life(pub Value);

impl Life {
    /// Address and last event of every recipient, sorted.
    pub fn recipients(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> =
            self.each_recipient().map(|one| (text(&one["recipient"]), text(&one["event"]))).collect();
        all.sort();
        all
    }

    /// The events of all recipients, each once.
    pub fn events(&self) -> Vec<String> {
        let mut events: Vec<String> = self.recipients().into_iter().map(|(_, event)| event).collect();
        events.sort();
        events.dedup();
        events
    }

    /// Whether every recipient has come to its end.
    pub fn is_over(&self) -> bool {
        self.each_recipient().count() > 0 && self.each_recipient().all(|one| one["final"] == true)
    }

    /// The first wait there is: an object with `reason`, `until`, `lifted_by`.
    pub fn waiting(&self) -> Option<&Value> {
        self.0["parts"].as_array()?.iter().map(|part| &part["waiting"]).find(|waiting| !waiting.is_null())
    }

    /// The last reply to the recipient: `550 5.1.1 text`.
    pub fn reply(&self, recipient: &str) -> String {
        let found = self.each_recipient().find(|one| one["recipient"] == recipient);
        let reply = found.map_or(&Value::Null, |one| &one["reply"]);
        format!("{} {} {}", reply["code"], text(&reply["enhanced"]), text(&reply["text"]))
    }

    /// How many conversations there were.
    pub fn attempts(&self) -> usize {
        let happenings = self.0["happenings"].as_array().map(Vec::as_slice).unwrap_or_default();
        happenings.iter().filter(|happening| !happening["attempt"].is_null()).count()
    }

    fn each_recipient(&self) -> impl Iterator<Item = &Value> {
        let parts = self.0["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        parts.iter().flat_map(|part| part["recipients"].as_array().map(Vec::as_slice).unwrap_or_default())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
