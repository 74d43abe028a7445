//! Ingress, or the whole of `postrider up`, is killed with -9 under load: what was answered 250 is delivered.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::load::Load;
use postrider_tests::processes::{Processes, Settings, turn};
use postrider_tests::sink::Sink;
use postrider_tests::{process, wait};

use super::faults;

#[test]
fn ingress_killed_under_load_loses_nothing_that_was_answered() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(Settings { delivery: faults::DELIVERY, ..Settings::default() })?;
    cluster.start_delivery("one")?;
    let load = Load::begin(cluster.relay, "ingress", faults::MANY_SITES);
    for accepted in [2_000, 5_000, 8_000] {
        load.until_accepted(accepted)?;
        cluster.kill_ingress()?;
        cluster.start_ingress()?;
    }
    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("ingress killed thrice", &format!("{}; unknown {}", verdict.summary(), sent.unknown.len()));
    verdict.check(0)?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}

#[test]
fn up_killed_under_load_goes_on_where_it_was() -> Result<()> {
    let _turn = turn();
    let sink = Sink::start("127.0.0.1:0".parse()?)?;
    let plan = Plan::new()?.with(&["--trust-loopback"]).route("*", sink.address);
    let mut cluster = plan.start()?;
    let load = Load::begin(cluster.ready.relay, "first", faults::MANY_SITES);
    load.until_accepted(5_000)?;
    let killed_at = faults::now_millis_of_day();
    let pids = cluster.pids();
    cluster.process().kill()?;
    let mut sent = load.finish(0)?;
    let gone = || Ok((!pids.iter().any(|&id| process::is_alive(id))).then_some(()));
    wait::until("the killed cluster's nats-server to end", gone)?;

    let before = sink.count()?;
    let started_at = faults::now_millis_of_day();
    let cluster = plan.start()?;
    sink.until(before + 1)?;
    let resumed = faults::between(started_at, faults::now_millis_of_day());
    let load = Load::begin(cluster.ready.relay, "second", faults::MANY_SITES);
    sent.add(load.finish(5_000)?);
    let verdict = sink.judge(&sent, Duration::from_secs(240))?;
    let figures = format!("{}; sends again {:.1} s after its start", verdict.summary(), resumed.as_secs_f64());
    faults::say("up killed", &figures);
    verdict.check(faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &[killed_at])?;
    postrider_tests::streams::until_empty(cluster.ready.nats, Duration::from_secs(120))
}
