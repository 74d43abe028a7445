//! What a durability class claims to survive is done to it: kill -9 of everything at once, a nats-server lost with its store, a
//! power cut (how that is done stands in `postrider_tests::power_cut`). All mail waits while it happens, so that only the store can bring it back.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::load::{Load, Sent};
use postrider_tests::peers::{Peer, all_here};
use postrider_tests::power_cut::{self, Disk, Recording};
use postrider_tests::processes::turn;
use postrider_tests::sink::{Line, Sink, Verdict};
use postrider_tests::{process, streams, wait};

use super::faults;

/// Messages that are answered 250 before the fault.
const WAITING: usize = 400;

/// A cluster whose mail all waits: nobody listens where it is routed to.
fn begin(plan: &Plan) -> Result<Cluster> {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    plan.clone().short_tiers().with(&["--trust-loopback"]).route("*", nobody).start()
}

/// The same cluster again, with a receiver: all that was answered 250 comes.
fn come_back(plan: &Plan, sent: &Sent, scenario: &str) -> Result<()> {
    let sink = Sink::start("127.0.0.1:0".parse()?)?;
    let cluster = plan.clone().short_tiers().with(&["--trust-loopback"]).route("*", sink.address).start()?;
    let verdict = sink.judge(sent, Duration::from_secs(120))?;
    faults::say(scenario, &verdict.summary());
    // Nothing was in conversation when the fault came.
    verdict.check(0)?;
    streams::until_empty(cluster.ready.nats, Duration::from_secs(120))
}

/// Kills everything at once.
fn kill(cluster: &mut Cluster) -> Result<()> {
    let pids = cluster.pids();
    let ids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    ensure!(Command::new("kill").args(["-s", "KILL"]).args(&ids).status()?.success(), "{ids:?} could not be killed");
    until_dead(pids.get(1..).context("no nats-server")?)?;
    cluster.process().kill()
}

fn until_dead(ids: &[u32]) -> Result<()> {
    wait::until("the killed processes to be gone", || Ok((!ids.iter().any(|&id| process::is_alive(id))).then_some(())))
}

#[test]
fn class_process_survives_kill_9_of_every_process_at_once() -> Result<()> {
    let _turn = turn();
    let plan = Plan::new()?;
    let mut cluster = begin(&plan)?;
    ensure!(cluster.ready.durability == "process", "{}", cluster.ready.durability);
    let load = Load::begin(cluster.ready.relay, "process", faults::MANY_SITES);
    load.until_accepted(WAITING)?;
    kill(&mut cluster)?;
    let sent = load.finish(0)?;
    come_back(&plan, &sent, "class process, everything killed")
}

#[test]
fn class_quorum_survives_the_loss_of_one_server_with_its_store() -> Result<()> {
    let _turn = turn();
    let plan = Plan::new()?.with(&["--nats", "3"]);
    let cluster = begin(&plan)?;
    ensure!(cluster.ready.durability == "quorum", "{}", cluster.ready.durability);
    let load = Load::begin(cluster.ready.relay, "quorum", faults::MANY_SITES);
    load.until_accepted(WAITING)?;
    // The one that leads what mail is written to: the others have it from there.
    let leader = streams::leader(cluster.ready.nats, "READY_B0")?;
    let name = leader.strip_prefix("postrider-up-").context("a name of ours")?;
    let number: usize = name.strip_prefix("nats-").context("one of three")?.parse()?;
    let lost = *cluster.pids().get(number).context("its process id")?;
    let store = plan.folder().join("data").join(name);
    // Out of reach in one step: what is started in its place has nothing.
    std::fs::rename(&store, plan.folder().join("gone"))?;
    process::signal_to(lost, "KILL")?;
    until_dead(&[lost])?;
    std::fs::remove_dir_all(plan.folder().join("gone"))?;
    let sent = load.finish(2 * WAITING)?;
    wait::until("the lost server's store to be made anew", || Ok(store.join("jetstream").exists().then_some(())))?;
    cluster.stop()?;
    come_back(&plan, &sent, "class quorum, a server lost with its store")
}

/// A cluster whose power was cut under load.
struct PowerCut {
    plan: Plan,
    servers: Vec<Recording>,
    sent: Sent,
}

impl PowerCut {
    /// All mail waits.
    fn of(flags: &[&str], servers: &[&str]) -> Result<Self> {
        let plan = Plan::new()?.with(flags);
        let recorded = power_cut::recorded_nats_server(plan.folder())?;
        let cluster = begin(&plan.clone().nats_server(recorded))?;
        let class = &cluster.ready.durability;
        ensure!(flags.windows(2).any(|pair| pair == ["--durability", class]), "asked for {flags:?}, it is {class}");
        Self::under_load(plan, cluster, servers)
    }

