//! Delivery processes that stop and start in good order hand their shards over, slow conversations too: nothing is lost,
//! nothing comes twice.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::load::{Load, Shape};
use postrider_tests::processes::{Processes, Settings, turn};

use super::faults;

/// As everywhere, but every hundredth message is answered after three seconds only.
const WITH_SLOW_ONES: Shape = Shape { recipients: slow_at_times, ..faults::MANY_SITES };

fn slow_at_times(number: usize) -> Vec<String> {
    match number % 100 {
        50 => vec![format!("delay-3@slow{}.example", number % 700 / 100)],
        _ => (faults::MANY_SITES.recipients)(number),
    }
}

#[test]
fn shards_move_from_a_process_that_stops_and_to_one_that_starts_without_a_repeat() -> Result<()> {
    let _turn = turn();
    let mut cluster = Processes::start(Settings { delivery: faults::DELIVERY, ..Settings::default() })?;
    cluster.start_delivery("one")?;
    cluster.start_delivery("two")?;
    cluster.until_shards("one", |count| count > 20)?;
    cluster.until_shards("two", |count| count > 20)?;
    let load = Load::begin(cluster.relay, "handover", WITH_SLOW_ONES);
    cluster.sink.until(2_000)?;

    let before = cluster.sink.count()?;
    let stopped_at = faults::now_millis_of_day();
    cluster.stop_delivery("one")?;
    let stopped = faults::between(stopped_at, faults::now_millis_of_day());
    let left = faults::takeover(&cluster, before, stopped_at, "one", "two")?;

    let before = cluster.sink.count()?;
    let started_at = faults::now_millis_of_day();
    cluster.start_delivery("three")?;
    cluster.until_shards("three", |count| count > 20)?;
    cluster.until_shards("two", |count| count < 60)?;
    let joined = faults::first_line(&cluster, before, started_at, "three")?;

    let sent = load.finish(10_000)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    let figures = format!(
        "{}; stopped within {:.1} s, its {left}; the new one sent after {:.1} s",
        verdict.summary(),
        stopped.as_secs_f64(),
        joined.as_secs_f64()
    );
    faults::say("delivery handover", &figures);
    verdict.check(0)?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}
