//! A pull consumer of a work queue: what is leased to somebody, what comes again, and who waits for more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use postrider_model::Timestamp;

use super::stream::Stream;
use super::{Acked, Inbox, Push, Token};

/// How a consumer is set: explicit acknowledgement, kept in memory, no end of deliveries.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Its name.
    pub name: String,
    /// The subjects it sees.
    pub filter: String,
    /// A message that is not acknowledged within this time comes again.
    pub ack_wait: Duration,
    /// No more than so many are unacknowledged.
    pub max_ack_pending: usize,
}

/// A message on its way to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<P> {
    /// To be used in its acknowledgement.
    pub token: Token,
    /// When the stream took it.
    pub stored: Timestamp,
    /// The payload.
    pub payload: P,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    /// The number of its first delivery since the last RESET.
    delivery: u64,
    comes_again: Timestamp,
}

#[derive(Clone, Debug)]
struct Waiting {
    inbox: Inbox,
    batch: usize,
    until: Timestamp,
    no_wait: bool,
    delivered: usize,
}

enum Choice {
    Message(u64),
    End,
    TooMuchUnacknowledged,
}

#[derive(Clone, Debug)]
pub(super) struct Consumer {
    config: ConsumerConfig,
    /// The first sequence that was never delivered.
    next: u64,
    /// Up to which sequence, and up to which delivery, everything is acknowledged: where a RESET goes back to.
    floor: (u64, u64),
    deliveries: u64,
    pending: BTreeMap<u64, Pending>,
    by_time: BTreeSet<(Timestamp, u64)>,
    delivered: BTreeMap<u64, u64>,
    again: VecDeque<u64>,
    waiting: VecDeque<Waiting>,
}