    fn under_load(plan: Plan, mut cluster: Cluster, servers: &[&str]) -> Result<Self> {
        let data = plan.folder().join("data");
        let load = Load::begin(cluster.ready.relay, "power", faults::MANY_SITES);
        let tracer = power_cut::record_syncs(cluster.process().id(), &data)?;
        load.until_accepted(WAITING)?;
        kill(&mut cluster)?;
        let sent = load.finish(0)?;
        if let Some(mut tracer) = tracer {
            tracer.wait()?;
        }
        let servers = servers.iter().map(|name| Recording::read(&data, name)).collect::<Result<Vec<_>>>()?;
        servers.iter().try_for_each(Recording::check)?;
        Ok(Self { plan, servers, sent })
    }

    /// Puts every store back to when so many percent of the mail had just been answered 250.
    fn back_to(&self, percent: usize, disk: Disk) -> Result<Sent> {
        let mut answered: Vec<SystemTime> = self.sent.answered.values().copied().collect();
        answered.sort_unstable();
        let last = answered.len().saturating_sub(1);
        let moment = answered.get(last * percent / 100).context("nothing was accepted")?;
        self.servers.iter().try_for_each(|server| server.restore(*moment, disk))?;
        Ok(self.sent.by(*moment))
    }
}

#[test]
fn class_disk_on_one_server_survives_a_power_cut() -> Result<()> {
    if !all_here("class_disk_on_one_server_survives_a_power_cut", &[Peer::Strace])? {
        return Ok(());
    }
    let _turn = turn();
    let cut = PowerCut::of(&["--durability", "disk", "--nats", "1"], &["nats"])?;
    for percent in [50, 100] {
        let sent = cut.back_to(percent, Disk::Journal)?;
        come_back(&cut.plan, &sent, "class disk, a power cut")?;
    }
    Ok(())
}

/// The queue shrinks as it grows: what ends, moves and is compacted must not take anything else with it.
#[test]
fn class_disk_survives_a_power_cut_while_mail_is_delivered() -> Result<()> {
    if !all_here("class_disk_survives_a_power_cut_while_mail_is_delivered", &[Peer::Strace])? {
        return Ok(());
    }
    let _turn = turn();
    let sink = Sink::start("127.0.0.1:0".parse()?)?;
    let plan = Plan::new()?.with(&["--durability", "disk", "--nats", "1", "--trust-loopback"]).short_tiers();
    let recorded = power_cut::recorded_nats_server(plan.folder())?;
    let cluster = plan.clone().nats_server(recorded).route("*", sink.address).start()?;
    let cut = PowerCut::under_load(plan, cluster, &["nats"])?;
    let before = sink.lines()?;
    drop(sink);
    for percent in [50, 100] {
        let sent = cut.back_to(percent, Disk::Journal)?;
        let sink = Sink::start("127.0.0.1:0".parse()?)?;
        let cluster = cut.plan.clone().route("*", sink.address).start()?;
        streams::until_empty(cluster.ready.nats, Duration::from_secs(120))?;
        // Nobody heard of what was delivered after the cut: it is the other world's.
        let moment = sent.answered.values().max().context("nothing was accepted")?;
        let mut lines: Vec<Line> = before.iter().filter(|line| faults::is_before(line, *moment)).cloned().collect();
        lines.extend(sink.lines()?.iter().cloned());
        let verdict = Verdict::of(&sent, &lines);
        faults::say("class disk, a power cut while mail is delivered", &verdict.summary());
        ensure!(verdict.lost.is_empty() && verdict.accepted > WAITING / 3, "{:?}", verdict.lost);
        // What was in conversation or being settled.
        ensure!(verdict.repeats.len() <= 100, "{} repeats", verdict.repeats.len());
    }
    Ok(())
}

#[test]
fn class_quorum_disk_survives_a_power_cut_of_all_servers() -> Result<()> {
    if !all_here("class_quorum_disk_survives_a_power_cut_of_all_servers", &[Peer::Strace])? {
        return Ok(());
    }
    let _turn = turn();
    // Class disk on three servers is kept in the same way.
    let cut = PowerCut::of(&["--durability", "quorum+disk"], &["nats-1", "nats-2", "nats-3"])?;
    let sent = cut.back_to(100, Disk::Journal)?;
    come_back(&cut.plan, &sent, "class quorum+disk, a power cut of all three")
}

#[test]
fn class_process_does_not_survive_a_power_cut() -> Result<()> {
    if !all_here("class_process_does_not_survive_a_power_cut", &[Peer::Strace])? {
        return Ok(());
    }
    let _turn = turn();
    let cut = PowerCut::of(&["--durability", "process"], &["nats"])?;
    let sent = cut.back_to(100, Disk::Journal)?;
    let sink = Sink::start("127.0.0.1:0".parse()?)?;
    let cluster = cut.plan.clone().short_tiers().with(&["--trust-loopback"]).route("*", sink.address).start()?;
    streams::until_empty(cluster.ready.nats, Duration::from_secs(120))?;
    let verdict = sink.judge(&sent, Duration::ZERO)?;
    faults::say("class process, a power cut", &verdict.summary());
    ensure!(!verdict.lost.is_empty(), "nothing is lost: the power cut proves nothing of the other classes");
    Ok(())
}
