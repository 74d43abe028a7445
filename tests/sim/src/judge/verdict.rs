//! The whole story, looked at in its end: who was promised what, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use postrider_model::{EnvelopeId, Outcome, Timestamp};

use super::{Judge, Part};
use crate::nats::Payload;

impl Judge {
    /// Whether every recipient of every accepted part has its end, and nothing is under way.
    pub fn is_over(&self) -> bool {
        self.missing().is_empty()
    }

    fn ends_of(&self) -> BTreeMap<(Part, u32), Vec<Outcome>> {
        let mut ends: BTreeMap<(Part, u32), Vec<Outcome>> = BTreeMap::new();
        let mut flushes = BTreeSet::new();
        for stored in self.nats.server.borrow().all("EVENTS") {
            let Some(Payload::Events(records)) = &stored.payload else { continue };
            // One that was stored twice, because the server had forgotten its id when it was sent again, is still one.
            if !flushes.insert(Rc::as_ptr(records)) {
                continue;
            }
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
        let accepted = book.parts.iter().filter(|(_, offered)| offered.accepted);
        let all =
            accepted.flat_map(|(part, offered)| offered.envelope.state.pending.iter().map(|index| (*part, *index)));
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
        let ordered = |outcome| -> BTreeSet<Part> {
            ends.keys().map(|(part, _)| *part).filter(|part| self.is_ordered(*part, outcome)).collect()
        };
        let (deleted, bounced) = (ordered(Outcome::Deleted), ordered(Outcome::Bounced));
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
            let refused = book.refused.contains(&(*part, *index));
            if outcomes.contains(&Outcome::Bounced) && !refused && !bounced.contains(part) {
                wrong.push(format!("invariant 7: {name} bounced, and nobody refused it"));
            }
            if outcomes.contains(&Outcome::Deleted) && !deleted.contains(part) {
                wrong.push(format!("{name} was deleted, and nobody ordered it"));
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
        for stream in
            ["READY_B", "READY_T", "RETRY_1m", "RETRY_5m", "RETRY_15m", "RETRY_1h", "RETRY_4h", "HOLD", "DEAD"]
        {
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

    /// Copies that were made twice because the server had forgotten the id of the first: each may double its part once more.
    fn copied_twice(&self) -> Vec<Part> {
        let mut last: BTreeMap<(String, EnvelopeId), Timestamp> = BTreeMap::new();
        let mut twice = Vec::new();
        for (at, stream, id) in self.nats.stored() {
            let Some(before) = last.insert((stream.clone(), id), at) else { continue };
            let forgot = at.since(before) >= self.repeats || self.nats.restarted_between(before, at);
            match forgot {
                true => twice.push((id.message, id.part)),
                false => self.violated(format!("invariant 2: {id} came to {stream} twice, under two ids")),
            }
        }
        twice
    }
}
