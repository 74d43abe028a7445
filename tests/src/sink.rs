//! A receiver that keeps nothing but its ledger, and the judgement that the ledger allows: what was lost, what came twice.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::load::Sent;
use crate::process::Process;
use crate::{place, wait};

/// A line of the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// When, RFC 3339.
    pub time: String,
    /// The message.
    pub token: String,
    /// The recipient.
    pub rcpt_to: String,
    /// The address it came from.
    pub source: IpAddr,
}

impl Line {
    /// The recipient's domain.
    pub fn domain(&self) -> &str {
        self.rcpt_to.rsplit('@').next().unwrap_or_default()
    }

    /// Milliseconds since midnight (UTC) on the day of `time`.
    pub fn millis_of_day(&self) -> u64 {
        let number =
            |range: std::ops::Range<usize>| self.time.get(range).and_then(|text| text.parse().ok()).unwrap_or(0);
        ((number(11..13) * 60 + number(14..16)) * 60 + number(17..19)) * 1000 + number(20..23)
    }
}

/// A running receiver.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    read: Mutex<Read>,
    process: Process,
}

/// What has been read of the ledger.
#[derive(Default)]
struct Read {
    bytes: u64,
    lines: Arc<Vec<Line>>,
}

impl Sink {
    /// Starts one at this address (port 0: a free one).
    ///
    /// # Errors
    /// If it ends before it listens.
    pub fn start(listen: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("postrider-sink-").tempdir()?;
        let ready_file = folder.path().join("ready.json");
        let mut command = Command::new(place::program()?);
        command.args(["receiver", "--listen", &listen.to_string(), "--ledger"]).arg(folder.path().join("ledger"));
        command.arg("--ready-file").arg(&ready_file);
        let mut process = Process::start("postrider receiver", &mut command, &folder.path().join("log"))?;
        let text = wait::until("the receiver", || {
            if let Some(status) = process.ended()? {
                bail!("postrider receiver ended with {status}:\n{}", process.output());
            }
            Ok(std::fs::read_to_string(&ready_file).ok())
        })?;
        let ready: serde_json::Value = serde_json::from_str(&text)?;
        let address = ready["address"].as_str().context("no address")?.parse()?;
        Ok(Self { address, folder, read: Mutex::default(), process })
    }

    /// Sends its process a signal, `STOP` or `CONT`.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.process.signal(signal)
    }

    /// Where the ledger is.
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger")
    }

    /// All lines so far. Reads what is new since the last time.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn lines(&self) -> Result<Arc<Vec<Line>>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = std::fs::File::open(self.ledger())?;
        file.seek(SeekFrom::Start(read.bytes))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        read.bytes += u64::try_from(whole.len())?;
        for line in whole.lines() {
            let line = serde_json::from_str(line).with_context(|| line.to_owned())?;
            Arc::make_mut(&mut read.lines).push(line);
        }
        Ok(Arc::clone(&read.lines))
    }

    /// How many lines there are.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn count(&self) -> Result<usize> {
        Ok(self.lines()?.len())
    }

    /// Waits for so many lines.
    ///
    /// # Errors
    /// If they do not come in time.
    pub fn until(&self, count: usize) -> Result<()> {
        wait::until(&format!("{count} lines of the ledger"), || Ok((self.count()? >= count).then_some(())))
            .with_context(|| format!("{:?} came", self.count()))
    }

    /// Waits until all that was accepted has come, at most for `patience`, and judges.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn judge(&self, sent: &Sent, patience: Duration) -> Result<Verdict> {
        let due: usize = sent.accepted.values().map(Vec::len).sum();
        let mut verdict = Verdict::default();
        let complete = wait::until_within(patience, "the last message", || {
            if self.count()? < due {
                return Ok(None);
            }
            verdict = Verdict::of(sent, &self.lines()?);
            Ok(verdict.lost.is_empty().then_some(()))
        });
        if complete.is_err() {
            verdict = Verdict::of(sent, &self.lines()?);
        }
        Ok(verdict)
    }
}

/// What a ledger says of a load.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Recipients of messages that were answered 250.
    pub accepted: usize,
    /// Those of them that came.
    pub delivered: usize,
    /// Those that did not: token and recipient.
    pub lost: Vec<(String, String)>,
    /// Those that came again, each as often as it did after its first time: the lines of the first and of this time.
    pub repeats: Vec<(Line, Line)>,
    /// Tokens that nobody sent.
    pub foreign: Vec<String>,
}

impl Verdict {
    /// Judges what has come so far.
    pub fn of(sent: &Sent, lines: &[Line]) -> Self {
        let mut first: BTreeMap<(&str, &str), &Line> = BTreeMap::new();
        let mut verdict = Self::default();
        for line in lines {
            if !sent.accepted.contains_key(&line.token) && !sent.unknown.contains_key(&line.token) {
                verdict.foreign.push(line.token.clone());
            }
            match first.get(&(line.token.as_str(), line.rcpt_to.as_str())) {
                Some(first) => verdict.repeats.push(((*first).clone(), line.clone())),
                None => drop(first.insert((&line.token, &line.rcpt_to), line)),
            }
        }
        for (token, recipients) in &sent.accepted {
            for recipient in recipients {
                verdict.accepted += 1;
                match first.contains_key(&(token.as_str(), recipient.as_str())) {
                    true => verdict.delivered += 1,
                    false => verdict.lost.push((token.clone(), recipient.clone())),
                }
            }
        }
        verdict
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        format!(
            "accepted {}, delivered {}, lost {}, repeats {}",
            self.accepted,
            self.delivered,
            self.lost.len(),
            self.repeats.len()
        )
    }

    /// Fails unless nothing was lost, nothing foreign came, and no more than so many came again.
    ///
    /// # Errors
    /// With the first of those that are wrong.
    pub fn check(&self, most_repeats: usize) -> Result<()> {
        let some = |all: &[(String, String)]| all.iter().take(5).cloned().collect::<Vec<_>>();
        anyhow::ensure!(self.lost.is_empty(), "{}: lost {:?}", self.summary(), some(&self.lost));
        anyhow::ensure!(self.foreign.is_empty(), "{}: nobody sent {:?}", self.summary(), self.foreign.first());
        let shown: Vec<_> = self.repeats.iter().take(5).collect();
        anyhow::ensure!(
            self.repeats.len() <= most_repeats,
            "{}: more repeats than the {most_repeats} in flight: {shown:?}",
            self.summary()
        );
        Ok(())
    }
}
