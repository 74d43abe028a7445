//! Faults by chance: a seed decides what goes wrong, when and for whom, and what load goes on meanwhile. The receiver's ledger
//! and the events judge. `tests/chaos` runs many seeds and prints a table; the end-to-end tests run a few.
//!
//! A run starts a cluster of separate processes ([`world`]), sends mail by SMTP that is tried again on 4xx, lets a fault happen
//! ([`faults`]), takes it away, and expects that all goes on by itself ([`judge`]). The seed is all there is to a run: the
//! same seed does the same things at the same times, as far as a machine can.
//!
//! # What may come twice
//!
//! Where a fault may cut a conversation or a settle, it notes a [`doubt::Doubt`]: whose mail, from when to when. What came
//! twice must have come once within one of them, and no more may than the conversations that were open and what had been
//! sent then: invariant 6 of the design. A fault without doubts allows no repeat at all.

pub mod dice;

pub mod doubt;

pub mod kind;

pub mod plan;

pub mod world;

pub mod faults;

pub mod wire;

pub mod judge;

pub mod row;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use plan::Plan;
use row::{Row, Verdict};
use world::World;

/// Runs one seed to its end. Whatever goes wrong is in the row; logs and ledger of a run that failed are kept in a folder of
/// the seed's name below `keep`.
pub fn run(seed: u64, keep: Option<&Path>) -> Row {
    let plan = Plan::of(seed);
    let begun = Instant::now();
    let mut row = Row::new(&plan);
    if let Some(why) = plan.kind.impossible() {
        row.verdict = Verdict::Skipped(why);
        return row;
    }
    let keep = keep.map(|folder| folder.join(seed.to_string()));
    row.verdict = match go(&plan, &mut row, keep.as_deref()) {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}")),
    };
    row.seconds = begun.elapsed().as_secs_f64();
    row
}

fn go(plan: &Plan, row: &mut Row, keep: Option<&Path>) -> Result<()> {
    let mut world = World::start(plan)?;
    let ended = world.live(plan, row);
    row.what = world.told();
    if let (Err(_), Some(folder)) = (&ended, keep) {
        world.cluster.keep_logs(folder);
        // What the queue says of itself, while it is still there.
        let queue = world.cluster.output(&["queue", "summary", "-o", "json"]).unwrap_or_else(|error| error.to_string());
        let streams = crate::streams::until_empty(world.cluster.nats_address(), Duration::ZERO);
        std::fs::write(folder.join("queue.json"), format!("{queue}\n{streams:?}\n")).ok();
        for name in world.cluster.delivery_names() {
            let metrics = faults::metrics(world.cluster.metrics_of(&name)).unwrap_or_else(|error| error.to_string());
            std::fs::write(folder.join(format!("{name}.metrics")), metrics).ok();
        }
    }
    ended
}
