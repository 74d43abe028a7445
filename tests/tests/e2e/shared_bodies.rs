//! Messages of several parts store their body once, for all of them. When the last part of each has ended, BODY is empty again:
//! deferred parts, and a delivery process that dies meanwhile, included.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::load::{Load, Shape};
use postrider_tests::processes::{Extras, Processes, Settings, turn};
use postrider_tests::{streams, wait};

use super::faults;

/// Three recipients at three sites; one of them is deferred once.
const SHAPE: Shape = Shape {
    sessions: 2,
    rate: 100,
    recipients: |number| {
        let at = |name: &str, site: usize| format!("{name}+{number}@s{}.example", (number + site) % 20);
        vec![at("defer1", 0), at("someone", 1), at("else", 2)]
    },
    field: |_| "",
};

#[test]
fn a_body_of_several_parts_goes_with_the_last_of_them() -> Result<()> {
    let _turn = turn();
    let kept = ("POSTRIDER_CONTROL__BODIES_KEPT_SECS".to_owned(), "1".to_owned());
    let settings =
        Settings { delivery: faults::DELIVERY, nats: "tier_delays_secs = [1, 2, 3, 4, 5]", ..Settings::default() };
    let mut cluster = Processes::start_with(settings, Extras { environment: vec![kept], ..Extras::default() })?;
    cluster.start_delivery("one")?;
    cluster.start_delivery("two")?;
    let load = Load::begin(cluster.relay, "parts", SHAPE);
    cluster.sink.until(300)?;
    cluster.kill_delivery("one")?;
    let sent = load.finish(300)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("shared bodies", &verdict.summary());
    verdict.check(faults::IN_FLIGHT)?;
    cluster.until_empty(Duration::from_secs(120))?;
    let nats = cluster.nats_address();
    wait::until_within(Duration::from_secs(60), "BODY is empty", || {
        let used = streams::fullness(nats, "BODY_0")? + streams::fullness(nats, "BODY_1")?;
        Ok((used <= 0.0).then_some(()))
    })?;
    cluster.check_logs()
}
