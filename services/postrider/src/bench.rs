//! `postrider bench`: how fast, how soon, at what cost. A load and a sink of its own around a system in processes apart, alone or
//! in turns with Postfix; every message is followed by number. Bounded in count and time; removes what it made.

mod arguments;
pub use arguments::BenchArgs;

mod plan;

mod messages;

mod ledger;

mod wire;

mod load;

mod sink;

mod group;

mod system;

mod postrider;

mod postfix;

mod opendkim;

mod turn;

mod figures;

mod results;

mod backlog;

mod plot;

mod growth;

mod report;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use postrider_runtime::{shutdown, telemetry};
use tokio_util::sync::CancellationToken;

use arguments::{Instead, Output};
use messages::{Addresses, Body, Corpus};
use results::Results;
use sink::Sink;
use system::{Peer, SENDER_DOMAIN, Setup};
use turn::Course;

/// Measures and prints.
///
/// # Errors
/// What keeps it from measuring; nothing is left running.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    telemetry::init(&telemetry::LogConfig { filter: Some("warn".to_owned()), ..telemetry::LogConfig::default() })?;
    let stop = shutdown::on_signals()?;
    let measured = tokio::task::spawn_blocking(move || match &args.instead {
        None => print(&args, &stop),
        Some(Instead::Growth(growth)) => {
            let measured = growth.measure(&stop)?;
            match growth.output {
                Output::Table => say(&measured.tables()),
                Output::Json => say(&serde_json::to_string_pretty(&measured)?),
            }
        }
        Some(Instead::Report(report)) => report.write(&stop),
    });
    measured.await.context("the bench panicked")?
}

fn print(args: &BenchArgs, stop: &CancellationToken) -> anyhow::Result<()> {
    match args.output {
        Output::Table => measure(args, stop)?.iter().try_for_each(|results| say(&results.table())),
        Output::Json => say(&serde_json::to_string_pretty(&measure(args, stop)?)?),
    }
}

/// One table for each size.
fn measure(args: &BenchArgs, stop: &CancellationToken) -> anyhow::Result<Vec<Results>> {
    let listen = args.sink.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let sink = Sink::start(listen, args.tls)?;
    args.loads()?.into_iter().map(|(size, messages)| compare(args, size, messages, &sink, stop)).collect()
}

fn compare(
    args: &BenchArgs,
    size: usize,
    messages: usize,
    sink: &Sink,
    stop: &CancellationToken,
) -> anyhow::Result<Results> {
    let body = if args.incompressible { Body::Incompressible } else { Body::AsRealMail };
    let recipient_domains = match args.sites {
        1 => vec!["dest.example".to_owned()],
        sites => (0..sites).map(|site| format!("dest{site}.example")).collect(),
    };
    let addresses = Addresses { sender_domain: SENDER_DOMAIN.to_owned(), recipient_domains };
    let settings = match &args.config {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => String::new(),
    };
    let course = Course {
        setup: Setup {
            sink: sink.address,
            folder: args.folder.clone().unwrap_or_else(std::env::temp_dir),
            tls: args.tls,
            dkim: args.dkim,
            connections: usize::from(args.connections),
            routes: Vec::new(),
            settings,
        },
        corpus: Arc::new(Corpus::new(size, body, addresses)),
        size,
        messages,
        sessions: usize::from(args.sessions),
        rate: args.rate,
        pipelining: !args.no_pipelining,
        eight_bit: body == Body::Incompressible,
        limit: Duration::from_secs(u64::from(args.limit)),
        to: args.to,
        sink,
        stop,
    };
    let mut peers: Vec<Peer> = match args.to {
        Some(_) => vec![Peer::Running],
        None => args.durability.iter().copied().map(Peer::Postrider).collect(),
    };
    if args.compare.is_some() {
        peers.push(Peer::Postfix);
    }
    let mut turns = Vec::new();
    for (round, peer) in plan::turns(usize::from(args.rounds), &peers) {
        let turn = course.turn(peer).with_context(|| format!("round {} of {peer}", round + 1))?;
        tracing::info!(round, ?turn, "a turn");
        turns.push(turn);
    }
    Ok(Results::new(title(args, size, messages), &peers, turns))
}

fn title(args: &BenchArgs, size: usize, messages: usize) -> String {
    let size = if size.is_multiple_of(1024) { format!("{} KiB", size / 1024) } else { format!("{size} bytes") };
    let with = |yes: bool, what: &str| if yes { what.to_owned() } else { format!("no {what}") };
    let rate = args.rate.map_or_else(String::new, |rate| format!(" at {rate}/s"));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let rounds = if args.rounds == 1 { "1 turn".to_owned() } else { format!("medians of {} turns", args.rounds) };
    format!(
        "{messages} messages of {size}{}{rate}, {} sessions, {}, {}; {rounds}; {cpus} CPUs that also run load and sink",
        if args.incompressible { " (incompressible)" } else { "" },
        args.sessions,
        with(args.tls, "TLS"),
        with(args.dkim, "DKIM"),
    )
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}
