//! A site that is down while much mail for it comes in: the mail waits in tiers without passing through anybody's way, and
//! arrives once, the oldest about first, when the site is back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use postrider_tests::load::{Load, Sent, Shape};
use postrider_tests::processes::{Processes, Settings, turn};
use postrider_tests::sink::Sink;
use postrider_tests::{streams, wait};

use super::faults;

/// Short tiers, and a site that is left alone for seconds.
const SETTINGS: Settings = Settings {
    layout: "single",
    nats: "tier_delays_secs = [1.0, 1.5, 2.0, 2.5, 3.0]",
    delivery: "first_closure_secs = 2\nindex_wait_secs = 1\njam_from = 20\nidle_secs = 1\n\
               [delivery.shaping.default]\nmessage_rate = \"400/s\"",
};

/// Mail for the site that is down.
const DOWN: Shape =
    Shape { sessions: 4, rate: 500, recipients: |_| vec!["someone@down.example".to_owned()], field: |_| "" };

/// Mail for twenty others, some of them in the same shard.
const OTHERS: Shape = Shape {
    sessions: 2,
    rate: 50,
    recipients: |number| vec![format!("someone@up{:02}.example", number % 20)],
    field: |_| "",
};

const MANY: usize = 1_500;

/// The number of a message within its load.
fn number(token: &str) -> usize {
    token.split('-').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The site stays down until so many are waiting, and others get their mail meanwhile.
fn fill(cluster: &Processes, down: SocketAddr) -> Result<(Sent, Sent)> {
    cluster.json(&["route", "create", "down.example", &down.to_string()])?;
    let waiting = Load::begin(cluster.relay, "down", DOWN);
    waiting.until_accepted(200)?;
    let others = Load::begin(cluster.relay, "others", OTHERS);
    waiting.until_accepted(MANY)?;
    let waiting = waiting.finish(MANY)?;
    let others = others.finish(200)?;
    Ok((waiting, others))
}

#[test]
fn mail_for_a_site_that_is_down_is_in_nobodys_way_and_arrives_once_it_is_back() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(SETTINGS)?;
    cluster.start_delivery("one")?;
    let down = SocketAddr::new(cluster.relay.ip(), 2027);
    let (waiting, others) = fill(&cluster, down)?;
    let verdict = cluster.sink.judge(&others, Duration::from_secs(60))?;
    verdict.check(0)?;
    let (passed, accepted) = (streams::stored(cluster.nats_address(), "READY_B0")?, MANY + others.accepted.len());
    faults::say("backlog", &format!("{passed} passed through READY of {accepted} accepted"));
    ensure!(passed < u64::try_from(accepted / 2)?, "{passed} of {accepted} passed through READY");

    let sink = Sink::start(down)?;
    let verdict = sink.judge(&waiting, Duration::from_secs(180))?;
    verdict.check(0)?;
    let order: Vec<usize> = sink.lines()?.iter().map(|line| number(&line.token)).collect();
    let mean = |part: &[usize]| part.iter().sum::<usize>() / part.len().max(1);
    let (first, last) = order.split_at(order.len() / 2);
    faults::say("backlog", &format!("{}; mean numbers {} and {}", verdict.summary(), mean(first), mean(last)));
    cluster.until_empty(Duration::from_secs(60))?;
    cluster.check_logs()
}

#[test]
fn a_backlog_outlives_the_process_that_knew_of_it() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(SETTINGS)?;
    cluster.start_delivery("one")?;
    let down = SocketAddr::new(cluster.relay.ip(), 2027);
    let (waiting, others) = fill(&cluster, down)?;
    cluster.kill_delivery("one")?;
    cluster.start_delivery("two")?;
    cluster.sink.judge(&others, Duration::from_secs(90))?.check(faults::IN_FLIGHT)?;
    let sink = Sink::start(down)?;
    let verdict = sink.judge(&waiting, Duration::from_secs(180))?;
    faults::say("backlog after a death", &verdict.summary());
    verdict.check(faults::IN_FLIGHT)?;
    wait::until("the end of the backlog", || Ok(cluster.until_empty(Duration::from_secs(60)).ok()))
}
