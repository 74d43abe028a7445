//! What a backlog of one site costs the others: fills it, sends small mail to other sites of the same shards meanwhile, and
//! prints how long that took at each stage; then opens the site and prints how its mail comes out. Or what the backlog of one
//! tenant costs the others, whose mail goes to that very site.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a measurement: its output is what it is for")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use postrider_tests::load::{Load, Shape};
use postrider_tests::processes::{Extras, Processes, Settings};
use postrider_tests::sink::{Line, Sink};
use postrider_tests::{streams, talk::Talk};

const HELP: &str = "\
backlog [--waiting N] [--site closed|open] [--rate N] [--sessions N] [--drain SECS] [--scale F] [--quiet SECS]
        [--tenants N]

Run it built with --release, after cargo build --release -p postrider.

  --waiting N     messages to the one site (default 20000)
  --site KIND     closed: nobody listens there until all is accepted; open: it takes --rate a second (default closed)
  --rate N        what that site takes a second (default 500); an open one first gets nine tenths of it with nothing waiting
  --sessions N    SMTP sessions that fill it (default 20)
  --drain SECS    how long to watch its mail come out (default 120)
  --scale F       tiers are shorter by this factor (default 1: a minute to four hours)
  --quiet SECS    how long each stage without a fill lasts (default 30)
  --tenants N     the mail of the others is that of N - 1 further tenants in turn, and goes to the one site too, which is
                  open (default 1: it is the same tenant's, to other sites)
";

/// Mail to others, a second, of either class.
const OTHERS: u32 = 20;

struct Arguments {
    waiting: usize,
    open: bool,
    rate: u32,
    sessions: usize,
    drain: Duration,
    scale: f64,
    quiet: Duration,
    tenants: u32,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments {
        waiting: 20_000,
        open: false,
        rate: 500,
        sessions: 20,
        drain: Duration::from_secs(120),
        scale: 1.0,
        quiet: Duration::from_secs(30),
        tenants: 1,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        if matches!(flag.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let value = given.next().with_context(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--waiting" => found.waiting = value.parse()?,
            "--site" => found.open = value == "open",
            "--rate" => found.rate = value.parse()?,
            "--sessions" => found.sessions = value.parse()?,
            "--drain" => found.drain = Duration::from_secs(value.parse()?),
            "--scale" => found.scale = value.parse()?,
            "--quiet" => found.quiet = Duration::from_secs(value.parse()?),
            "--tenants" => found.tenants = value.parse()?,
            other => bail!("{other} is unknown\n{HELP}"),
        }
    }
    found.open |= found.tenants > 1;
    Ok(Some(found))
}

/// Where each further tenant's mail comes from.
fn address_of(tenant: u32) -> IpAddr {
    IpAddr::from((Ipv4Addr::new(127, 100, 0, 0).to_bits() + tenant).to_be_bytes())
}

fn now_millis_of_day() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default() % 86_400_000
}

/// Small mail to other sites at a steady pace. The token says when it was accepted.
struct Others {
    stop: Arc<AtomicBool>,
    stage: Arc<Mutex<&'static str>>,
    sent: Arc<Mutex<BTreeMap<String, (&'static str, u64)>>>,
    thread: JoinHandle<Result<()>>,
}

impl Others {
    fn begin(relay: SocketAddr, tenants: u32) -> Self {
        let (stop, stage) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new("alone")));
        let sent = Arc::new(Mutex::new(BTreeMap::new()));
        let thread = std::thread::spawn({
            let (stop, stage, sent) = (Arc::clone(&stop), Arc::clone(&stage), Arc::clone(&sent));
            move || {
                let mut talks: BTreeMap<u32, Talk> = BTreeMap::new();
                let begun = Instant::now();
                for number in 0u32.. {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    std::thread::sleep((begun + Duration::from_secs(1) * number / OTHERS) - Instant::now());
                    let class = if number % 2 == 0 { "bulk" } else { "transactional" };
                    let token = format!("{class}-{number}");
                    let (tenant, site) = match tenants {
                        0 | 1 => (0, format!("other{:02}.example", number / 2 % 16)),
                        _ => (1 + number / 2 % (tenants - 1), "one.example".to_owned()),
                    };
                    let talk = match talks.entry(tenant) {
                        Entry::Occupied(open) => open.into_mut(),
                        Entry::Vacant(none) => {
                            let mut talk = match tenant {
                                0 => Talk::begin(relay)?,
                                _ => Talk::begin_from(address_of(tenant), relay)?,
                            };
                            talk.ask("EHLO others.example")?;
                            none.insert(talk)
                        }
                    };
                    talk.ask("MAIL FROM:<news@load.example>")?;
                    talk.ask(&format!("RCPT TO:<someone@{site}>"))?;
                    talk.ask("DATA")?;
                    let reply = talk.ask(&format!(
                        "From: <news@load.example>\r\nSubject: x\r\nX-Token: {token}\r\nX-Postrider-Class: {class}\r\n\r\nx\r\n."
                    ))?;
                    if reply.starts_with("250") {
                        let stage = *stage.lock().unwrap_or_else(PoisonError::into_inner);
                        let at = now_millis_of_day();
                        sent.lock().unwrap_or_else(PoisonError::into_inner).insert(token, (stage, at));
                    }
                }
                Ok(())
            }
        });
        Self { stop, stage, sent, thread }
    }

    fn stage(&self, name: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// How long it took, by stage and class, in milliseconds; what did not come is missing.
    fn finish(self, lines: &[Line]) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        if let Ok(ended) = self.thread.join() {
            ended?;
        }
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let came: BTreeMap<&str, u64> = lines.iter().map(|line| (line.token.as_str(), line.millis_of_day())).collect();
        let mut took: BTreeMap<(&str, &str), Vec<Option<u64>>> = BTreeMap::new();
        for (token, (stage, at)) in &sent {
            let class = token.split('-').next().unwrap_or_default();
            let took_millis = came.get(token.as_str()).map(|came| came.saturating_sub(*at));
            took.entry((*stage, class)).or_default().push(took_millis);
        }
        println!("others: stage, class, count, p50, p99, worst (ms), missing");
        for ((stage, class), mut millis) in took {
            let missing = millis.iter().filter(|took| took.is_none()).count();
            millis.sort_unstable();
            let millis: Vec<u64> = millis.into_iter().flatten().collect();
            let at = |share: usize| millis.get((millis.len() * share / 100).min(millis.len().saturating_sub(1)));
            let show = |share| at(share).map_or_else(|| "-".to_owned(), ToString::to_string);
            println!(
                "{stage:12} {class:14} {:6} {:>7} {:>7} {:>7} {missing:>6}",
                millis.len(),
                show(50),
                show(99),
                show(100)
            );
        }
        Ok(())
    }
}

