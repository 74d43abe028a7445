//! The judge: what senders were promised, what exchangers got, what was in flight at each fault. It looks at every beginning and
//! every connection while the world goes on, and at all of it in the end.

mod limits;

mod orders;

mod verdict;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::dispatcher::Conversation;
use postrider_dispatch::limits::Shaping;
use postrider_dispatch::ownership::{FENCE, Lease};
use postrider_dispatch::rules::Rules;
use postrider_model::{Envelope, EnvelopeId, MemberId, MessageId, PartNumber, Rule, ShardId, SiteName, Timestamp};

use crate::exec::{Life, Sim};
use crate::nats::{Nats, Packet};
use crate::spool::list_leases;
use limits::Connection;

/// A part of a message.
pub type Part = (MessageId, PartNumber);

/// What may be done for a shard that was released: nothing depends on it.
pub const AFTERWARDS: [&str; 2] = ["an acknowledgement", "an acceptance"];

/// How long ownership is in doubt after somebody wrote to the lease bucket: all have seen it, and permits of before have ended.
const IN_DOUBT: Duration = Duration::from_secs(40);

/// For how long an owner knows what it has finished.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Why something of a process is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// It is in a conversation, or its settle is not finished.
    Settling(ShardId),
    /// It is being promoted, split or accepted: published, and not yet acknowledged where it was.
    Moving,
}

/// A part that a sender has offered.
struct Offered {
    envelope: Envelope,
    /// Whether the sender was told that it is safe.
    accepted: bool,
}

#[derive(Default)]
struct Book {
    parts: BTreeMap<Part, Offered>,
    /// Every rule that was ever made.
    ordered: Vec<Rule>,
    /// Which ones a process follows.
    obeyed: HashMap<Life, Rc<Rules>>,
    taken: BTreeMap<(Part, u32), u32>,
    refused: BTreeSet<(Part, u32)>,
    in_flight: BTreeSet<(Life, EnvelopeId, Work)>,
    attempted: BTreeSet<(Life, EnvelopeId)>,
    /// When an owner finished a stay, by its epoch.
    finished: HashMap<(Life, ShardId, u64, EnvelopeId), Timestamp>,
    /// How often more a part may be doubled.
    allowed: BTreeMap<Part, u32>,
    /// How often more its end may be recorded.
    unrecorded: BTreeMap<Part, u32>,
    mails: BTreeMap<SiteName, Vec<(Timestamp, u32)>>,
    /// Since when a limit shard has its owner, and when the permits of the owner before have ended.
    reigns: BTreeMap<ShardId, (Timestamp, Timestamp)>,
    open: BTreeMap<(Life, Conversation), Connection>,
    members: BTreeMap<Life, (MemberId, Option<Timestamp>)>,
    /// When a process last woke from being frozen, or that it is.
    thawed: BTreeMap<Life, Timestamp>,
    frozen: BTreeSet<Life>,
    /// When somebody wrote to the lease bucket last: ownership is not judged for a while.
    tampered: Option<Timestamp>,
    violations: Vec<String>,
    doubled: u32,
    guilty: BTreeSet<Part>,
    /// What happened to each part, for people; `None` unless somebody wants to know.
    told: Option<BTreeMap<Part, Vec<String>>>,
    /// What happened to shards and limits, likewise.
    heard: Vec<String>,
}

/// The judge. A clone is the same one.
#[derive(Clone)]
pub struct Judge {
    sim: Sim,
    nats: Nats,
    shaping: Rc<Shaping>,
    /// How long the server remembers ids.
    repeats: Duration,
    book: Rc<RefCell<Book>>,
}

impl Judge {
    /// Nothing has happened yet.
    pub fn new(sim: &Sim, nats: &Nats, shaping: Shaping, repeats: Duration) -> Self {
        Self { sim: sim.clone(), nats: nats.clone(), shaping: Rc::new(shaping), repeats, book: Rc::default() }
    }

    fn violated(&self, what: String) {
        let at = self.sim.now().since(crate::exec::BEGIN).as_millis();
        self.book.borrow_mut().violations.push(format!("at {at} ms: {what}"));
    }

    /// A world that is busy without end is wrong whatever becomes of its mail.
    pub fn looks_for_rest(&self) {
        if self.sim.is_restless() {
            self.violated("it never comes to rest".to_owned());
        }
    }

    /// From now on everything that happens to a part is written down.
    pub fn listen(&self) {
        self.book.borrow_mut().told = Some(BTreeMap::new());
    }

