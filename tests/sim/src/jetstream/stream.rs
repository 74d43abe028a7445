//! A stream: messages by sequence, the ids it remembers, its bounds, and messages that vanish by themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use postrider_model::Timestamp;

use super::{PubAck, matches};

/// What ends a message's stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The bounds.
    Limits,
    /// Its acknowledgement.
    WorkQueue,
}

/// How a stream is set. All refuse what is new when they are full.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// What it listens to.
    pub subjects: Vec<String>,
    /// What ends a message's stay.
    pub retention: Retention,
    /// How long an id is remembered.
    pub duplicate_window: Duration,
    /// The bytes it may hold, as the server counts them.
    pub max_bytes: Option<u64>,
    /// How many messages of a subject it keeps: the last ones.
    pub max_per_subject: Option<usize>,
    /// Messages may have a time to live. One that ends a subject leaves a marker, which lives as long as this.
    pub markers_live: Option<Duration>,
}

/// A message to store.
#[derive(Clone, Debug)]
pub struct Publish<P> {
    /// Where it goes.
    pub subject: String,
    /// `Nats-Msg-Id`.
    pub id: Option<String>,
    /// `Nats-Expected-Last-Subject-Sequence`.
    pub expected: Option<u64>,
    /// `Nats-TTL`.
    pub ttl: Option<Duration>,
    /// Bytes of the headers as they are sent; 0 without headers.
    pub header_bytes: u64,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// The payload.
    pub payload: P,
}

impl<P> Publish<P> {
    /// A message with an id.
    pub fn new(subject: impl Into<String>, id: impl Into<String>, payload: P) -> Self {
        let (subject, id) = (subject.into(), Some(id.into()));
        Self { subject, id, expected: None, ttl: None, header_bytes: 0, payload_bytes: 0, payload }
    }
}

/// Why a message is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No stream listens to its subject.
    NoStream,
    /// The stream is full (10077).
    Full,
    /// The last message of its subject has this sequence (10071).
    WrongLastSequence(u64),
}

/// A message in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<P> {
    /// Where.
    pub sequence: u64,
    /// When the stream took it.
    pub at: Timestamp,
    /// Its subject.
    pub subject: String,
    /// The payload; `None` is a marker that the server made when a message vanished.
    pub payload: Option<P>,
    id: Option<String>,
    bytes: u64,
    ends: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(super) struct Stream<P> {
    config: StreamConfig,
    messages: BTreeMap<u64, Stored<P>>,
    by_subject: HashMap<String, BTreeSet<u64>>,
    last: u64,
    bytes: u64,
    ids: HashMap<String, u64>,
    remembered: VecDeque<(Timestamp, String)>,
    ends: BTreeSet<(Timestamp, u64)>,
}

