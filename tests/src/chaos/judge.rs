//! What must hold when a fault is over: the receiver's ledger, the events, the streams, the leases and the logs are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::doubt;
use super::kind::Kind;
use super::plan::{LIMIT, Plan};
use super::row::Row;
use super::wire::Wire;
use super::world::World;
use crate::load::Sent;
use crate::sink::{Line, Verdict};
use crate::{streams, wait};

/// How long the last message may take after a fault.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the events say of one recipient of one message.
#[derive(Clone, Debug, Default)]
struct Life {
    delivered: usize,
    otherwise: usize,
}

/// Waits until all has ended, and judges.
///
/// # Errors
/// With the first thing that does not hold.
pub fn judge(world: &mut World, plan: &Plan, sent: &Sent, conversations: usize, row: &mut Row) -> Result<()> {
    // All that is to come has come when the streams are empty.
    let empty = until_left(world, plan);
    world.doubt_losses(plan)?;
    let lines = world.cluster.sink.lines()?;
    let verdict = Verdict::of(sent, &lines);
    let lives = lives(world)?;
    let ended: BTreeSet<&str> =
        lives.iter().filter(|(_, life)| life.otherwise > 0).map(|((_, recipient), _)| recipient.as_str()).collect();
    let (bounced, lost): (Vec<_>, Vec<_>) =
        verdict.lost.iter().partition(|(_, recipient)| world.may_bounce && ended.contains(recipient.as_str()));
    row.accepted = verdict.accepted;
    row.delivered = verdict.delivered;
    row.bounced = bounced.len();
    row.lost = lost.len();
    row.repeats = verdict.repeats.len();
    row.bound = doubt::bound(&world.doubts, &lines, conversations);
    let left = empty.as_ref().err().map(|error| format!("; {error:#}")).unwrap_or_default();
    let some = &lost[..lost.len().min(3)];
    ensure!(lost.is_empty(), "{} of {} did not come: {some:?}{left}", lost.len(), verdict.accepted);
    empty?;
    ensure!(verdict.foreign.is_empty(), "nobody sent {:?}", verdict.foreign.first());
    in_doubt(world, &verdict, row)?;
    ended_once(&lives, &lines, row)?;
    if plan.kind == Kind::TwoOwners {
        within_limit(&lines)?;
    }
    owned_once(world, plan)?;
    // Who is told that its lease is another's, that its store is full, or finds poison, says so as an error.
    // So does the audit, of hours that differ from process to process.
    let loud = [Kind::TwoOwners, Kind::Poison, Kind::DiskFull, Kind::DiskReadOnly, Kind::Descriptors, Kind::ClockStep];
    if loud.contains(&plan.kind) { world.cluster.check_panics() } else { world.cluster.check_logs() }
}

/// Waits until the streams hold what is to be left in them, and nothing else.
fn until_left(world: &World, plan: &Plan) -> Result<()> {
    let nats = world.cluster.nats_address();
    let mut last = BTreeMap::new();
    wait::until_within(PATIENCE, "the queue to be empty", || {
        let Ok(held) = streams::held(nats) else { return Ok(None) };
        last = BTreeMap::new();
        for (stream, count) in held {
            // Which of the streams of bulk shards it is depends on the layout.
            let name = if stream.starts_with("READY_B") { "READY_B".to_owned() } else { stream };
            *last.entry(name).or_default() += count;
        }
        Ok((last == world.left).then_some(()))
    })
    .with_context(|| format!("seed {}: the streams hold {last:?} instead of {:?}", plan.seed, world.left))
}

/// Every repeat was in flight when something was cut, and there are not too many.
fn in_doubt(world: &World, verdict: &Verdict, row: &Row) -> Result<()> {
    let covered = |line: &Line| world.doubts.iter().any(|doubt| doubt.covers(line));
    let undoubted = verdict.repeats.iter().find(|(first, again)| !covered(first) && !covered(again));
    ensure!(undoubted.is_none(), "came twice, but was not in flight in any fault: {undoubted:?}");
    ensure!(row.repeats <= row.bound, "{} repeats, {} allowed", row.repeats, row.bound);
    Ok(())
}

