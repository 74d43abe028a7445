//! The short form of `tests/chaos`: a few seeds of different kinds. All of them are run by `tests/chaos --runs 221`.

use anyhow::{Result, ensure};
use postrider_tests::chaos::{self, kind::Kind, row::Verdict};
use postrider_tests::processes::turn;

use super::faults;

fn seed(seed: u64, kind: Kind) -> Result<()> {
    let _turn = turn();
    assert_eq!(Kind::of(seed), kind);
    let row = chaos::run(seed, None);
    faults::say("chaos", &row.to_string());
    if let Verdict::Skipped(why) = &row.verdict {
        postrider_tests::peers::not_run(&format!("chaos seed {seed}"), why)?;
    }
    ensure!(!row.failed(), "tests/chaos --seed {seed} --runs 1: {}\n{}", row.what, row.verdict);
    Ok(())
}

#[test]
fn seed_202_records_of_the_next_version() -> Result<()> {
    seed(202, Kind::NextVersion)
}

#[test]
fn seed_272_any_process_dies() -> Result<()> {
    seed(272, Kind::Kill)
}

#[test]
fn seed_390_the_disk_is_slow() -> Result<()> {
    seed(390, Kind::DiskSlow)
}
