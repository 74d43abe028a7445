//! Two delivery processes share the shards; one is frozen for 30 seconds under load and let go. Nothing is lost, what comes
//! twice was in flight when it froze, and it joins again and works.

use std::time::{Duration, Instant};

use anyhow::Result;
use postrider_tests::load::Load;
use postrider_tests::processes::{Processes, Settings, turn};
use postrider_tests::wait;

use super::faults;

const FROZEN: Duration = Duration::from_secs(30);

#[test]
fn a_process_frozen_for_30_seconds_doubles_only_what_it_had_in_flight_and_works_again() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(Settings { delivery: faults::DELIVERY, ..Settings::default() })?;
    cluster.start_delivery("one")?;
    cluster.start_delivery("two")?;
    cluster.until_shards("one", |count| count > 20)?;
    cluster.until_shards("two", |count| count > 20)?;
    let load = Load::begin(cluster.relay, "freeze", faults::MANY_SITES);
    cluster.sink.until(2_000)?;
    let before = cluster.sink.count()?;
    let (begun, frozen_at) = (Instant::now(), faults::now_millis_of_day());
    cluster.delivery("one")?.signal("STOP")?;
    let takeover = faults::takeover(&cluster, before, frozen_at, "one", "two")?;
    wait::until("the end of the frost", || Ok((begun.elapsed() >= FROZEN).then_some(())))?;
    let thawed = cluster.sink.count()?;
    let thawed_at = faults::now_millis_of_day();
    cluster.delivery("one")?.signal("CONT")?;
    let one = cluster.source_of("one");
    wait::until("the process that was frozen to send again", || {
        let lines = cluster.sink.lines()?;
        Ok((lines.iter().skip(thawed).filter(|line| line.source == one).count() >= 1_000).then_some(()))
    })?;
    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("delivery frozen", &format!("{}; {takeover}", verdict.summary()));
    verdict.check(faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &[frozen_at, thawed_at])?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}