/// What each recipient of each message came to, by the events.
fn lives(world: &World) -> Result<BTreeMap<(String, String), Life>> {
    let text =
        world.cluster.output(&["event", "export", "--since", "6h", "--until", "2099-01-01", "--format", "ndjson"])?;
    let mut lives: BTreeMap<(String, String), Life> = BTreeMap::new();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let of = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let life = lives.entry((of("message_id"), of("recipient"))).or_default();
        match event["event"].as_str().unwrap_or_default() {
            "delivered" => life.delivered += 1,
            "bounced" | "expired" => life.otherwise += 1,
            "dead" => anyhow::bail!("went to the dead letters: {line}"),
            _ => {}
        }
    }
    lives.retain(|(_, recipient), _| !recipient.is_empty());
    Ok(lives)
}

/// Every recipient ended once by the events; what the ledger has is what the events call delivered. Where a conversation or a
/// settle was cut, both may differ by what came twice.
fn ended_once(lives: &BTreeMap<(String, String), Life>, lines: &[Line], row: &Row) -> Result<()> {
    let open = lives.iter().find(|(_, life)| life.delivered + life.otherwise == 0);
    ensure!(open.is_none(), "the events know no end of {open:?}");
    let more = lives.values().map(|life| life.delivered + life.otherwise - 1).sum::<usize>();
    ensure!(more <= row.bound, "{more} recipients ended more than once by the events, {} allowed", row.bound);
    let in_ledger = lines.iter().map(|line| (&line.token, &line.rcpt_to)).collect::<BTreeSet<_>>().len();
    let by_events = lives.values().filter(|life| life.delivered > 0).count();
    let apart = in_ledger.abs_diff(by_events);
    ensure!(apart <= row.bound, "the ledger has {in_ledger} recipients, the events call {by_events} delivered");
    Ok(())
}

/// No site had more than its limit: in any three seconds no more than in four at the limit, since what leaves evenly may
/// arrive unevenly. Two owners that do not know of each other would let pass twice as much.
fn within_limit(lines: &[Line]) -> Result<()> {
    let mut sites: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in lines {
        sites.entry(line.domain()).or_default().push(line.millis_of_day());
    }
    for (site, mut times) in sites {
        times.sort_unstable();
        for (index, begin) in times.iter().enumerate() {
            let within = times[index..].iter().take_while(|time| **time < begin + 3_000).count();
            ensure!(within <= 4 * LIMIT, "{site} had {within} messages in 3 s; {LIMIT}/s are allowed");
        }
    }
    Ok(())
}

/// At the end every shard has one owner that lives, and no epoch was claimed by two.
fn owned_once(world: &World, plan: &Plan) -> Result<()> {
    let names = world.cluster.delivery_names();
    let tampered = plan.kind == Kind::TwoOwners;
    let look = || {
        let leases = Wire::connect(world.cluster.nats_address())?.leases()?;
        let ghost = leases.iter().find(|(_, lease)| lease.released || !names.contains(&lease.owner));
        // A list leaves out what is written while it is made.
        Ok((ghost.is_none() && leases.len() == world.shards()).then_some(leases))
    };
    let leases = wait::until("every shard to have an owner that lives", look)?;
    let mut claims: BTreeMap<(String, u64), String> = BTreeMap::new();
    for name in names {
        for (shard, epoch) in world.cluster.claims(&name)? {
            let before = claims.insert((shard.clone(), epoch), name.clone());
            ensure!(before.is_none() || tampered, "epoch {epoch} of {shard} had two owners: {before:?} and {name}");
            let last = leases.get(&shard).map_or(0, |lease| lease.epoch);
            ensure!(epoch <= last || tampered, "{shard} was claimed in epoch {epoch}, its lease says {last}");
        }
    }
    Ok(())
}
