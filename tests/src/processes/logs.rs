//! What the logs of a cluster's processes say: who has which shard, and what should not be there.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Processes;
use crate::wait;

impl Processes {
    /// Waits until shards that it is said to have are as many as `holds` wants, by the lines of its log.
    ///
    /// # Errors
    /// If that does not come about.
    pub fn until_shards(&self, name: &str, holds: impl Fn(usize) -> bool) -> Result<()> {
        let mut last = 0;
        wait::until(&format!("{name} to have its shards"), || {
            last = self.shards(name);
            Ok(holds(last).then_some(()))
        })
        .with_context(|| format!("it has {last}"))
    }

    /// Shards that a process has now, by its log.
    pub fn shards(&self, name: &str) -> usize {
        let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        // A log is appended to when a process of that name starts again.
        let life = log.rfind("delivery starts").map_or(log.as_str(), |start| &log[start..]);
        let count = |what: &str| life.matches(what).count();
        count("shard taken").saturating_sub(count("shard released") + count("shard lost"))
    }

    /// Copies logs, configuration and the ledger into a folder.
    pub fn keep_logs(&self, to: &Path) {
        std::fs::create_dir_all(to).ok();
        for file in std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            if file.path().is_file() {
                std::fs::copy(file.path(), to.join(file.file_name())).ok();
            }
        }
        std::fs::copy(self.sink.ledger(), to.join("ledger")).ok();
    }

    /// Every claim of a shard that a process has logged: the shard and the epoch.
    ///
    /// # Errors
    /// If a line of the log says neither.
    pub fn claims(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let log = std::fs::read_to_string(self.log(name))?;
        let claims = log.lines().filter(|line| line.contains("shard taken")).map(|line| {
            let of = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let shard = of("shard").with_context(|| line.to_owned())?;
            Ok((shard.to_owned(), of("epoch").with_context(|| line.to_owned())?.parse()?))
        });
        claims.collect()
    }

    /// When a process wrote this, each time: milliseconds since midnight, UTC.
    ///
    /// # Errors
    /// If there is no log, or a line without a time.
    pub fn moments_of(&self, name: &str, text: &str) -> Result<Vec<u64>> {
        let log = std::fs::read_to_string(self.log(name))?;
        let moment = |line: &str| {
            let number = |range: std::ops::Range<usize>| line.get(range).and_then(|digits| digits.parse::<u64>().ok());
            Some(((number(11..13)? * 60 + number(14..16)?) * 60 + number(17..19)?) * 1000 + number(20..23)?)
        };
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(|line| moment(line).with_context(|| line.to_owned())).collect()
    }

    /// What the logs should not hold: panics and errors.
    ///
    /// # Errors
    /// With the first of these lines.
    pub fn check_logs(&self) -> Result<()> {
        self.check_lines(|line| line.contains("panicked at") || line.contains(" ERROR "))
    }

    /// As [`Processes::check_logs`], but for errors that hold `expected`.
    ///
    /// # Errors
    /// With the first of the other lines.
    pub fn check_logs_but(&self, expected: &str) -> Result<()> {
        self.check_lines(|line| line.contains("panicked at") || (line.contains(" ERROR ") && !line.contains(expected)))
    }

    /// As [`Processes::check_logs`], where errors are what is expected.
    ///
    /// # Errors
    /// With the first panic.
    pub fn check_panics(&self) -> Result<()> {
        self.check_lines(|line| line.contains("panicked at"))
    }

    fn check_lines(&self, is_wrong: impl Fn(&str) -> bool) -> Result<()> {
        for file in std::fs::read_dir(self.folder.path())? {
            let path = file?.path();
            let ours = path.extension().is_some_and(|extension| extension == "log");
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !ours || name.starts_with("nats") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            if let Some(line) = text.lines().find(|line| is_wrong(line)) {
                bail!("{} says: {line}", path.display());
            }
        }
        Ok(())
    }
}