impl<P: Clone> Stream<P> {
    pub(super) fn new(config: StreamConfig) -> Self {
        Self {
            config,
            messages: BTreeMap::new(),
            by_subject: HashMap::new(),
            last: 0,
            bytes: 0,
            ids: HashMap::new(),
            remembered: VecDeque::new(),
            ends: BTreeSet::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn takes(&self, subject: &str) -> bool {
        self.config.subjects.iter().any(|filter| matches(filter, subject))
    }

    pub(super) fn publish(&mut self, message: Publish<P>, now: Timestamp) -> Result<PubAck, Refusal> {
        self.forget_ids(now);
        // A known id is answered before anything else is looked at.
        if let Some(&sequence) = message.id.as_ref().and_then(|id| self.ids.get(id)) {
            return Ok(PubAck { sequence, duplicate: true });
        }
        if let Some(expected) = message.expected {
            let last = self.last(&message.subject).map_or(0, |stored| stored.sequence);
            if last != expected {
                return Err(Refusal::WrongLastSequence(last));
            }
        }
        let headers = if message.header_bytes > 0 { message.header_bytes + 4 } else { 0 };
        let subject_bytes = u64::try_from(message.subject.len()).unwrap_or(u64::MAX);
        let bytes = 22 + subject_bytes + headers + message.payload_bytes + 8;
        if self.config.max_bytes.is_some_and(|most| self.bytes + bytes > most) {
            return Err(Refusal::Full);
        }
        let Publish { subject, id, ttl, payload, .. } = message;
        let ends = ttl.map(|ttl| now.after(ttl));
        if let Some(id) = &id {
            self.ids.insert(id.clone(), self.last + 1);
            self.remembered.push_back((now, id.clone()));
        }
        let sequence = self.store(subject, id, Some(payload), bytes, ends, now);
        Ok(PubAck { sequence, duplicate: false })
    }

    fn store(
        &mut self,
        subject: String,
        id: Option<String>,
        payload: Option<P>,
        bytes: u64,
        ends: Option<Timestamp>,
        now: Timestamp,
    ) -> u64 {
        self.last += 1;
        let sequence = self.last;
        self.bytes += bytes;
        self.ends.extend(ends.map(|at| (at, sequence)));
        let same = self.by_subject.entry(subject.clone()).or_default();
        same.insert(sequence);
        let surplus = self.config.max_per_subject.filter(|most| same.len() > *most).and(same.first().copied());
        self.messages.insert(sequence, Stored { sequence, at: now, subject, payload, id, bytes, ends });
        if let Some(oldest) = surplus {
            self.delete(oldest);
        }
        sequence
    }

    fn forget_ids(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.remembered.front()
            && now.since(*at) >= self.config.duplicate_window
        {
            if let Some((_, id)) = self.remembered.pop_front() {
                self.ids.remove(&id);
            }
        }
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Stored<P>> {
        self.messages.get(&sequence)
    }

    pub(super) fn last(&self, subject: &str) -> Option<&Stored<P>> {
        self.by_subject.get(subject).and_then(|same| same.last()).and_then(|sequence| self.messages.get(sequence))
    }

    pub(super) fn next(&self, filter: &str, from: u64) -> Option<&Stored<P>> {
        self.messages.range(from..).map(|(_, stored)| stored).find(|stored| matches(filter, &stored.subject))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Stored<P>> {
        self.messages.values()
    }

    pub(super) fn fullness(&self) -> u64 {
        self.config.max_bytes.map_or(0, |most| self.bytes * 1_000 / most.max(1))
    }

    /// Where a new consumer begins.
    pub(super) fn first_sequence(&self) -> u64 {
        self.messages.keys().next().copied().unwrap_or(self.last + 1)
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.last
    }

    pub(super) fn delete(&mut self, sequence: u64) -> bool {
        let Some(gone) = self.messages.remove(&sequence) else { return false };
        self.bytes -= gone.bytes;
        if let Some(same) = self.by_subject.get_mut(&gone.subject) {
            same.remove(&sequence);
            if same.is_empty() {
                self.by_subject.remove(&gone.subject);
            }
        }
        if let Some(at) = gone.ends {
            self.ends.remove(&(at, sequence));
        }
        true
    }

    pub(super) fn is_work_queue(&self) -> bool {
        self.config.retention == Retention::WorkQueue
    }

    /// What has outlived its time vanishes; the last message of a subject leaves a marker.
    pub(super) fn pass(&mut self, now: Timestamp) {
        while let Some(&(at, sequence)) = self.ends.first().filter(|(at, _)| *at <= now) {
            let Some(gone) = self.messages.get(&sequence).cloned() else {
                self.ends.remove(&(at, sequence));
                continue;
            };
            self.delete(sequence);
            let is_last = !self.by_subject.contains_key(&gone.subject);
            if let Some(life) = self.config.markers_live.filter(|_| is_last && gone.payload.is_some()) {
                self.store(gone.subject, None, None, 0, Some(at.after(life)), at);
            }
        }
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// The ids are read from what is there.
    pub(super) fn restart(&mut self, now: Timestamp) {
        self.ids.clear();
        self.remembered.clear();
        for stored in self.messages.values() {
            if let Some(id) = stored.id.clone().filter(|_| now.since(stored.at) < self.config.duplicate_window) {
                self.ids.insert(id.clone(), stored.sequence);
                self.remembered.push_back((stored.at, id));
            }
        }
    }
}
