//! A line of the table: what a run was, and what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use super::kind::Kind;
use super::plan::Plan;
use crate::place;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything held.
    Passed,
    /// The first thing that did not.
    Failed(String),
    /// It cannot be had on this machine.
    Skipped(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("ok"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
        }
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its seed.
    pub seed: u64,
    /// What went wrong.
    pub kind: Kind,
    /// The same in detail, in the order in which it happened.
    pub what: String,
    /// The load and the cluster.
    pub load: String,
    /// Recipients of messages that were answered 250.
    pub accepted: usize,
    /// Those that are in the ledger.
    pub delivered: usize,
    /// Those that ended otherwise, by the events: bounced.
    pub bounced: usize,
    /// Those that did neither.
    pub lost: usize,
    /// What came again.
    pub repeats: usize,
    /// How many were allowed to.
    pub bound: usize,
    /// How long the run took.
    pub seconds: f64,
    /// What it came to.
    pub verdict: Verdict,
}

/// The heading of [`Row::markdown`].
pub const HEADING: &str = "| seed | kind | what happened | load | accepted | delivered | bounced | lost | repeats | bound | s | commit | verdict |\n\
     | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

impl Row {
    /// A run that has not begun.
    pub fn new(plan: &Plan) -> Self {
        let (sessions, rate) = plan.pace;
        let load = format!(
            "{}, {rate}/s over {sessions}; {} nats, {} delivery, {}",
            plan.traffic.name, plan.servers, plan.deliveries, plan.layout
        );
        Self {
            seed: plan.seed,
            kind: plan.kind,
            what: String::new(),
            load,
            accepted: 0,
            delivered: 0,
            bounced: 0,
            lost: 0,
            repeats: 0,
            bound: 0,
            seconds: 0.0,
            verdict: Verdict::Passed,
        }
    }

    /// Whether it failed.
    pub const fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }

    /// A line for the table of all runs.
    pub fn markdown(&self, commit: &str) -> String {
        let clean = |text: &str| text.replace(['\n', '\r'], " ").replace('|', "/");
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {commit} | {} |\n",
            self.seed,
            self.kind,
            clean(&self.what),
            self.load,
            self.accepted,
            self.delivered,
            self.bounced,
            self.lost,
            self.repeats,
            self.bound,
            self.seconds,
            clean(&self.verdict.to_string())
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6} {:<15} {:>8} {:>9} {:>7} {:>5} {:>7} {:>6} {:>5.1}  {}",
            self.seed,
            self.kind,
            self.accepted,
            self.delivered,
            self.bounced,
            self.lost,
            self.repeats,
            self.bound,
            self.seconds,
            self.verdict
        )
    }
}

/// The heading of a row's line.
pub const LINE: &str = "  seed kind            accepted delivered bounced  lost repeats  bound     s  verdict";

/// A line for each kind, and one for all.
pub fn summary(rows: &[Row]) -> String {
    let mut kinds: BTreeMap<Kind, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        kinds.entry(row.kind).or_default().push(row);
    }
    let mut text = String::from("kind             runs    ok failed skipped  accepted  lost repeats  bound\n");
    let mut line = |name: &str, rows: &[&Row]| {
        let count = |holds: fn(&Row) -> bool| rows.iter().filter(|row| holds(row)).count();
        let sum = |of: fn(&Row) -> usize| rows.iter().map(|row| of(row)).sum::<usize>();
        text.push_str(&format!(
            "{name:<15} {:>5} {:>5} {:>6} {:>7} {:>9} {:>5} {:>7} {:>6}\n",
            rows.len(),
            count(|row| row.verdict == Verdict::Passed),
            count(Row::failed),
            count(|row| matches!(row.verdict, Verdict::Skipped(_))),
            sum(|row| row.accepted),
            sum(|row| row.lost),
            sum(|row| row.repeats),
            sum(|row| row.bound),
        ));
    };
    for (kind, rows) in &kinds {
        line(kind.name(), rows);
    }
    line("all", &rows.iter().collect::<Vec<_>>());
    text
}

/// The commit that is tried, with a `+` if files differ from it.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(place::repository()).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { "+" };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))
}
