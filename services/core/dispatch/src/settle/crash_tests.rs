//! Settle, cut at every step and taken up by a new owner, against a small model of the streams. Checks what invariants 2, 3
//! and 6 promise: nothing is lost, nothing is sent twice but what was in flight, no body goes while something refers to it.

mod world;

mod owner;

use std::collections::BTreeMap;

use postrider_model::{Move, Tier, Timestamp, WaitReason};

use self::owner::Owner;
use self::world::{Cut, StoredBody, World};

fn tier(attempt: u32) -> Move {
    Move::Tier {
        tier: Tier::M1,
        reason: WaitReason::Retry,
        until: Timestamp::default(),
        attempt,
        pending: vec![0],
        last_reply: None,
    }
}

fn site() -> Move {
    Move::Site { site: "other.example".parse().unwrap(), slice: 0 }
}

fn dead() -> Move {
    Move::Dead { reason: "body-lost".into() }
}

fn hold() -> Move {
    Move::Hold { rule: "hold-1".parse().unwrap() }
}

fn scripts() -> Vec<Vec<Move>> {
    vec![
        vec![Move::Finished],
        vec![dead()],
        vec![tier(1), Move::Finished],
        vec![site(), Move::Finished],
        vec![site(), tier(1), dead()],
        vec![tier(1), site(), tier(2), Move::Finished],
        vec![hold(), tier(1), hold(), Move::Finished],
    ]
}

const INLINE: StoredBody = StoredBody::Inline;
const OWN: StoredBody = StoredBody::At { sequence: 1, shared: false };
const SHARED: StoredBody = StoredBody::At { sequence: 1, shared: true };

/// Runs a script with these crashes, one after the other, and then to its end. `None` if a crash lies behind the end.
fn run(script: &[Move], body: StoredBody, remembers_ids: bool, cuts: &[Cut]) -> Option<World> {
    let mut world = World::new(body, remembers_ids);
    for cut in cuts {
        world.cut = Some(Cut { effect: world.effects + cut.effect, ..*cut });
        Owner::take_over(&world).work(&mut world, script).err()?;
    }
    world.cut = None;
    let finished = Owner::take_over(&world).work(&mut world, script);
    assert!(finished.is_ok());
    Some(world)
}

fn cuts() -> impl Iterator<Item = Cut> + Clone {
    (0..40).flat_map(|effect| [false, true].map(|stored| Cut { effect, stored }))
}

fn records(world: &World) -> BTreeMap<u32, usize> {
    let mut count = BTreeMap::new();
    for (_, id, _) in &world.events {
        *count.entry(id.hop).or_default() += 1;
    }
    count
}

#[test]
fn without_a_crash_every_hop_has_one_record_one_conversation_and_leaves_no_body() {
    for script in scripts() {
        for body in [INLINE, OWN, SHARED] {
            let world = run(&script, body, true, &[]).unwrap();
            assert_eq!(world.conversations, script.len());
            assert_eq!(records(&world), (0u32..).zip(vec![1; script.len()]).collect());
            let ended_by_itself = script.last() == Some(&Move::Finished);
            let moved = script.len() > 1;
            // In the model sequence 1 stands for a body that others may use; inline bodies never touch it.
            let left = match body {
                StoredBody::Inline => 1 + usize::from(moved && !ended_by_itself),
                StoredBody::At { shared, .. } => usize::from(shared || !ended_by_itself),
            };
            assert_eq!(world.bodies.len(), left, "{script:?} {body:?}");
            assert_eq!(world.written_bodies, 1 + u64::from(moved && matches!(body, StoredBody::Inline)));
        }
    }
}

/// What must hold after any crashes within the deduplication window.
#[track_caller]
fn check_end(script: &[Move], body: StoredBody, cuts: &[Cut], world: &World) {
    let why = format!("{script:?} {body:?} {cuts:?}");
    let hops: Vec<u32> = records(world).into_keys().collect();
    assert_eq!(hops, (0..u32::try_from(script.len()).unwrap()).collect::<Vec<_>>(), "{why}");
    assert!(records(world).values().all(|count| *count == 1), "a hop was settled twice: {why}");
    // A conversation is repeated only by a crash between it and its record.
    let lost_records = cuts.iter().filter(|cut| !cut.stored).count();
    assert!((script.len()..=script.len() + lost_records).contains(&world.conversations), "{why}");
    let died = usize::from(script.last() == Some(&dead()));
    assert!((died..=died * (1 + cuts.len())).contains(&world.dead_letters), "{why}");
    if matches!(body, StoredBody::At { shared: true, .. }) {
        assert!(world.bodies.contains(&1), "a shared body was deleted: {why}");
    }
    // What stays behind was spilled again or not deleted, at most once a crash, and ages out.
    let without_crash = run(script, body, true, &[]).unwrap().bodies.len();
    assert!(world.bodies.len() <= without_crash + cuts.len(), "{why}");
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_repeats_only_what_was_in_flight() {
    for script in scripts() {
        for body in [INLINE, OWN, SHARED] {
            for cut in cuts() {
                let Some(world) = run(&script, body, true, &[cut]) else { continue };
                check_end(&script, body, &[cut], &world);
            }
        }
    }
}

#[test]
fn a_second_crash_while_the_first_is_being_mended_changes_nothing() {
    for script in scripts() {
        for body in [INLINE, OWN, SHARED] {
            for first in cuts() {
                for second in cuts() {
                    let Some(world) = run(&script, body, true, &[first, second]) else { break };
                    check_end(&script, body, &[first, second], &world);
                }
            }
        }
    }
}

#[test]
fn a_crash_between_copy_and_ack_makes_at_most_one_copy_more_once_ids_are_forgotten() {
    for script in scripts() {
        for body in [INLINE, OWN, SHARED] {
            for cut in cuts() {
                let Some(world) = run(&script, body, false, &[cut]) else { continue };
                let hops: Vec<u32> = records(&world).into_keys().collect();
                assert_eq!(hops.len(), script.len(), "{script:?} {body:?} {cut:?}");
                assert!(world.conversations <= 2 * script.len(), "{script:?} {body:?} {cut:?}");
            }
        }
    }
}
