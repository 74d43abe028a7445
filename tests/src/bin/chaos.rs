//! `tests/chaos`: runs seeds of faults one after the other, prints a line for each and a table at the end.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use postrider_tests::chaos::kind::Kind;
use postrider_tests::chaos::row::{self, HEADING, LINE, Row};
use postrider_tests::chaos::{self};

const HELP: &str = "\
tests/chaos [--seed N] [--runs N] [--kind KIND]... [--table FILE] [--keep FOLDER]

Runs a cluster of Postrider processes under load for each seed from --seed on (default 0), lets the fault happen that the seed
means, and judges by the receiver's ledger and the events. A seed that failed is repeated with --seed N --runs 1.

  --seed N       the first seed (default 0)
  --runs N       how many seeds (default: one of each kind; 1 with --seed alone)
  --kind KIND    only seeds of this kind; may be given again
  --table FILE   append a line for each run to this Markdown table
  --commit NAME  what the table calls the commit (default: that of the repository)
  --keep FOLDER  copy logs and the ledger of runs that failed into FOLDER/<seed>
";

struct Arguments {
    seed: u64,
    runs: usize,
    kinds: Vec<Kind>,
    table: Option<PathBuf>,
    keep: Option<PathBuf>,
    commit: Option<String>,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut given = std::env::args().skip(1);
    let (mut seed, mut runs) = (None, None);
    let (mut kinds, mut table, mut keep) = (Vec::new(), None, None);
    let mut commit = None;
    while let Some(flag) = given.next() {
        if matches!(flag.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let value = given.next().with_context(|| format!("{flag} needs a value; see --help"))?;
        match flag.as_str() {
            "--seed" => seed = Some(value.parse().context("--seed")?),
            "--runs" => runs = Some(value.parse().context("--runs")?),
            "--kind" => kinds.push(value.parse()?),
            "--table" => table = Some(PathBuf::from(value)),
            "--commit" => commit = Some(value),
            "--keep" => keep = Some(PathBuf::from(value)),
            _ => bail!("there is no {flag}; see --help"),
        }
    }
    let all = if kinds.is_empty() { Kind::ALL.len() } else { kinds.len() };
    let runs = runs.unwrap_or(if seed.is_some() { 1 } else { all });
    Ok(Some(Arguments { seed: seed.unwrap_or(0), runs, kinds, table, keep, commit }))
}

fn append(table: &PathBuf, row: &Row, commit: &str) -> Result<()> {
    let mut file = std::fs::File::options().append(true).create(true).open(table)?;
    if file.metadata()?.len() == 0 {
        file.write_all(HEADING.as_bytes())?;
    }
    Ok(file.write_all(row.markdown(commit).as_bytes())?)
}

#[expect(clippy::print_stdout, reason = "the table is what it is run for")]
fn run(arguments: &Arguments) -> Result<bool> {
    let commit = arguments.commit.clone().unwrap_or_else(row::commit);
    println!("{LINE}");
    let mut rows = Vec::new();
    let wanted = |seed: &u64| arguments.kinds.is_empty() || arguments.kinds.contains(&Kind::of(*seed));
    for seed in (arguments.seed..).filter(wanted).take(arguments.runs) {
        let row = chaos::run(seed, arguments.keep.as_deref());
        println!("{row}");
        if row.failed() {
            println!("       seed {seed}: {} ({})", row.what, row.load);
        }
        if let Some(table) = &arguments.table {
            append(table, &row, &commit).with_context(|| table.display().to_string())?;
        }
        rows.push(row);
    }
    println!("\n{}", row::summary(&rows));
    Ok(!rows.iter().any(Row::failed))
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> ExitCode {
    match arguments() {
        Ok(None) => {
            print!("{HELP}\nkinds: {}\n", Kind::ALL.map(Kind::name).join(", "));
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) => match run(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("tests/chaos: {error:#}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("tests/chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}
