//! READY is in its last fifth: new mail hears 452, and what was accepted before still moves. Deferred mail is copied to a tier,
//! promoted into that last fifth and delivered, while the site that fills READY takes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use postrider_tests::load::{Load, Shape};
use postrider_tests::processes::{Processes, Settings, turn};
use postrider_tests::sink::Sink;
use postrider_tests::{streams, wait};

use super::faults;

const SETTINGS: Settings = Settings {
    layout: "single",
    nats: "storage_bytes = 8000000\ntier_delays_secs = [1.0, 1.5, 2.0, 2.5, 3.0]",
    delivery: "first_closure_secs = 2\nidle_secs = 1\nindex_wait_secs = 1\n[delivery.shaping.default]\nconnections = 1",
};

const LATE: usize = 20;

/// Mail that is refused once, for many sites.
const DEFERRED: Shape = Shape {
    sessions: 2,
    rate: 100,
    recipients: |number| vec![format!("defer1@late{:02}.example", number % LATE)],
    field: |_| "",
};

/// Mail for one site, which stays in READY as long as that site does not answer.
const fn filling(rate: u32) -> Shape {
    Shape { sessions: 4, rate, recipients: |_| vec!["a@full.example".to_owned()], field: |_| "" }
}

#[test]
fn in_the_last_fifth_of_ready_deferred_mail_still_moves_and_arrives() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(SETTINGS)?;
    let silent = Sink::start(SocketAddr::new(cluster.relay.ip(), 2027))?;
    cluster.json(&["route", "create", "full.example", &silent.address.to_string()])?;
    let deferred = Load::begin(cluster.relay, "deferred", DEFERRED).finish(LATE)?;
    // Fast at first, then slowly: what is kept for moves is not to be taken by mail that comes before ingress knows.
    let nats = cluster.nats_address();
    let fast = Load::begin(cluster.relay, "fast", filling(200));
    wait::until("READY to be half full", || Ok((streams::fullness(nats, "READY_B0")? > 0.55).then_some(())))?;
    let mut filled = fast.finish(1)?;
    let slow = Load::begin(cluster.relay, "slow", filling(40));
    wait::until("a 452", || Ok((slow.refused("452") >= 4).then_some(())))?;

    silent.signal("STOP")?;
    cluster.start_delivery("one")?;
    let arrived = cluster.sink.judge(&deferred, Duration::from_secs(180))?;
    let refused = slow.refused("452");
    let still = wait::until("another 452", || Ok((slow.refused("452") > refused).then_some(())));
    let full = streams::fullness(nats, "READY_B0")?;
    silent.signal("CONT")?;
    let figures = format!("{}; READY is {:.0} % full", arrived.summary(), 100.0 * full);
    faults::say("NATS nearly full", &figures);
    arrived.check(0)?;
    still?;
    ensure!(full >= 0.8, "{figures}");
    // The first retry is due after one or five minutes, by the dice; each address is deferred once.
    let copied = streams::stored(nats, "RETRY_1m")? + streams::stored(nats, "RETRY_5m")?;
    ensure!(copied >= u64::try_from(LATE)?, "{copied} were copied to a tier");

    filled.add(slow.finish(1)?);
    let verdict = silent.judge(&filled, Duration::from_secs(240))?;
    faults::say("NATS nearly full", &format!("{}; refused {:?}", verdict.summary(), filled.refused));
    verdict.check(0)?;
    cluster.until_empty(Duration::from_secs(120))?;
    // So little room is also soon too little for events: the oldest go before the audit has read them, and it says so.
    cluster.check_logs_but("records of EVENTS were deleted before they were counted")
}
