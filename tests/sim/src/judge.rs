//! The judge: what senders were promised, what exchangers got, what was in flight at each fault. It looks at every beginning and
//! every connection while the world goes on, and at all of it in the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::dispatcher::Conversation;
use postrider_dispatch::limits::Shaping;
use postrider_dispatch::ownership::{FENCE, Lease};
use postrider_model::{EnvelopeId, MemberId, MessageId, Outcome, PartNumber, ShardId, SiteName, Timestamp};

use crate::exec::{Life, Sim};
use crate::nats::{Nats, Packet, Payload};
use crate::spool::{LAYOUT, REPEATS, list_leases};

/// A part of a message.
pub type Part = (MessageId, PartNumber);

/// What may be done for a shard that was released: nothing depends on it.
pub const AFTERWARDS: [&str; 2] = ["an acknowledgement", "an acceptance"];

/// How long ownership is in doubt after somebody wrote to the lease bucket: all have seen it, and permits of before have ended.
const IN_DOUBT: Duration = Duration::from_secs(40);

/// What it takes to close a connection.
const CLOSING: Duration = Duration::from_millis(100);

/// Why something of a process is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// It is in a conversation, or its settle is not finished.
    Settling(ShardId),
    /// It is being promoted, split or accepted: published, and not yet acknowledged where it was.
    Moving,
}

/// A connection that stands or is being opened.
struct Connection {
    site: SiteName,
    /// Its permit ends.
    until: Timestamp,
    busy: bool,
    /// When it last ended a message.
    free_since: Timestamp,
}

impl Connection {
    /// What carries a message when its permit ends goes on to its end, and counts no more. Any other is closed, which takes a moment.
    fn counts(&self, now: Timestamp) -> bool {
        now < self.until || (!self.busy && now > self.until.max(self.free_since).after(CLOSING))
    }
}

#[derive(Default)]
struct Book {
    /// Recipients of each part, and whether its sender was told that it is safe.
    parts: BTreeMap<Part, (Vec<u32>, bool)>,
    taken: BTreeMap<(Part, u32), u32>,
    refused: BTreeSet<(Part, u32)>,
    in_flight: BTreeSet<(Life, EnvelopeId, Work)>,
    attempted: BTreeSet<(Life, EnvelopeId)>,
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
    book: Rc<RefCell<Book>>,
}

impl Judge {
    /// Nothing has happened yet.
    pub fn new(sim: &Sim, nats: &Nats, shaping: Shaping) -> Self {
        Self { sim: sim.clone(), nats: nats.clone(), shaping: Rc::new(shaping), book: Rc::default() }
    }

