//! A delivery process that dies inside DATA, between any two steps of settle, in promotion and in the splitter, and starts
//! again, each time under load. Nothing is lost, and what comes twice was in flight when it died.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::load::{Load, Shape};
use postrider_tests::processes::{Processes, Settings, turn};

use super::faults;

/// Where it dies, at which pass, one life after the other.
const FAULTS: [&str; 10] = [
    "data-begun@300",
    "data-answered@300",
    "settle-recorded@300",
    "settle-spilled@60",
    "settle-copied@60",
    "settle-acked@300",
    "settle-deleted@60",
    "promoter-published@60",
    "splitter-published@60",
    "settle-copied@200",
];

/// A third is deferred once and so goes through a tier, a third has recipients at several sites and so is split; one in 300 has
/// 1,000 at 400 sites.
const MIXED: Shape = Shape { sessions: 6, rate: 150, recipients: mixed, field: |_| "" };

fn mixed(number: usize) -> Vec<String> {
    if number % 300 == 2 {
        return (0..1_000).map(|n| format!("many{n}+{number}@site{}.example", n % 400)).collect();
    }
    let domain = number % 37;
    match number % 3 {
        0 => vec![format!("plain@d{domain}.example")],
        1 => vec![format!("defer1+{number}@d{domain}.example")],
        _ => (0..3).map(|n| format!("split+{number}@d{}.example", (domain + n) % 37)).collect(),
    }
}

#[test]
fn a_process_that_dies_at_any_point_loses_nothing() -> Result<()> {
    let _turn = turn();
    let settings =
        Settings { layout: "single", nats: "tier_delays_secs = [1.0, 1.5, 2.0, 2.5, 3.0]", delivery: faults::DELIVERY };
    let mut cluster = Processes::start(settings)?;
    let load = Load::begin(cluster.relay, "fault", MIXED);
    let mut deaths = Vec::new();
    for fault in FAULTS {
        cluster.start_delivery_with_fault("one", fault)?;
        cluster.until_ended("one").with_context(|| format!("nothing came to {fault}"))?;
        deaths.push(faults::now_millis_of_day());
    }
    cluster.start_delivery("one")?;
    let sent = load.finish(2_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("fault points", &verdict.summary());
    for (fault, died_at) in FAULTS.iter().zip(&deaths) {
        let near = verdict.repeats.iter().filter(|(first, _)| {
            let nearest = deaths.iter().min_by_key(|death| faults::apart(**death, first.millis_of_day()));
            nearest == Some(died_at)
        });
        faults::say(fault, &format!("repeats {}", near.count()));
    }
    verdict.check(FAULTS.len() * faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &deaths)?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}
