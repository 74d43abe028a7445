//! What the scenarios with faults have in common: the load, the bounds, how a takeover is measured. No test itself.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use postrider_tests::load::Shape;
use postrider_tests::processes::Processes;
use postrider_tests::sink::{Line, Verdict};
use postrider_tests::wait;

/// What may be in flight in one process: its conversations, and the settles of a moment.
pub const IN_FLIGHT: usize = 500;

/// The settings of delivery: what is in flight is bounded.
pub const DELIVERY: &str = "conversations = 400\nidle_secs = 1\ndrain_secs = 15";

const DOMAINS: usize = 200;

/// One recipient a message, at 200 sites of either class, so that every shard has work.
pub const MANY_SITES: Shape = Shape { sessions: 8, rate: 700, recipients: one_of_many, field: class_of };

fn is_transactional(number: usize) -> bool {
    number.is_multiple_of(3)
}

fn one_of_many(number: usize) -> Vec<String> {
    let class = if is_transactional(number) { 't' } else { 'b' };
    vec![format!("someone@{class}{:03}.example", number % DOMAINS)]
}

fn class_of(number: usize) -> &'static str {
    if is_transactional(number) { "X-Postrider-Class: transactional" } else { "" }
}

/// The time as the ledger has it: milliseconds since midnight, UTC.
pub fn now_millis_of_day() -> u64 {
    millis_of_day(SystemTime::now())
}

fn millis_of_day(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() % 86_400_000
}

/// Whether a line was written before this moment, an hour at most from it.
pub fn is_before(line: &Line, moment: SystemTime) -> bool {
    between(line.millis_of_day(), millis_of_day(moment)) < Duration::from_secs(3600)
}

/// From `earlier` to `later` within a day or over one midnight.
pub fn between(earlier: u64, later: u64) -> Duration {
    Duration::from_millis((later + 86_400_000 - earlier) % 86_400_000)
}

/// How long sites were left alone by a process that is gone.
#[derive(Debug)]
pub struct Takeover {
    /// Until the first of its sites was served by another.
    pub first: Duration,
    /// Until the last one was.
    pub last: Duration,
    /// How many they were.
    pub sites: usize,
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, sites } = self;
        write!(f, "{sites} sites served again after {:.1} to {:.1} s", first.as_secs_f64(), last.as_secs_f64())
    }
}

/// Waits until every site that `from` served before (the first `before` lines of the ledger) is served by `to`.
pub fn takeover(cluster: &Processes, before: usize, at: u64, from: &str, to: &str) -> Result<Takeover> {
    let (old, new) = (cluster.source_of(from), cluster.source_of(to));
    let lines = cluster.sink.lines()?;
    let sites: BTreeSet<String> =
        lines.iter().take(before).filter(|line| line.source == old).map(|line| line.domain().to_owned()).collect();
    ensure!(!sites.is_empty(), "{from} served nobody");
    let mut missing = BTreeSet::new();
    wait::until(&format!("{to} to serve the sites of {from}"), || {
        let lines = cluster.sink.lines()?;
        let served: BTreeSet<&str> =
            lines.iter().skip(before).filter(|line| line.source == new).map(Line::domain).collect();
        missing = sites.iter().filter(|site| !served.contains(site.as_str())).cloned().collect();
        Ok(missing.is_empty().then_some(()))
    })
    .with_context(|| format!("{} of {} are not: {:?}", missing.len(), sites.len(), missing.iter().next()))?;
    let lines = cluster.sink.lines()?;
    let served = sites.iter().filter_map(|site| {
        let mut later = lines.iter().skip(before);
        later.find(|line| line.source == new && line.domain() == site).map(|line| between(at, line.millis_of_day()))
    });
    let served: Vec<Duration> = served.collect();
    let first = served.iter().min().copied().unwrap_or_default();
    let last = served.iter().max().copied().unwrap_or_default();
    Ok(Takeover { first, last, sites: sites.len() })
}

/// How long after `at` a process sent its first message, `before` lines of the ledger having been there.
pub fn first_line(cluster: &Processes, before: usize, at: u64, from: &str) -> Result<Duration> {
    let source = cluster.source_of(from);
    wait::until(&format!("{from} to send"), || {
        let lines = cluster.sink.lines()?;
        Ok(lines.iter().skip(before).find(|line| line.source == source).map(|line| between(at, line.millis_of_day())))
    })
}

/// The time between two moments of a day, whichever is earlier.
pub fn apart(one: u64, other: u64) -> Duration {
    between(one, other).min(between(other, one))
}

/// What came twice came once around the moment of a fault (a process that was frozen may come second): it was in flight then.
pub fn check_in_flight(verdict: &Verdict, moments: &[u64]) -> Result<()> {
    let margin = Duration::from_secs(20);
    for (first, again) in &verdict.repeats {
        let is_near = |line: &Line| moments.iter().any(|&moment| apart(moment, line.millis_of_day()) <= margin);
        let near = is_near(first) || is_near(again);
        ensure!(near, "came twice, but was not in flight: {first:?}, {again:?}");
    }
    Ok(())
}

/// The figures of a scenario, for the reader of the test's output.
#[expect(clippy::print_stderr, reason = "the figures are what the scenario is run for")]
pub fn say(scenario: &str, figures: &str) {
    eprintln!("{scenario}: {figures}");
}