impl Consumer {
    pub(super) fn new(config: ConsumerConfig, first: u64) -> Self {
        Self {
            config,
            next: first,
            floor: (first.saturating_sub(1), 0),
            deliveries: 0,
            pending: BTreeMap::new(),
            by_time: BTreeSet::new(),
            delivered: BTreeMap::new(),
            again: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn pull<P: Clone>(
        &mut self,
        (inbox, batch): (Inbox, usize),
        expires: Duration,
        stream: &Stream<P>,
        now: Timestamp,
    ) -> Option<Push<P>> {
        let no_wait = expires.is_zero();
        if no_wait {
            let asked = self.waiting.iter().map(|waiting| waiting.batch).sum::<usize>();
            match self.there(stream, asked) {
                0 if self.there(stream, 1) == 0 => return Some(Push::Exhausted),
                there if there < asked => return Some(Push::TooMany),
                _ => {}
            }
        }
        let until = if no_wait { Timestamp::from_millis(u64::MAX) } else { now.after(expires) };
        self.waiting.push_back(Waiting { inbox, batch, until, no_wait, delivered: 0 });
        None
    }

    /// How many messages could be delivered, at most `most`: unless too much is unacknowledged.
    fn there<P: Clone>(&self, stream: &Stream<P>, most: usize) -> usize {
        let mut from = self.next;
        let mut found = self.again.len();
        while found < most {
            let Some(stored) = stream.next(&self.config.filter, from) else { break };
            from = stored.sequence + 1;
            found += 1;
        }
        found.min(most)
    }

    pub(super) fn undelivered<P: Clone>(&self, stream: &Stream<P>) -> usize {
        self.there(stream, usize::MAX) - self.again.len()
    }

    /// Gives to who waits what there is.
    pub(super) fn serve<P: Clone>(
        &mut self,
        stream: &mut Stream<P>,
        pushes: &mut Vec<(Inbox, Push<P>)>,
        now: Timestamp,
    ) {
        let mut at_end = false;
        while !self.waiting.is_empty() {
            let sequence = match self.choose(stream) {
                Choice::Message(sequence) => sequence,
                Choice::End => {
                    at_end = true;
                    break;
                }
                Choice::TooMuchUnacknowledged => break,
            };
            let (Some(stored), Some(mut waiting)) = (stream.get(sequence), self.waiting.pop_front()) else { break };
            if let Some(payload) = stored.payload.clone() {
                let stored = stored.at;
                let token = self.deliver(stream.name(), sequence, now);
                pushes.push((waiting.inbox, Push::Message(Delivery { token, stored, payload })));
            }
            waiting.batch -= 1;
            waiting.delivered += 1;
            if waiting.batch > 0 {
                // The next message is somebody else's turn.
                self.waiting.push_back(waiting);
            }
        }
        self.waiting.retain(|waiting| {
            let over = waiting.until <= now || (at_end && waiting.no_wait && waiting.delivered > 0);
            if over {
                pushes.push((waiting.inbox, Push::Exhausted));
            }
            !over
        });
    }

    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    fn deliver(&mut self, stream: &str, sequence: u64, now: Timestamp) -> Token {
        self.deliveries += 1;
        let delivered = self.delivered.entry(sequence).or_default();
        *delivered += 1;
        let token = Token {
            stream: stream.to_owned(),
            consumer: self.config.name.clone(),
            delivered: *delivered,
            sequence,
            delivery: self.deliveries,
        };
        // What is delivered again keeps the number of its first delivery in the books.
        let first = self.pending.get(&sequence).map_or(self.deliveries, |pending| pending.delivery);
        self.lease(sequence, first, now.after(self.config.ack_wait));
        token
    }

    /// What is to be delivered now: what comes again first, and regardless of how much is unacknowledged.
    fn choose<P: Clone>(&mut self, stream: &Stream<P>) -> Choice {
        while let Some(sequence) = self.again.pop_front() {
            if stream.get(sequence).is_some() {
                return Choice::Message(sequence);
            }
        }
        if self.pending.len() >= self.config.max_ack_pending {
            return Choice::TooMuchUnacknowledged;
        }
        let Some(stored) = stream.next(&self.config.filter, self.next) else {
            // It has looked at everything there is, which counts as delivered when acknowledgements are judged.
            self.next = self.next.max(stream.last_sequence() + 1);
            return Choice::End;
        };
        self.next = stored.sequence + 1;
        Choice::Message(stored.sequence)
    }

    fn lease(&mut self, sequence: u64, delivery: u64, comes_again: Timestamp) {
        self.release(sequence);
        self.pending.insert(sequence, Pending { delivery, comes_again });
        self.by_time.insert((comes_again, sequence));
    }

    fn release(&mut self, sequence: u64) {
        if let Some(pending) = self.pending.remove(&sequence) {
            self.by_time.remove(&(pending.comes_again, sequence));
        }
    }

    pub(super) fn ack<P: Clone>(&mut self, token: &Token, stream: &mut Stream<P>) -> Acked {
        let sequence = token.sequence;
        if sequence >= self.next {
            return Acked::Ignored;
        }
        // An acknowledgement may name an earlier delivery than the one that is pending.
        let delivery = self.pending.get(&sequence).map_or(token.delivery, |pending| pending.delivery);
        self.release(sequence);
        self.delivered.remove(&sequence);
        self.again.retain(|other| *other != sequence);
        if self.pending.is_empty() {
            self.floor = (self.next - 1, self.deliveries);
        } else if delivery == self.floor.1 + 1 {
            self.floor = (sequence, delivery);
            if let Some((first, pending)) = self.pending.range(sequence..self.next).next() {
                self.floor = (first - 1, pending.delivery - 1);
            }
        }
        if stream.is_work_queue() {
            stream.delete(sequence);
        }
        Acked::Confirmed
    }

    pub(super) fn nak(&mut self, token: &Token, delay: Duration, now: Timestamp) {
        let Some(pending) = self.pending.get(&token.sequence).copied() else { return };
        // A delivery of before a RESET, by its number, or one that is acknowledged.
        if token.delivery <= self.floor.1 || token.delivery > self.deliveries + 1 {
            return;
        }
        if delay.is_zero() {
            if !self.again.contains(&token.sequence) {
                self.again.push_back(token.sequence);
            }
        } else {
            self.lease(token.sequence, pending.delivery, now.after(delay));
        }
    }

    pub(super) fn in_progress(&mut self, token: &Token, now: Timestamp) {
        if let Some(pending) = self.pending.get(&token.sequence).copied() {
            self.lease(token.sequence, pending.delivery, now.after(self.config.ack_wait));
        }
    }

    pub(super) fn reset(&mut self) {
        self.next = self.floor.0 + 1;
        self.floor.1 = 0;
        self.deliveries = 0;
        self.pending.clear();
        self.by_time.clear();
        self.delivered.clear();
        self.again.clear();
    }

    /// Whether something is to be done.
    pub(super) fn pass(&mut self, now: Timestamp) -> bool {
        let mut due = self.waiting.iter().any(|waiting| waiting.until <= now);
        while let Some(&(at, sequence)) = self.by_time.first().filter(|(at, _)| *at <= now) {
            self.by_time.remove(&(at, sequence));
            if !self.again.contains(&sequence) {
                self.again.push_back(sequence);
            }
            due = true;
        }
        due
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let requests = self.waiting.iter().map(|waiting| waiting.until).min();
        let leases = self.by_time.first().map(|(at, _)| *at);
        requests.into_iter().chain(leases.filter(|_| !self.waiting.is_empty())).min()
    }

    pub(super) fn disconnect(&mut self, is_gone: &impl Fn(Inbox) -> bool) {
        self.waiting.retain(|waiting| !is_gone(waiting.inbox));
    }
}
