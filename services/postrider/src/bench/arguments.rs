//! The flags of `postrider bench`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::growth::GrowthArgs;
use super::report::ReportArgs;
use crate::up::Durability;

/// A load over SMTP through a system of its own in a temporary folder, or through one that runs, and what it costs.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    postrider bench\n  \
    postrider bench --size 1k,10k,100k --messages 10000,5000,2000 --rounds 5 --compare postfix\n  \
    postrider bench --durability disk --tls --dkim --compare postfix -o json\n  \
    postrider bench --rate 100 --messages 1500 --compare postfix        (latency)\n  \
    postrider bench --to 127.0.0.1:2025 --sink 127.0.0.1:2700           (up --trust-loopback --no-receiver --route '*=127.0.0.1:2700')")]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// Something else than a load of its own.
    #[command(subcommand)]
    pub instead: Option<Instead>,

    /// Messages in a turn, one number for all sizes or one for each.
    #[arg(long, short = 'n', value_name = "N", default_value = "10000", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    pub messages: Vec<u32>,

    /// Bytes of a message: 1000, 1k, 100k, 1m. Several sizes are measured one after the other.
    #[arg(long, value_name = "S", default_value = "1k", value_delimiter = ',', value_parser = parse_size)]
    pub size: Vec<usize>,

    /// SMTP sessions at the same time.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub sessions: u16,

    /// What a 250 promises; several classes take turns.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CLASS", default_value = "process")]
    pub durability: Vec<Durability>,

    /// STARTTLS from the load to the system, and from the system to the sink.
    #[arg(long)]
    pub tls: bool,

    /// The sender's domain has a DKIM key (RSA-2048).
    #[arg(long)]
    pub dkim: bool,

    /// The same load to another server, in turns within the run. Needs root and its Debian packages.
    #[arg(long, value_enum)]
    pub compare: Option<Compared>,

    /// Turns of each; medians are printed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,

    /// Messages a second, for latency at rest. Without it: as many as go.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,

    /// Bodies that do not compress, instead of bodies that compress as real mail does.
    #[arg(long)]
    pub incompressible: bool,

    /// MAIL, RCPT and DATA one after the other, as a client without PIPELINING sends them.
    #[arg(long)]
    pub no_pipelining: bool,

    /// Connections from the system to the sink at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub connections: u16,

    /// Recipient domains; each is a site of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sites: u32,

    /// Drive the system that takes mail without AUTH at this address, instead of starting one.
    #[arg(long, value_name = "ADDR", requires = "sink", conflicts_with_all = ["compare", "dkim"])]
    pub to: Option<SocketAddr>,

    /// Where the sink listens: where the system that runs sends all mail. By default a free port of 127.0.0.1.
    #[arg(long, value_name = "ADDR")]
    pub sink: Option<SocketAddr>,

    /// Further settings for the system that is started: the tables of `up --config`, but [delivery.shaping.default].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where the temporary folders are made: the disk that is measured.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,

    /// Seconds that a turn may take.
    #[arg(long, value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub limit: u32,

    /// How the results are printed.
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// What else can be measured.
#[derive(Clone, Debug, Subcommand)]
pub enum Instead {
    /// Rate against backlog and against the number of sites
    Growth(GrowthArgs),
    /// All tables of services/BENCHMARKS.md in one run
    Report(ReportArgs),
}

/// Whom it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compared {
    /// Postfix, set up for relaying.
    Postfix,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: every turn and the medians.
    Json,
}

impl BenchArgs {
    /// Sizes with the number of messages of each.
    ///
    /// # Errors
    /// If there are several numbers, but not one for each size.
    pub fn loads(&self) -> anyhow::Result<Vec<(usize, usize)>> {
        let numbers: Vec<usize> = self.messages.iter().map(|&number| number as usize).collect();
        match numbers.as_slice() {
            [one] => Ok(self.size.iter().map(|&size| (size, *one)).collect()),
            several if several.len() == self.size.len() => {
                Ok(self.size.iter().copied().zip(several.iter().copied()).collect())
            }
            _ => bail!(
                "--messages has {} numbers for {} sizes: give one, or one for each",
                numbers.len(),
                self.size.len()
            ),
        }
    }
}

fn parse_size(text: &str) -> anyhow::Result<usize> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.trim_end_matches("ib") {
        kilo if kilo.ends_with('k') => (kilo.trim_end_matches('k'), 1 << 10),
        mega if mega.ends_with('m') => (mega.trim_end_matches('m'), 1 << 20),
        plain => (plain, 1),
    };
    let number: usize = digits.parse().ok().context("expected bytes, as in 1000, 10k or 1m")?;
    let bytes = number.saturating_mul(unit);
    anyhow::ensure!((600..=40 << 20).contains(&bytes), "a message has 600 bytes at least and 40 MiB at most");
    Ok(bytes)
}

fn parse_rate(text: &str) -> anyhow::Result<f64> {
    let rate: f64 = text.parse()?;
    anyhow::ensure!((0.1..=1e6).contains(&rate), "expected messages a second, from 0.1 to 1000000");
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            ["1000", "1k", "100KiB", "1m"].map(|text| parse_size(text).unwrap()),
            [1000, 1024, 102_400, 1 << 20]
        );
        for bad in ["", "k", "1g", "-1", "100", "100m"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