    /// Something happens to a part.
    pub fn tell(&self, part: Part, what: impl FnOnce() -> String) {
        let at = self.sim.now().since(crate::exec::BEGIN).as_millis();
        if let Some(told) = &mut self.book.borrow_mut().told {
            told.entry(part).or_default().push(format!("{at} ms: {}", what()));
        }
    }

    /// Something happens that is about no part.
    pub fn hear(&self, what: impl FnOnce() -> String) {
        let at = self.sim.now().since(crate::exec::BEGIN).as_millis();
        let mut book = self.book.borrow_mut();
        if book.told.is_some() {
            book.heard.push(format!("{at} ms: {}", what()));
        }
    }

    /// What happened that is about no part.
    pub fn heard(&self) -> Vec<String> {
        self.book.borrow().heard.clone()
    }

    /// What happened to a part.
    pub fn told(&self, part: Part) -> Vec<String> {
        self.book.borrow().told.as_ref().and_then(|told| told.get(&part)).cloned().unwrap_or_default()
    }

    /// The parts about which something was violated.
    pub fn guilty(&self) -> BTreeSet<Part> {
        self.book.borrow().guilty.clone()
    }

    /// What was violated so far.
    pub fn violations(&self) -> Vec<String> {
        self.book.borrow().violations.clone()
    }

    /// Whether anything was.
    pub fn is_violated(&self) -> bool {
        !self.book.borrow().violations.is_empty()
    }

    /// Recipients that got a message more than once, each time within the bound.
    pub fn doubled(&self) -> u32 {
        self.book.borrow().doubled
    }

    /// A sender offers parts.
    pub fn offered(&self, parts: &[Packet]) {
        let mut book = self.book.borrow_mut();
        for packet in parts {
            let envelope = packet.envelope.clone();
            book.parts.insert((envelope.message, envelope.part), Offered { envelope, accepted: false });
            book.in_flight.insert((Life::WORLD, packet.id(), Work::Moving));
        }
    }

    /// The sender was told `250`, or not.
    pub fn answered(&self, parts: &[Packet], accepted: bool) {
        let mut book = self.book.borrow_mut();
        for packet in parts {
            if let Some(part) = book.parts.get_mut(&(packet.envelope.message, packet.envelope.part)) {
                part.accepted = accepted;
            }
            // What was not accepted may still lie on its way.
            if accepted {
                book.in_flight.remove(&(Life::WORLD, packet.id(), Work::Moving));
            }
        }
    }

    /// Somebody writes to the lease bucket who has no business there.
    pub fn is_tampered_with(&self) {
        self.book.borrow_mut().tampered = Some(self.sim.now());
    }

    /// Whether shards may have two owners that do not know of each other, or permits of such ones may live.
    fn is_in_doubt(&self) -> bool {
        self.book.borrow().tampered.is_some_and(|at| self.sim.now().since(at) < IN_DOUBT)
    }

    /// A process lives.
    pub fn born(&self, life: Life, member: MemberId) {
        self.book.borrow_mut().members.insert(life, (member, None));
    }

    /// Its membership was renewed; the renewal was sent at this time.
    pub fn renewed(&self, life: Life, sent: Timestamp) {
        if let Some((_, renewed)) = self.book.borrow_mut().members.get_mut(&life) {
            *renewed = Some(renewed.map_or(sent, |before| before.max(sent)));
        }
    }

    /// Something is done in the name of a shard: a message is begun, or something is published. Its owner must be one, and it
    /// must be within its fence.
    pub fn acts(&self, life: Life, shard: ShardId, epoch: u64, what: &str) {
        let now = self.sim.now();
        let Some((member, renewed)) = self.book.borrow().members.get(&life).cloned() else { return };
        if renewed.is_none_or(|sent| now.since(sent) >= FENCE) {
            self.violated(format!("invariant 4: {what} of {shard} by {member} ({life:?}) behind its fence"));
        }
        if self.is_in_doubt() {
            return;
        }
        let leases = list_leases(&mut self.nats.server.borrow_mut(), now);
        let may = |lease: &Lease| !lease.released || AFTERWARDS.contains(&what);
        match leases.shards.get(&shard) {
            Some((lease, _)) if lease.owner == member && lease.epoch == epoch && may(lease) => {}
            lease => self.violated(format!(
                "invariant 4: {what} of {shard} by {member} ({life:?}) in epoch {epoch}, but the lease says {lease:?}"
            )),
        }
    }

