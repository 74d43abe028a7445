//! Settle, cut at every step and taken up by a new owner, against a small model of the streams. Checks what invariants 2, 3
//! and 6 promise: nothing is lost, nothing is sent twice but what was in flight, no body goes while something refers to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use postrider_model::{EnvelopeId, EnvelopeState, MessageId, Move, Tier, Timestamp, WaitReason};

use super::{BodyState, DoneSet, Settle, SettlePlan, SettleStep, SettledThrough, moved_state};

/// An envelope in READY or in a tier.
#[derive(Clone, Debug)]
struct Copy {
    state: EnvelopeState,
    body: StoredBody,
}

#[derive(Clone, Copy, Debug)]
enum StoredBody {
    Inline,
    At { sequence: u64, shared: bool },
}

impl StoredBody {
    fn state(self) -> BodyState {
        match self {
            Self::Inline => BodyState::Inline,
            Self::At { shared, .. } => BodyState::Stored { shared },
        }
    }
}

fn id(hop: u32) -> EnvelopeId {
    EnvelopeId { message: MessageId::from_bytes([7; 16]), part: 0, hop }
}

/// A crash: at the effect with this number, before it is stored or before we know that it is.
#[derive(Clone, Copy, Debug)]
struct Cut {
    effect: usize,
    stored: bool,
}

struct Crashed;

/// JetStream, and what the recipient got.
struct World {
    /// Whether a repeated id is still within the deduplication window.
    remembers_ids: bool,
    ready: Vec<Copy>,
    tier: Vec<Copy>,
    seen_in_ready: HashSet<EnvelopeId>,
    seen_in_tier: HashSet<EnvelopeId>,
    events: Vec<(u64, EnvelopeId, Move)>,
    bodies: BTreeSet<u64>,
    written_bodies: u64,
    dead_letters: usize,
    /// What the lease says.
    settled_through: u64,
    conversations: usize,
    effects: usize,
    cut: Option<Cut>,
}

impl World {
    fn new(body: StoredBody, remembers_ids: bool) -> Self {
        let state = EnvelopeState {
            hop: 0,
            attempt: 0,
            site: "example.net".parse().unwrap(),
            slice: 0,
            pending: vec![0],
            last_reply: None,
        };
        Self {
            remembers_ids,
            ready: vec![Copy { state, body }],
            tier: Vec::new(),
            seen_in_ready: HashSet::from([id(0)]),
            seen_in_tier: HashSet::new(),
            events: Vec::new(),
            bodies: BTreeSet::from([1]),
            written_bodies: 1,
            dead_letters: 0,
            settled_through: 0,
            conversations: 0,
            effects: 0,
            cut: None,
        }
    }

    /// Lets one effect happen, unless this is where the crash is.
    fn effect(&mut self, store: impl FnOnce(&mut Self)) -> Result<(), Crashed> {
        let cut = self.cut.filter(|cut| cut.effect == self.effects);
        self.effects += 1;
        if cut.is_none_or(|cut| cut.stored) {
            store(self);
        }
        self.check();
        if cut.is_some() { Err(Crashed) } else { Ok(()) }
    }

    /// What holds at every moment.
    fn check(&self) {
        let living = self.ready.iter().chain(&self.tier);
        let ended = self.events.iter().any(|(_, _, next)| matches!(next, Move::Finished | Move::Dead { .. }));
        assert!(ended || living.clone().count() > 0, "lost");
        if self.remembers_ids {
            // What is in a tier and was promoted already is acked next; nobody reads its body there.
            let promoted = |copy: &&Copy| self.seen_in_ready.contains(&id(copy.state.hop));
            for copy in self.ready.iter().chain(self.tier.iter().filter(|copy| !promoted(copy))) {
                if let StoredBody::At { sequence, .. } = copy.body {
                    assert!(self.bodies.contains(&sequence), "a body went while hop {} refers to it", copy.state.hop);
                }
            }
        }
    }

    fn publish_ready(&mut self, copy: Copy) {
        if self.seen_in_ready.insert(id(copy.state.hop)) || !self.remembers_ids {
            self.ready.push(copy);
        }
    }

    fn publish_tier(&mut self, copy: Copy) {
        if self.seen_in_tier.insert(id(copy.state.hop)) || !self.remembers_ids {
            self.tier.push(copy);
        }
    }

    /// A promoter: copies to READY under the same id, then acks.
    fn promote(&mut self) -> Result<(), Crashed> {
        while let Some(copy) = self.tier.first().cloned() {
            self.effect(|world| world.publish_ready(copy))?;
            self.effect(|world| drop(world.tier.remove(0)))?;
        }
        Ok(())
    }

