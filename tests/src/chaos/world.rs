//! The cluster of one run, what was done to it, and what that may have cut.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::dice::Dice;
use super::doubt::{self, Doubt};
use super::faults::{self, clock};
use super::judge;
use super::kind::Kind;
use super::plan::{CONVERSATIONS, LIMIT, Plan};
use super::row::Row;
use crate::dns::{DnsServer, Zone};
use crate::load::Load;
use crate::processes::{Extras, Processes, Settings};
use crate::wait;

/// Tiers of about a second.
const NATS: &str = "tier_delays_secs = [1.0, 1.5, 2.0, 2.5, 3.0]";
/// The same, with a spool that fits into a small file system.
const SMALL_NATS: &str = "tier_delays_secs = [1.0, 1.5, 2.0, 2.5, 3.0]\nstorage_bytes = 40000000";
/// In megabytes.
const SMALL_STORE: u32 = 56;

const DELIVERY: &str = "conversations = 40\nidle_secs = 1\ndrain_secs = 5\nfirst_closure_secs = 1";

/// How long after a fault a nats-server may say that it does not work, before it is started again as its probe would.
const PROBE: Duration = Duration::from_secs(6);

/// A shard that is lost so long after an outage, in milliseconds, is lost because of it.
const RECENT: u64 = 15_000;

/// A name server with the runtime that it lives in.
pub struct NameServer {
    /// The server.
    pub server: DnsServer,
    _runtime: tokio::runtime::Runtime,
}

/// A time without NATS.
struct Outage {
    from: u64,
    to: u64,
}

/// The world of one run.
pub struct World {
    /// The cluster.
    pub cluster: Processes,
    /// Chance.
    pub dice: Dice,
    /// Where exchangers are found, unless all mail is routed.
    pub dns: Option<NameServer>,
    /// Files with the offsets of clocks.
    pub clocks: TempDir,
    /// What may come twice.
    pub doubts: Vec<Doubt>,
    /// What is to be left in the streams at the end.
    pub left: BTreeMap<String, u64>,
    /// Whether bounces are expected.
    pub may_bounce: bool,
    outages: Vec<Outage>,
    told: Vec<String>,
    begun: Instant,
    shards: usize,
}

impl World {
    /// Starts all that the plan wants.
    ///
    /// # Errors
    /// If a part of it does not start.
    pub fn start(plan: &Plan) -> Result<Self> {
        let clocks = TempDir::new()?;
        let mut extras = Extras { servers: plan.servers, ..Extras::default() };
        let mut dns = None;
        match plan.kind {
            kind if kind.asks_dns() => {
                let server = name_server()?;
                extras.tables = tables_for(server.server.address());
                extras.routed = false;
                dns = Some(server);
            }
            Kind::TwoOwners => {
                extras.one_source = true;
                extras.tables = format!("[delivery.shaping.default]\nmessage_rate = \"{LIMIT}/s\"\n");
            }
            Kind::DiskFull => extras.store_megabytes = Some(SMALL_STORE),
            Kind::ClockStep => extras.environment = clock::environment(clocks.path())?,
            _ => {}
        }
        let nats = if plan.kind == Kind::DiskFull { SMALL_NATS } else { NATS };
        let settings = Settings { layout: plan.layout, nats, delivery: DELIVERY };
        let mut cluster = Processes::start_with(settings, extras)?;
        for name in ["one", "two", "three"].iter().take(plan.deliveries) {
            cluster.start_delivery(name)?;
        }
        let world = Self {
            cluster,
            dice: plan.dice.clone(),
            dns,
            clocks,
            doubts: Vec::new(),
            left: BTreeMap::new(),
            may_bounce: plan.traffic.name == "refused",
            outages: Vec::new(),
            told: Vec::new(),
            begun: Instant::now(),
            shards: if plan.layout == "single" { 5 } else { 80 },
        };
        if let Some(dns) = &world.dns {
            dns.server.replace(truth(world.cluster.sink.address.ip())?);
        }
        wait::until("all shards to be owned", || Ok((world.owned() == world.shards).then_some(())))?;
        Ok(world)
    }

    /// The run, from the first message to the judgement.
    ///
    /// # Errors
    /// With the first thing that does not hold.
    pub fn live(&mut self, plan: &Plan, row: &mut Row) -> Result<()> {
        let load =
            Load::begin_with_bodies(self.cluster.relay, &format!("c{}", plan.seed), plan.shape(), plan.traffic.bodies);
        load.until_accepted(plan.messages.0).context("before the fault")?;
        let mut sent = faults::happen(self, plan.kind).context("the fault")?;
        self.heal().context("after the fault")?;
        if matches!(plan.kind, Kind::DiskFull | Kind::DiskReadOnly)
            && let Some(first) = self.outages.first()
        {
            // A server whose write failed takes nothing more until it is started again.
            self.outage(first.from);
        }
        let whole = load.accepted() + plan.messages.1;
        sent.add(load.finish(whole).context("after the fault, by itself")?);
        judge::judge(self, plan, &sent, CONVERSATIONS, row)
    }

