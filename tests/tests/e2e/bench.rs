//! `postrider bench` in small: a load through a system of its own, every message followed, nothing left behind.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use postrider_tests::process::{Process, signal_to};
use postrider_tests::{place, wait};

fn bench(folder: &tempfile::TempDir, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(place::program()?);
    command.arg("bench").args(words).arg("--folder").arg(folder.path());
    Ok(command)
}

fn left(folder: &tempfile::TempDir) -> Result<usize> {
    Ok(std::fs::read_dir(folder.path())?.count())
}

#[test]
fn a_small_load_is_measured_and_leaves_nothing_behind() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let words = ["--messages", "200", "--size", "1k,100k", "--tls", "--dkim", "--rounds", "1", "-o", "json"];
    let output = bench(&folder, &words)?.stdin(Stdio::null()).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let all: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let all = all.as_array().context("one table a size")?;
    assert_eq!(all.len(), 2);
    for results in all {
        let turn = &results["turns"][0];
        assert_eq!(
            (turn["messages"].as_u64(), turn["repeats"].as_u64(), turn["foreign"].as_u64()),
            (Some(200), Some(0), Some(0))
        );
        for figure in ["accept_rate", "end_to_end_rate", "latency_p50_ms", "cpu_ms_per_1000", "peak_rss_mib"] {
            assert!(turn[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {turn}");
        }
        assert!(turn["accept_rate"].as_f64() >= turn["end_to_end_rate"].as_f64(), "{turn}");
    }
    assert_eq!(left(&folder)?, 0);
    Ok(())
}

#[test]
fn a_bench_that_is_interrupted_cleans_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = tempfile::NamedTempFile::new()?;
    let mut command = bench(&folder, &["--messages", "100000", "--rate", "50"])?;
    let mut running = Process::start("postrider bench", &mut command, log.path())?;
    wait::until("the system under load", || {
        let ready =
            |entry: std::io::Result<std::fs::DirEntry>| entry.is_ok_and(|at| at.path().join("ready.json").exists());
        Ok(std::fs::read_dir(folder.path())?.any(ready).then_some(()))
    })?;
    signal_to(running.id(), "INT")?;
    assert!(!running.wait()?.success());
    assert_eq!(left(&folder)?, 0, "{}", running.output());
    Ok(())
}
