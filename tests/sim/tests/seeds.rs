//! The machines in their simulated world, seed by seed. `POSTRIDER_SIM_SEEDS=10000 cargo test -p postrider-sim --release` runs so many;
//! `POSTRIDER_SIM_SEED=n` repeats one and tells what happened in it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking and tells why")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use postrider_sim::story;

/// Seeds of a run that was not told how many.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn whatever_happens_the_invariants_hold() {
    if let Some(seed) = number("POSTRIDER_SIM_SEED") {
        let verdict = story::tell_of(seed, true);
        eprintln!("{verdict:#?}");
        assert!(verdict.violations.is_empty(), "seed {seed}: {:#?}", verdict.violations);
        return;
    }
    let first = number("POSTRIDER_SIM_FIRST").unwrap_or(0);
    let end = first + number("POSTRIDER_SIM_SEEDS").unwrap_or(SEEDS);
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed: Vec<(u64, Vec<String>)> = Vec::new();
    let (mut steps, mut faults, mut doubled) = (0, 0, 0);
    let work = || {
        let mut verdicts = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return verdicts;
            }
            let verdict = story::run(seed);
            verdicts.push((seed, verdict));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for (seed, verdict) in workers.into_iter().flat_map(|worker| worker.join().unwrap()) {
            steps += verdict.steps;
            faults += verdict.faults;
            doubled += u64::from(verdict.doubled);
            if !verdict.violations.is_empty() {
                failed.push((seed, verdict.violations));
            }
        }
    });
    failed.sort_by_key(|(seed, _)| *seed);
    let (seeds, took) = (end - first, began.elapsed());
    eprintln!("{seeds} seeds, {faults} faults, {steps} steps, {doubled} repeats within the bound, in {took:.1?}");
    for (seed, violations) in failed.iter().take(10) {
        eprintln!("seed {seed}: {}", violations[0]);
    }
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(seeds.is_empty(), "POSTRIDER_SIM_SEED=n repeats one of {} seeds: {seeds:?}", seeds.len());
}

#[test]
fn a_seed_goes_the_same_way_each_time() {
    for seed in 0..3 {
        let (once, again) = (story::run(seed), story::run(seed));
        assert_eq!((once.trace, once.steps), (again.trace, again.steps), "seed {seed}");
    }
}
