//! Two delivery processes share the shards; one is killed with -9 under load. Its shards are at work again (the figure is
//! printed: within 20 seconds where the machine is not overloaded), nothing is lost, and what comes twice was in flight.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::load::Load;
use postrider_tests::processes::{Processes, Settings, turn};

use super::faults;

#[test]
fn a_killed_process_loses_nothing_and_its_shards_go_on() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(Settings { delivery: faults::DELIVERY, ..Settings::default() })?;
    cluster.start_delivery("one")?;
    cluster.start_delivery("two")?;
    cluster.until_shards("one", |count| count > 20)?;
    cluster.until_shards("two", |count| count > 20)?;
    let load = Load::begin(cluster.relay, "kill", faults::MANY_SITES);
    cluster.sink.until(3_000)?;
    let before = cluster.sink.lines()?.len();
    let killed_at = faults::now_millis_of_day();
    cluster.kill_delivery("one")?;
    let takeover = faults::takeover(&cluster, before, killed_at, "one", "two")?;
    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("delivery killed", &format!("{}; {takeover}", verdict.summary()));
    verdict.check(faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &[killed_at])?;
    // A bound that holds on a machine under any load: the membership of the dead ends after 15 s.
    assert!(takeover.last <= Duration::from_secs(90), "{takeover}");
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}