    /// Work on an envelope begins.
    pub fn begins(&self, life: Life, id: EnvelopeId, work: Work) {
        self.tell((id.message, id.part), || format!("{life:?} begins hop {}: {work:?}", id.hop));
        let doubt = self.is_in_doubt();
        let mut book = self.book.borrow_mut();
        book.in_flight.insert((life, id, work));
        if doubt && work != Work::Moving {
            // Its shard may have two owners, and both may have it.
            *book.allowed.entry((id.message, id.part)).or_default() += 1;
        }
    }

    /// A message is handed to an exchanger. What comes again although it is finished is known to who finished it.
    pub fn attempts(&self, life: Life, id: EnvelopeId, (shard, epoch): (ShardId, u64)) {
        let finished = self.book.borrow().finished.get(&(life, shard, epoch, id)).copied();
        let ago = finished.map(|at| self.sim.now().since(at));
        if let Some(ago) = ago.filter(|ago| *ago < REMEMBERED) {
            self.violated(format!("invariant 6: {life:?} attempts {id} again, which it finished {ago:?} ago"));
        }
        self.begins(life, id, Work::Settling(shard));
        self.nats.forget_recorded(life, id);
        self.book.borrow_mut().attempted.insert((life, id));
    }

    /// All steps of its settle are done.
    pub fn finishes(&self, life: Life, id: EnvelopeId, (shard, epoch): (ShardId, u64)) {
        self.ends(life, id, Work::Settling(shard));
        self.book.borrow_mut().finished.insert((life, shard, epoch, id), self.sim.now());
    }

    /// It is finished.
    pub fn ends(&self, life: Life, id: EnvelopeId, work: Work) {
        self.tell((id.message, id.part), || format!("{life:?} has done hop {}: {work:?}", id.hop));
        self.book.borrow_mut().in_flight.remove(&(life, id, work));
    }

    /// A process lost a shard: what was in flight of it may be doubled once.
    pub fn lost(&self, life: Life, shard: ShardId) {
        self.interrupted(|which, work| which == life && work == Work::Settling(shard));
    }

    /// A process dies.
    pub fn died(&self, life: Life) {
        self.interrupted(|which, work| which == life && work != Work::Moving);
        let mut book = self.book.borrow_mut();
        book.in_flight.retain(|(which, ..)| *which != life);
        book.open.retain(|(which, _), _| *which != life);
        book.frozen.remove(&life);
    }

    /// A process stops for a while.
    pub fn froze(&self, life: Life) {
        self.interrupted(|which, work| which == life && work != Work::Moving);
        self.book.borrow_mut().frozen.insert(life);
    }

    /// It goes on.
    pub fn thawed(&self, life: Life) {
        let mut book = self.book.borrow_mut();
        book.frozen.remove(&life);
        book.thawed.insert(life, self.sim.now());
    }

    /// What was attempted, is in flight and has no record of that may be doubled once.
    fn interrupted(&self, which: impl Fn(Life, Work) -> bool) {
        let mut book = self.book.borrow_mut();
        let in_flight = book.in_flight.iter().filter(|(life, _, work)| which(*life, *work));
        let cut: BTreeSet<(Life, EnvelopeId)> = in_flight.map(|(life, id, _)| (*life, *id)).collect();
        for (life, id) in cut {
            if self.nats.has_recorded(life, id) {
                continue;
            }
            // Each attempt is excused once. What was not attempted may be recorded twice, and delivered no oftener.
            let part = (id.message, id.part);
            match book.attempted.remove(&(life, id)) {
                true => *book.allowed.entry(part).or_default() += 1,
                false => *book.unrecorded.entry(part).or_default() += 1,
            }
        }
    }

    /// An exchanger takes a message for a recipient.
    pub fn takes(&self, part: Part, recipient: u32) {
        self.tell(part, || format!("an exchanger takes it for {recipient}"));
        *self.book.borrow_mut().taken.entry((part, recipient)).or_default() += 1;
    }

    /// An exchanger refuses a recipient for good.
    pub fn refuses(&self, part: Part, recipient: u32) {
        self.book.borrow_mut().refused.insert((part, recipient));
    }

    /// An exchanger took a message and its reply was lost: it will be tried again.
    pub fn unheard(&self, part: Part) {
        *self.book.borrow_mut().allowed.entry(part).or_default() += 1;
    }
}