    fn violated(&self, what: String) {
        let at = self.sim.now().since(crate::exec::BEGIN).as_millis();
        self.book.borrow_mut().violations.push(format!("at {at} ms: {what}"));
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
            let recipients = packet.envelope.state.pending.clone();
            book.parts.insert((packet.envelope.message, packet.envelope.part), (recipients, false));
            book.in_flight.insert((Life::WORLD, packet.id(), Work::Moving));
        }
    }

    /// The sender was told `250`, or not.
    pub fn answered(&self, parts: &[Packet], accepted: bool) {
        let mut book = self.book.borrow_mut();
        for packet in parts {
            if let Some(part) = book.parts.get_mut(&(packet.envelope.message, packet.envelope.part)) {
                part.1 = accepted;
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

    /// A message is handed to an exchanger.
    pub fn attempts(&self, life: Life, id: EnvelopeId, shard: ShardId) {
        self.begins(life, id, Work::Settling(shard));
        self.nats.forget_recorded(life, id);
        self.book.borrow_mut().attempted.insert((life, id));
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

    /// Copies that were made twice because the server had forgotten the id of the first: each may double its part once more.
    fn copied_twice(&self) -> Vec<Part> {
        let mut last: BTreeMap<(String, EnvelopeId), Timestamp> = BTreeMap::new();
        let mut twice = Vec::new();
        for (at, stream, id) in self.nats.stored() {
            let Some(before) = last.insert((stream.clone(), id), at) else { continue };
            let forgot = at.since(before) >= REPEATS || self.nats.restarted_between(before, at);
            match forgot {
                true => twice.push((id.message, id.part)),
                false => self.violated(format!("invariant 2: {id} came to {stream} twice, under two ids")),
            }
        }
        twice
    }

    /// A message is begun over a connection, to so many recipients. `ordered` is when that was decided.
    pub fn mails(&self, life: Life, site: &SiteName, recipients: u32, ordered: Timestamp) {
        let now = self.sim.now();
        let Some(rate) = self.shaping.of(site).message_rate else { return };
        let mut book = self.book.borrow_mut();
        // What was decided before the process was frozen comes too late and is nobody's fault.
        if book.thawed.get(&life).is_some_and(|thawed| *thawed >= ordered) {
            return;
        }
        let reign = book.reigns.get(&LAYOUT.limit_shard(site)).copied();
        let mails = book.mails.entry(site.clone()).or_default();
        mails.push((now, recipients));
        mails.retain(|(at, _)| at.after(rate.window()) > now);
        // A new owner knows nothing of what the one before gave out: it begins with nothing, and gets what the limit gives in
        // the time. Only what went out under it is counted against that.
        let (begun, quiet_until) = reign.unwrap_or_default();
        let of_reign = mails.iter().filter(|(at, _)| *at >= quiet_until.max(begun));
        let count: u32 = of_reign.map(|(_, recipients)| recipients).sum();
        let elapsed = now.since(begun).min(rate.window()).as_millis();
        let most = (u128::from(rate.count()) * elapsed).div_ceil(rate.window().as_millis());
        // Who takes the limit over in doubt, or before its old permits have ended, may give the same out again.
        let in_doubt = book.tampered.is_some_and(|at| now.since(at) < IN_DOUBT + rate.window());
        drop(book);
        if u128::from(count) > most && !in_doubt {
            self.violated(format!(
                "invariant 5: {count} recipients within {elapsed} ms at {site}, whose limit is {rate}"
            ));
        }
    }

    /// A limit shard has a new owner.
    pub fn reigns(&self, shard: ShardId, quiet: Duration) {
        let now = self.sim.now();
        self.book.borrow_mut().reigns.insert(shard, (now, now.after(quiet)));
    }

    /// A connection is being opened, with a permit until then.
    pub fn connects(&self, (life, conversation): (Life, Conversation), site: &SiteName, until: Timestamp) {
        let most = self.shaping.of(site).connections;
        let now = self.sim.now();
        self.hear(|| format!("{life:?} connects to {site} as {conversation:?}"));
        let mut book = self.book.borrow_mut();
        book.open.insert((life, conversation), Connection { site: site.clone(), until, busy: false, free_since: now });
        let excused = |life: &Life| {
            book.frozen.contains(life)
                || book.thawed.get(life).is_some_and(|thawed| now.since(*thawed) < Duration::from_secs(2))
        };
        let counts = |open: &Connection| open.site == *site && open.counts(now);
        let open = book.open.iter().filter(|((life, _), open)| counts(open) && !excused(life)).count();
        drop(book);
        if open > usize::try_from(most).unwrap() && !self.is_in_doubt() {
            self.violated(format!("invariant 5: {open} connections to {site} instead of {most}"));
        }
    }

    /// The permit of a connection is longer.
    pub fn is_permitted(&self, life: Life, conversation: Conversation, until: Timestamp) {
        if let Some(open) = self.book.borrow_mut().open.get_mut(&(life, conversation)) {
            open.until = until;
        }
    }

    /// A connection carries a message, or no longer.
    pub fn is_busy(&self, life: Life, conversation: Conversation, busy: bool) {
        if let Some(open) = self.book.borrow_mut().open.get_mut(&(life, conversation)) {
            (open.busy, open.free_since) = (busy, self.sim.now());
        }
    }

    /// A connection is closed.
    pub fn disconnects(&self, life: Life, conversation: Conversation) {
        self.hear(|| format!("{life:?} disconnects {conversation:?}"));
        self.book.borrow_mut().open.remove(&(life, conversation));
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

    /// Whether every recipient of every accepted part has its end, and nothing is under way.
    pub fn is_over(&self) -> bool {
        self.missing().is_empty()
    }

    fn ends_of(&self) -> BTreeMap<(Part, u32), Vec<Outcome>> {
        let mut ends: BTreeMap<(Part, u32), Vec<Outcome>> = BTreeMap::new();
        for stored in self.nats.server.borrow().all("EVENTS") {
            let Some(Payload::Events(records)) = &stored.payload else { continue };
            for record in records.iter() {
                for outcome in record.outcomes.iter().filter(|outcome| outcome.outcome.is_terminal()) {
                    ends.entry(((record.id.message, record.id.part), outcome.index)).or_default().push(outcome.outcome);
                }
            }
        }
        ends
    }

    fn missing(&self) -> Vec<(Part, u32)> {
        let ends = self.ends_of();
        let book = self.book.borrow();
        let accepted = book.parts.iter().filter(|(_, (_, accepted))| *accepted);
        let all = accepted.flat_map(|(part, (recipients, _))| recipients.iter().map(|index| (*part, *index)));
        all.filter(|recipient| !ends.contains_key(recipient)).collect()
    }

    /// Looks at the whole story.
    pub fn conclude(&self) {
        for (part, index) in self.missing() {
            let hops = self.hops_of(part);
            self.book.borrow_mut().guilty.insert(part);
            self.violated(format!("invariant 2: recipient {index} of {}:{} has no end; {hops}", part.0, part.1));
        }
        let (ends, twice) = (self.ends_of(), self.copied_twice());
        let (mut wrong, mut guilty) = (Vec::new(), Vec::new());
        let mut book = self.book.borrow_mut();
        for part in twice {
            *book.allowed.entry(part).or_default() += 1;
        }
        let mut doubled = 0;
        for ((part, index), outcomes) in &ends {
            let allowed = book.allowed.get(part).copied().unwrap_or(0);
            let name = format!("recipient {index} of {}:{}", part.0, part.1);
            let most = 1 + allowed + book.unrecorded.get(part).copied().unwrap_or(0);
            if outcomes.len() > usize::try_from(most).unwrap() {
                guilty.push(*part);
                wrong.push(format!("invariant 2: {name} ended {outcomes:?}, {allowed} repeats excused"));
            }
            let taken = book.taken.get(&(*part, *index)).copied().unwrap_or(0);
            if outcomes.contains(&Outcome::Delivered) && taken == 0 {
                wrong.push(format!("invariant 2: {name} is said to be delivered, and nobody took it"));
            }
            if outcomes.contains(&Outcome::Bounced) && !book.refused.contains(&(*part, *index)) {
                wrong.push(format!("invariant 7: {name} bounced, and nobody refused it"));
            }
            if outcomes.contains(&Outcome::Dead) && allowed == 0 {
                wrong.push(format!("invariant 7: the body of {name} is lost"));
            }
        }
        for ((part, index), taken) in &book.taken {
            let allowed = book.allowed.get(part).copied().unwrap_or(0);
            if *taken > 1 {
                doubled += taken - 1;
            }
            if *taken > 1 + allowed {
                let name = format!("recipient {index} of {}:{}", part.0, part.1);
                guilty.push(*part);
                wrong.push(format!("invariant 6: {name} got it {taken} times, {allowed} repeats excused"));
            }
        }
        book.doubled = doubled;
        book.guilty.extend(guilty);
        drop(book);
        wrong.into_iter().for_each(|what| self.violated(what));
    }

    /// What is known of a part, for people.
    fn hops_of(&self, part: Part) -> String {
        let server = self.nats.server.borrow();
        let mut story = Vec::new();
        for stream in ["READY_B", "READY_T", "RETRY_1m", "RETRY_5m", "RETRY_15m", "RETRY_1h", "RETRY_4h", "DEAD"] {
            for stored in server.all(stream) {
                if let Some(Payload::Packet(packet)) = &stored.payload
                    && (packet.envelope.message, packet.envelope.part) == part
                {
                    story.push(format!("hop {} lies in {stream} as {}", packet.envelope.state.hop, stored.sequence));
                }
            }
        }
        for stored in server.all("EVENTS") {
            let Some(Payload::Events(records)) = &stored.payload else { continue };
            for record in records.iter().filter(|record| (record.id.message, record.id.part) == part) {
                story.push(format!("hop {} recorded in {}: {:?}", record.id.hop, stored.sequence, record.next));
            }
        }
        story.join(", ")
    }
}
