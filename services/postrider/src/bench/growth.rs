//! How the rate for other sites grows, or does not, with what waits for a closed one, and with the number of sites: a table and a
//! plot.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::arguments::Output;
use super::backlog::{self, Backlog};
use super::figures::{median, shown};
use super::messages::{Addresses, Body, Corpus};
use super::plot::{self, Panel};
use super::results::markdown;
use super::sink::Sink;
use super::system::{Peer, SENDER_DOMAIN, Setup, System, free_port};
use super::turn::{Course, Turn};
use crate::up::Durability;

/// Rate against backlog and against the number of sites.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    postrider bench growth --plot growth.svg\n  \
    postrider bench growth --backlog 0,100k,1m --sites 1,1000\n\n\
    The backlog waits for one closed site, in the tiers of one and of four hours; meanwhile as much of it comes due each\n\
    second as in a steady state, meets the closed site and waits again. The load goes to another site.")]
pub struct GrowthArgs {
    /// How many wait for a closed site; each number is larger than the one before.
    #[arg(long, value_name = "N", default_value = "0,10k,100k,1m,5m", value_delimiter = ',', value_parser = parse_count)]
    pub backlog: Vec<usize>,

    /// How many sites the load goes to.
    #[arg(long, value_name = "N", default_value = "1,10,100,1k,10k,100k", value_delimiter = ',', value_parser = parse_count)]
    pub sites: Vec<usize>,

    /// Messages of each load, 1 KiB each; at least one for each site.
    #[arg(long, short = 'n', value_name = "N", default_value = "20k", value_parser = parse_count)]
    pub messages: usize,

    /// Loads at each backlog; medians are printed.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,

    /// What a 250 promises.
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    pub durability: Durability,

    /// Where the temporary folders are made.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,

    /// Where to write the plot.
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Seconds that a load may take.
    #[arg(long, value_name = "SECS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub limit: u32,

    /// How the results are printed.
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How long the idle system is watched.
const IDLE: Duration = Duration::from_secs(5);

const SIZE: usize = 1 << 10;

/// All points.
#[derive(Serialize)]
pub struct Growth {
    /// Against the backlog.
    pub backlog: Vec<Waiting>,
    /// Against the number of sites.
    pub sites: Vec<Sites>,
}

/// The rate while so many wait.
#[derive(Serialize)]
pub struct Waiting {
    waiting: usize,
    due_per_second: f64,
    end_to_end_rate: f64,
    latency_p99_ms: Option<f64>,
    cpu_ms_per_1000: Option<f64>,
    idle_cpu_percent: f64,
    pss_mib: f64,
    largest_process_rss_mib: f64,
    others_share: f64,
}

/// The rate for so many sites.
#[derive(Serialize)]
pub struct Sites {
    sites: usize,
    messages: usize,
    end_to_end_rate: f64,
    cpu_ms_per_1000: Option<f64>,
    peak_pss_mib: Option<f64>,
    others_share: f64,
}

impl GrowthArgs {
    /// Measures all points.
    ///
    /// # Errors
    /// What keeps it from measuring.
    pub fn measure(&self, stop: &CancellationToken) -> anyhow::Result<Growth> {
        let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), false)?;
        let backlog = if self.backlog.is_empty() { Vec::new() } else { self.against_backlog(&sink, stop)? };
        let sites = self.sites.iter().map(|&sites| self.against_sites(sites, &sink, stop)).collect::<Result<_, _>>()?;
        let growth = Growth { backlog, sites };
        if let Some(file) = &self.plot {
            std::fs::write(file, growth.plot()).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(growth)
    }