/// Memory and processor time of each process that was started here.
fn show_processes(when: &str) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("?").to_owned()
        };
        if field("PPid:") != std::process::id().to_string() {
            continue;
        }
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let role: String = command
            .split('\0')
            .take(2)
            .map(|word| word.rsplit('/').next().unwrap_or(word))
            .collect::<Vec<_>>()
            .join(" ");
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let ticks: u64 = stat.rsplit(')').next().map_or(0, |rest| {
            rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
        });
        println!("{when}: {role}: {} kB, {}.{:02} s of processor", field("VmRSS:"), ticks / 100, ticks % 100);
    }
}

fn main() -> ExitCode {
    let run = match arguments() {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => Err(error),
    };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let delays: Vec<f64> = [60.0, 300.0, 900.0, 3_600.0, 14_400.0].iter().map(|secs| secs / arguments.scale).collect();
    // The first network that an address is in says who its tenant is.
    let networks: String = (1..arguments.tenants)
        .map(|tenant| {
            let address = address_of(tenant);
            format!(
                "[[ingress.networks]]\ncidrs = [\"{address}\"]\ntenant = \"other-{tenant}\"\nany_sender = true\n\
                 class = \"bulk\"\n"
            )
        })
        .collect();
    let nats: &'static str =
        Box::leak(format!("tier_delays_secs = {delays:?}\nstorage_bytes = 30000000000\n{networks}").into());
    let wait = 60.0 / arguments.scale;
    let delivery: &'static str = Box::leak(
        format!(
            "index_wait_secs = {}\nfirst_closure_secs = {}\n[delivery.shaping.site.\"one.example\"]\nmessage_rate = \"{}/s\"",
            wait.ceil(),
            wait.ceil() + 1.0,
            arguments.rate
        )
        .into(),
    );
    let extras =
        Extras { environment: vec![("POSTRIDER_LOG__FILTER".to_owned(), "info".to_owned())], ..Extras::default() };
    let mut cluster = Processes::start_with(Settings { layout: "single", nats, delivery }, extras)?;
    let address = SocketAddr::new(cluster.relay.ip(), 2027);
    cluster.json(&["route", "create", "one.example", &address.to_string()])?;
    let mut one = if arguments.open { Some(Sink::start(address)?) } else { None };
    for tenant in 1..arguments.tenants {
        cluster.json(&["tenant", "create", &format!("other-{tenant}")])?;
    }
    cluster.start_delivery("one")?;
    cluster.until_shards("one", |count| count == 5)?;

    let others = Others::begin(cluster.relay, arguments.tenants);
    std::thread::sleep(arguments.quiet);
    let shape = Shape {
        sessions: arguments.sessions,
        rate: u32::MAX,
        recipients: |_| vec!["someone@one.example".to_owned()],
        field: |_| "",
    };
    if arguments.open {
        // What the same flow costs the others when nothing waits.
        others.stage("flowing");
        let load = Load::begin(cluster.relay, "flow", Shape { rate: arguments.rate * 9 / 10, ..shape });
        std::thread::sleep(arguments.quiet);
        let accepted = load.accepted();
        load.finish(accepted)?;
        others.stage("between");
        std::thread::sleep(Duration::from_secs(2));
    }
    others.stage("burst");
    let begun = Instant::now();
    let load = Load::begin(cluster.relay, "one", shape);
    while load.accepted() < arguments.waiting {
        std::thread::sleep(Duration::from_millis(200));
        if begun.elapsed() > Duration::from_secs(1_800) {
            bail!("only {} were accepted in half an hour", load.accepted());
        }
    }
    let sent = load.finish(arguments.waiting)?.accepted.len();
    let took = begun.elapsed();
    println!("{sent} accepted in {:.1} s, {:.0}/s", took.as_secs_f64(), sent as f64 / took.as_secs_f64());
    show_processes("filled");
    println!("held: {:?}", streams::held(cluster.nats_address())?);
    others.stage("after burst");
    std::thread::sleep(arguments.quiet);
    others.stage("standing");
    std::thread::sleep(arguments.quiet);
    show_processes("standing");
    println!("held: {:?}", streams::held(cluster.nats_address())?);
    println!("READY_B0 has ever held {}", streams::stored(cluster.nats_address(), "READY_B0")?);

    others.stage("draining");
    let sink = match one.take() {
        Some(sink) => sink,
        None => Sink::start(address)?,
    };
    let (opened, mut before) = (Instant::now(), sink.count()?);
    println!("opened; at the site:");
    while opened.elapsed() < arguments.drain && before < sent {
        std::thread::sleep(Duration::from_secs(5));
        let count = sink.count()?;
        println!("{:5} s {count:8} ({}/s)", opened.elapsed().as_secs(), (count - before) / 5);
        std::io::stdout().flush()?;
        before = count;
    }
    // The last of the others are on their way.
    std::thread::sleep(Duration::from_secs(2));
    show_processes("drained");
    let at_the_site = sink.lines()?;
    let tokens: std::collections::BTreeSet<&str> = at_the_site.iter().map(|line| line.token.as_str()).collect();
    let own = tokens.iter().filter(|token| token.starts_with("one-")).count();
    println!("at the site: {own} of {sent}, {} twice", at_the_site.len() - tokens.len());
    println!("held: {:?}", streams::held(cluster.nats_address())?);
    let mut lines = cluster.sink.lines()?.to_vec();
    lines.extend(at_the_site.iter().cloned());
    others.finish(&lines)
}
