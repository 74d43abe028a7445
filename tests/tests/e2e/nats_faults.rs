//! NATS is killed and started again, is slow, is full: nothing that was answered 250 is lost, the sender hears 451 or 452
//! while it lasts, and afterwards all goes on by itself.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::load::{Load, Shape};
use postrider_tests::processes::{Processes, Settings, turn};
use postrider_tests::wait;

use super::faults;

#[test]
fn nats_killed_under_load_and_started_again_loses_nothing() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(Settings { delivery: faults::DELIVERY, ..Settings::default() })?;
    cluster.start_delivery("one")?;
    cluster.start_delivery("two")?;
    cluster.until_shards("one", |count| count > 20)?;
    cluster.until_shards("two", |count| count > 20)?;
    let load = Load::begin(cluster.relay, "nats", faults::MANY_SITES);
    let mut deaths = Vec::new();
    for accepted in [2_000, 6_000] {
        load.until_accepted(accepted)?;
        deaths.push(faults::now_millis_of_day());
        cluster.kill_nats()?;
        cluster.until_logged("two", "lost the connection to NATS")?;
        cluster.start_nats()?;
        deaths.push(faults::now_millis_of_day());
    }
    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("NATS killed twice", &format!("{}; refused {:?}", verdict.summary(), sent.refused));
    verdict.check(2 * faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &deaths)?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}

#[test]
fn nats_away_until_every_shard_is_lost_is_followed_by_all_of_them_at_work() -> Result<()> {
    let _turn = turn();
    let settings = Settings { nats: "publish_budget_secs = 2", delivery: faults::DELIVERY, ..Settings::default() };
    let mut cluster = Processes::start(settings)?;
    cluster.start_delivery("one")?;
    cluster.start_delivery("two")?;
    cluster.until_shards("one", |count| count > 20)?;
    cluster.until_shards("two", |count| count > 20)?;
    let load = Load::begin(cluster.relay, "away", faults::MANY_SITES);
    cluster.sink.until(3_000)?;
    let gone_at = faults::now_millis_of_day();
    cluster.kill_nats()?;
    cluster.until_shards("one", |count| count == 0)?;
    cluster.until_shards("two", |count| count == 0)?;
    let back_at = faults::now_millis_of_day();
    cluster.start_nats()?;
    cluster.until_shards("one", |count| count > 20)?;
    cluster.until_shards("two", |count| count > 20)?;
    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    let lasted = faults::between(gone_at, back_at).as_secs_f64();
    faults::say("NATS away", &format!("{}; refused {:?}; for {lasted:.1} s", verdict.summary(), sent.refused));
    verdict.check(2 * faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &[gone_at, back_at])?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}

#[test]
fn while_nats_does_not_answer_the_sender_hears_451_and_nothing_is_lost() -> Result<()> {
    let _turn = turn();
    let settings = Settings { nats: "publish_budget_secs = 2", delivery: faults::DELIVERY, ..Settings::default() };
    let mut cluster = Processes::start(settings)?;
    cluster.start_delivery("one")?;
    cluster.until_shards("one", |count| count == 80)?;
    let load = Load::begin(cluster.relay, "slow", faults::MANY_SITES);
    cluster.sink.until(2_000)?;
    let slow_at = faults::now_millis_of_day();
    cluster.signal_nats("STOP")?;
    // Who had sent a message hears 451; who comes after five seconds waits, and hears 452.
    let refused = || load.refused("451") + load.refused("452");
    let heard = wait::until("a 451", || Ok((load.refused("451") > 0 && refused() >= 8).then_some(())));
    cluster.signal_nats("CONT")?;
    heard?;
    let quick_at = faults::now_millis_of_day();
    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    let lasted = faults::between(slow_at, quick_at).as_secs_f64();
    faults::say("NATS slow", &format!("{}; refused {:?}; for {lasted:.1} s", verdict.summary(), sent.refused));
    verdict.check(0)?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}

/// A message to one site with a body that fills a small store soon.
const FILLING: Shape =
    Shape { sessions: 8, rate: 2_000, recipients: |_| vec!["a@full.example".to_owned()], field: |_| "" };

#[test]
fn while_nats_is_full_the_sender_hears_452_and_nothing_is_lost() -> Result<()> {
    let _turn = turn();
    let settings = Settings { layout: "single", nats: "storage_bytes = 8000000", delivery: faults::DELIVERY };
    let mut cluster = Processes::start(settings)?;
    // Nobody delivers: the queue fills up.
    let load = Load::begin(cluster.relay, "full", FILLING);
    wait::until("a 452", || Ok((load.refused("452") >= 8).then_some(())))?;
    let when_full = load.accepted();
    cluster.start_delivery("one")?;
    let sent = load.finish(when_full + 2_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    let figures = format!("{}; full at {when_full}; refused {:?}", verdict.summary(), sent.refused);
    faults::say("NATS full", &figures);
    verdict.check(0)?;
    cluster.until_empty(Duration::from_secs(120))?;
    // So little room is also soon too little for events: the oldest go before the audit has read them, and it says so.
    cluster.check_logs_but("records of EVENTS were deleted before they were counted")
}