    fn course<'a>(&self, sites: usize, settings: String, sink: &'a Sink, stop: &'a CancellationToken) -> Course<'a> {
        let recipient_domains = (0..sites).map(|site| format!("dest{site}.example")).collect();
        let addresses = Addresses { sender_domain: SENDER_DOMAIN.to_owned(), recipient_domains };
        Course {
            setup: Setup {
                sink: sink.address,
                folder: self.folder.clone().unwrap_or_else(std::env::temp_dir),
                tls: false,
                dkim: false,
                connections: 20,
                routes: Vec::new(),
                settings,
            },
            corpus: Arc::new(Corpus::new(SIZE, Body::AsRealMail, addresses)),
            size: SIZE,
            messages: self.messages.max(sites),
            sessions: 20,
            rate: None,
            pipelining: true,
            eight_bit: false,
            limit: Duration::from_secs(u64::from(self.limit)),
            to: None,
            sink,
            stop,
        }
    }

    fn peer(&self) -> Peer {
        Peer::Postrider(self.durability)
    }

    fn against_sites(&self, sites: usize, sink: &Sink, stop: &CancellationToken) -> anyhow::Result<Sites> {
        let course = self.course(sites, String::new(), sink, stop);
        let turn = course.turn(self.peer()).with_context(|| format!("{sites} sites"))?;
        Ok(Sites {
            sites,
            messages: course.messages,
            end_to_end_rate: turn.end_to_end_rate,
            cpu_ms_per_1000: turn.cpu_ms_per_1000,
            peak_pss_mib: turn.peak_pss_mib,
            others_share: turn.others_share,
        })
    }

    fn against_backlog(&self, sink: &Sink, stop: &CancellationToken) -> anyhow::Result<Vec<Waiting>> {
        let mut course = self.course(1, backlog::settings(), sink, stop);
        // Nobody listens there.
        course.setup.routes.push(format!("{}=127.0.0.1:{}", backlog::CLOSED, free_port()?));
        let system = System::start(self.peer(), &course.setup, stop)?;
        let runtime = Handle::current();
        let mut message = Vec::new();
        course.corpus.write(0, "somebody@closed.example", &mut message);
        let mut backlog = runtime.block_on(Backlog::open(system.said("nats")?, message))?;
        let mut points = Vec::new();
        for &waiting in &self.backlog {
            runtime.block_on(backlog.fill(waiting, stop)).with_context(|| format!("a backlog of {waiting}"))?;
            let point = self.point(waiting, &course, &system, &backlog);
            points.push(point.with_context(|| format!("a backlog of {waiting}"))?);
        }
        Ok(points)
    }

    /// The loads beside a backlog that turns.
    fn point(
        &self,
        waiting: usize,
        course: &Course<'_>,
        system: &System,
        backlog: &Backlog,
    ) -> anyhow::Result<Waiting> {
        let runtime = Handle::current();
        let enough = course.stop.child_token();
        let measured = std::thread::scope(|scope| {
            let turning = scope.spawn(|| runtime.block_on(backlog.turn(&enough)));
            let measured = (|| {
                if waiting > 0 {
                    course.rest(Backlog::first_due())?;
                }
                let loads = (0..self.rounds).map(|_| course.load(self.peer(), system.address, Some(&system.group)));
                let turns: Vec<Turn> = loads.collect::<Result<_, _>>()?;
                course.rest(Duration::from_secs(2))?;
                let before = system.group.cpu();
                course.rest(IDLE)?;
                let idle = system.group.cpu().saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64();
                Ok((turns, idle))
            })();
            enough.cancel();
            let turned = turning.join().unwrap_or_else(|_| anyhow::bail!("the backlog panicked"));
            measured.and_then(|measured| turned.map(|()| measured))
        });
        let (turns, idle): (Vec<Turn>, f64) = measured?;
        let of = |read: fn(&Turn) -> Option<f64>| median(&turns.iter().filter_map(read).collect::<Vec<f64>>());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Ok(Waiting {
            waiting,
            due_per_second: backlog::turning(waiting),
            end_to_end_rate: of(|turn| Some(turn.end_to_end_rate)).unwrap_or(0.0),
            latency_p99_ms: of(|turn| turn.latency_p99_ms),
            cpu_ms_per_1000: of(|turn| turn.cpu_ms_per_1000),
            idle_cpu_percent: idle * 100.0,
            pss_mib: mib(system.group.memory().pss),
            largest_process_rss_mib: mib(system.group.largest()),
            others_share: of(|turn| Some(turn.others_share)).unwrap_or(0.0),
        })
    }
}