    /// Adds what was in flight where shards were lost. To be called when all has come: shards may be lost until then.
    ///
    /// # Errors
    /// If a log cannot be read.
    pub fn doubt_losses(&mut self, plan: &Plan) -> Result<()> {
        for name in self.cluster.delivery_names() {
            // Without a shard lost, settles go on after any outage.
            let source = self.cluster.source_of(&name);
            for lost in self.cluster.moments_of(&name, "shard lost")? {
                if plan.kind == Kind::TwoOwners {
                    self.doubts.push(Doubt::between(Some(source), lost, lost));
                }
                // The first of those that together lasted too long.
                let began = self.outages.iter().filter(|outage| doubt::is_before(outage.from, lost));
                let recent = began.filter(|outage| doubt::between(outage.to, lost) < RECENT || outage.to > lost);
                if let Some(outage) = recent.max_by_key(|outage| doubt::between(outage.from, lost)) {
                    self.doubts.push(Doubt::between(Some(source), outage.from, lost.max(outage.to)));
                }
            }
        }
        self.doubts = doubt::united(std::mem::take(&mut self.doubts));
        Ok(())
    }

    /// Notes what is done, with its time.
    pub fn tell(&mut self, what: &str) {
        self.told.push(format!("{:.1} s {what}", self.begun.elapsed().as_secs_f64()));
    }

    /// All that was done.
    pub fn told(&self) -> String {
        self.told.join("; ")
    }

    /// Lets time go by.
    pub fn pass(&mut self, least: u64, most: u64) {
        std::thread::sleep(self.dice.millis(least, most));
    }

    /// A delivery process dies or freezes from now on: what it has in flight.
    pub fn doubt(&mut self, name: &str, from: u64, to: u64) {
        if self.cluster.delivery_names().iter().any(|known| known == name) {
            let source = self.cluster.source_of(name);
            // What it could not record since NATS went is in flight too.
            let from =
                self.outages.iter().rev().find(|outage| close(outage.to, from)).map_or(from, |outage| outage.from);
            self.doubts.push(Doubt::between(Some(source), from, to));
        }
    }

    /// NATS was away since then.
    pub fn outage(&mut self, from: u64) {
        self.outages.push(Outage { from, to: doubt::now() });
    }

    /// How many shards there are.
    pub const fn shards(&self) -> usize {
        self.shards
    }

    /// How many shards are owned, by the logs.
    pub fn owned(&self) -> usize {
        self.cluster.delivery_names().iter().map(|name| self.cluster.shards(name)).sum()
    }

    /// The fault is over: whoever has ended is started again, as Kubernetes would; a nats-server whose probe fails, too. Returns
    /// once all of it works.
    ///
    /// # Errors
    /// If it does not come to work.
    pub fn heal(&mut self) -> Result<()> {
        let mut sick_since = Instant::now();
        let mut probed = Vec::new();
        wait::until("everything to work again", || {
            for name in self.cluster.names() {
                if !self.cluster.is_running(&name) {
                    let now = doubt::now();
                    self.doubt(&name, now, now);
                    self.tell(&format!("{name} started again"));
                    self.cluster.start_again(&name)?;
                }
            }
            let servers = self.cluster.servers();
            let sick: Vec<usize> = (0..servers.count()).filter(|&number| !servers.is_healthy(number)).collect();
            if sick.is_empty() {
                sick_since = Instant::now();
            }
            let due = sick_since.elapsed() > PROBE;
            for number in sick.iter().filter(|_| due) {
                self.tell(&format!("nats-{number} restarted by its probe"));
                let from = doubt::now();
                self.cluster.servers().stop(*number)?;
                self.cluster.servers().start(*number)?;
                self.outage(from);
                sick_since = Instant::now();
                probed.push(*number);
                ensure!(probed.len() < 10, "nats-server does not work though it was restarted: {probed:?}");
            }
            let works = sick.is_empty() && self.owned() == self.shards && listens(self.cluster.relay);
            Ok(works.then_some(()))
        })
        .with_context(|| format!("{} of {} shards are owned", self.owned(), self.shards))
    }
}

fn close(one: u64, other: u64) -> bool {
    one.abs_diff(other) < 5_000
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

fn name_server() -> Result<NameServer> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let server = runtime.block_on(DnsServer::start(Zone::default()))?;
    Ok(NameServer { server, _runtime: runtime })
}

/// Lookups are remembered for a second, so that a fault is felt and its end too.
fn tables_for(dns: SocketAddr) -> String {
    format!(
        "[delivery.dns]\nservers = [\"{dns}\"]\ntry_timeout_ms = 400\n\
         [delivery.sites]\nexchanger_port = 2026\nshortest_ttl_secs = 1\nlongest_ttl_secs = 1\nfailure_ttl_secs = 1\n\
         [delivery.dialer]\nalso_public = [\"127.0.0.0/8\"]\n"
    )
}

/// Every domain has an exchanger of its own name, and all of them are the receiver.
///
/// # Errors
/// Never, for the names there are.
pub fn truth(receiver: IpAddr) -> Result<Zone> {
    let mut zone = Zone::default().ttl(1);
    for domain in Plan::domains() {
        let host = format!("mx.{domain}");
        zone = zone.mx(&domain, 10, &host)?.address(&host, receiver);
    }
    Ok(zone)
}