    fn lives(&self) -> bool {
        !self.ready.is_empty() || !self.tier.is_empty()
    }
}

/// An owner of the shard, from its takeover to its crash.
struct Owner {
    done: DoneSet,
    through: SettledThrough,
}

impl Owner {
    fn take_over(world: &World) -> Self {
        let (mut done, mut through) = (DoneSet::new(), SettledThrough::starting_at(world.settled_through));
        for (sequence, id, next) in world.events.iter().filter(|(sequence, ..)| *sequence > world.settled_through) {
            done.replayed(*id, next.clone());
            through.replayed(*sequence, *id);
        }
        Self { done, through }
    }

    /// Works until nothing is left. `script` is the next move by hop.
    fn work(&mut self, world: &mut World, script: &[Move]) -> Result<(), Crashed> {
        // What was in READY at the takeover comes first.
        for copy in world.ready.clone() {
            self.take(world, &copy, script)?;
        }
        self.done.caught_up(Timestamp::default());
        self.through.caught_up();
        world.settled_through = self.through.through();
        while world.lives() {
            for copy in world.ready.clone() {
                self.take(world, &copy, script)?;
            }
            world.promote()?;
        }
        Ok(())
    }

    fn take(&mut self, world: &mut World, copy: &Copy, script: &[Move]) -> Result<(), Crashed> {
        let id = id(copy.state.hop);
        let settle = self.done.repeat(id, copy.body.state()).unwrap_or_else(|| {
            world.conversations += 1;
            let next = script[usize::try_from(copy.state.hop).unwrap()].clone();
            Settle::new(SettlePlan { id, record: Some(tests_record(id, &next)), body: copy.body.state(), next })
        });
        self.through.resumed(&id);
        self.settle(world, copy, settle)
    }

    fn settle(&mut self, world: &mut World, old: &Copy, mut settle: Settle) -> Result<(), Crashed> {
        let mut body = old.body;
        loop {
            let moved = || moved_state(&old.state, settle.next_move()).map(|state| Copy { state, body });
            match settle.step() {
                SettleStep::Record => {
                    let sequence = u64::try_from(world.events.len()).unwrap() + 1;
                    let flush = self.through.flush_begun();
                    let next = settle.next_move().clone();
                    world.effect(|world| world.events.push((sequence, settle.id(), next.clone())))?;
                    self.done.recorded(settle.id(), next);
                    self.through.recorded(flush, sequence, [settle.id()]);
                    // The lease may be written at any moment.
                    world.settled_through = self.through.through();
                }
                SettleStep::SpillBody => {
                    let sequence = world.written_bodies + 1;
                    body = StoredBody::At { sequence, shared: false };
                    world.effect(|world| {
                        world.bodies.insert(sequence);
                        world.written_bodies = sequence;
                    })?;
                }
                // HOLD is left as a tier is: published to READY under the same id, then deleted.
                SettleStep::CopyToTier(_) | SettleStep::CopyToHold => {
                    let copy = moved().unwrap();
                    world.effect(|world| world.publish_tier(copy))?;
                }
                SettleStep::CopyToReady => {
                    let copy = moved().unwrap();
                    world.effect(|world| world.publish_ready(copy))?;
                }
                SettleStep::BuryDead => world.effect(|world| world.dead_letters += 1)?,
                SettleStep::AckOld => world.effect(|world| {
                    let position = world.ready.iter().position(|copy| copy.state.hop == old.state.hop);
                    drop(position.map(|position| world.ready.remove(position)));
                })?,
                SettleStep::DeleteBody => {
                    let StoredBody::At { sequence, .. } = old.body else { panic!("deletes a body that is not stored") };
                    world.effect(|world| assert!(world.bodies.remove(&sequence) || !world.remembers_ids))?;
                }
                SettleStep::Finished => break,
            }
            settle.done();
        }
        self.done.finished(settle.id(), Timestamp::default());
        self.through.settled(&settle.id());
        world.settled_through = self.through.through();
        Ok(())
    }
}

fn tests_record(id: EnvelopeId, next: &Move) -> postrider_model::Record {
    postrider_model::Record {
        id,
        at: Timestamp::default(),
        shard: "b00".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        class: postrider_model::Class::Bulk,
        campaign: None,
        pool: None,
        site: "example.net".parse().unwrap(),
        sender: postrider_model::ReversePath::Null,
        header_message_id: String::new(),
        arrival: Timestamp::default(),
        size_bytes: 1,
        body: None,
        metadata: Vec::new(),
        attempt: None,
        outcomes: Vec::new(),
        next: Some(next.clone()),
    }
}

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