impl Growth {
    /// As two Markdown tables.
    pub fn tables(&self) -> String {
        let head = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<String>>();
        let mut waiting = vec![head(&[
            "waiting for a closed site",
            "due per second",
            "others, messages/s",
            "of the rate without",
            "CPU ms per 1,000",
            "idle CPU, % of one",
            "memory MiB (PSS)",
            "largest process MiB",
            "CPU taken by others, %",
        ])];
        let first = self.backlog.first().map(|point| point.end_to_end_rate);
        waiting.extend(self.backlog.iter().map(|point| {
            vec![
                plot::count(point.waiting as f64),
                shown(Some(point.due_per_second)),
                shown(Some(point.end_to_end_rate)),
                first.map_or_else(String::new, |first| format!("{:.2}", point.end_to_end_rate / first)),
                shown(point.cpu_ms_per_1000),
                shown(Some(point.idle_cpu_percent)),
                shown(Some(point.pss_mib)),
                shown(Some(point.largest_process_rss_mib)),
                shown(Some(point.others_share * 100.0)),
            ]
        }));
        let mut sites = vec![head(&[
            "sites",
            "messages",
            "messages/s",
            "CPU ms per 1,000",
            "peak memory MiB (PSS)",
            "CPU taken by others, %",
        ])];
        sites.extend(self.sites.iter().map(|point| {
            vec![
                plot::count(point.sites as f64),
                plot::count(point.messages as f64),
                shown(Some(point.end_to_end_rate)),
                shown(point.cpu_ms_per_1000),
                shown(point.peak_pss_mib),
                shown(Some(point.others_share * 100.0)),
            ]
        }));
        format!("{}\n{}", markdown(&waiting), markdown(&sites))
    }

    /// As a picture.
    pub fn plot(&self) -> String {
        let waiting: Vec<(f64, f64)> =
            self.backlog.iter().map(|point| (point.waiting as f64, point.end_to_end_rate)).collect();
        let sites: Vec<(f64, f64)> =
            self.sites.iter().map(|point| (point.sites as f64, point.end_to_end_rate)).collect();
        let up = "messages/s, end to end";
        plot::svg(&[
            Panel { title: "Rate for other sites", along: "waiting for one closed site", up, points: &waiting },
            Panel { title: "Rate for many sites", along: "sites", up, points: &sites },
        ])
    }
}

/// A count: 5000, 10k, 1m.
fn parse_count(text: &str) -> anyhow::Result<usize> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.chars().last() {
        Some('k') => (lower.trim_end_matches('k'), 1_000),
        Some('m') => (lower.trim_end_matches('m'), 1_000_000),
        _ => (lower.as_str(), 1),
    };
    let number: usize = digits.parse().ok().context("expected a number, as in 5000, 10k or 1m")?;
    let count = number.saturating_mul(unit);
    anyhow::ensure!(count <= 50_000_000, "at most 50m");
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_units() {
        assert_eq!(["0", "20k", "5M"].map(|text| parse_count(text).unwrap()), [0, 20_000, 5_000_000]);
        assert!(parse_count("1g").is_err() && parse_count("").is_err() && parse_count("99m").is_err());
    }

    #[test]
    fn tables_and_plot_say_the_same() {
        let sites = vec![Sites {
            sites: 1_000,
            messages: 20_000,
            end_to_end_rate: 4_321.0,
            cpu_ms_per_1000: None,
            peak_pss_mib: None,
            others_share: 0.0,
        }];
        let growth = Growth { backlog: Vec::new(), sites };
        assert!(growth.tables().contains("| 1k "), "{}", growth.tables());
        assert!(growth.plot().contains(">1k<"));
    }
}
