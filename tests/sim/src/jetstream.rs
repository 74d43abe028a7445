//! A model of one nats-server with JetStream, as far as the queue uses it: streams, work queues with pull consumers, repeats of
//! ids, key-value writes with revisions and a time to live, and what a restart forgets. Pure: calls and the time go in, answers come
//! out. `services/io/nats/tests` holds it against a real server, call by call.

mod consumer;
pub use consumer::{ConsumerConfig, Delivery};

mod stream;
pub use stream::{Publish, Refusal, Retention, Stored, StreamConfig};

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::Timestamp;

use consumer::Consumer;
use stream::Stream;

/// What a publish is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// Where the message is.
    pub sequence: u64,
    /// Its id was known: it is the message that bore the id first.
    pub duplicate: bool,
}

/// Names a pull request: the subject its answers go to.
pub type Inbox = u64;

/// What the server sends to an inbox by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push<P> {
    /// A message of a work queue.
    Message(Delivery<P>),
    /// The request is over, because its time is: there was no more. (`408 Request Timeout`, `404 No Messages`.)
    Exhausted,
    /// The request is refused, because more was asked for before than there is. (`408 Requests Pending`.)
    TooMany,
}

/// Names one delivery of one message; travels in the reply subject of the message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// The stream.
    pub stream: String,
    /// The consumer.
    pub consumer: String,
    /// How often the message was delivered, this time included.
    pub delivered: u64,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its number among the deliveries of the consumer.
    pub delivery: u64,
}

/// What an acknowledgement is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// It is confirmed.
    Confirmed,
    /// Nothing is said, and nothing done.
    Ignored,
}

/// Nobody listens: no such consumer, or no such stream (`503 No Responders`, or an error of the API).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NobodyThere;

/// The server.
#[derive(Clone, Debug)]
pub struct JetStream<P> {
    streams: BTreeMap<String, (Stream<P>, BTreeMap<String, Consumer>)>,
    pushes: Vec<(Inbox, Push<P>)>,
}

impl<P> Default for JetStream<P> {
    fn default() -> Self {
        Self { streams: BTreeMap::new(), pushes: Vec::new() }
    }
}

impl<P: Clone> JetStream<P> {
    /// A server without streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a stream.
    pub fn create_stream(&mut self, config: StreamConfig) {
        self.streams.insert(config.name.clone(), (Stream::new(config), BTreeMap::new()));
    }

    /// Makes a consumer, unless it is there.
    ///
    /// # Errors
    /// If there is no such stream.
    pub fn create_consumer(&mut self, stream: &str, config: ConsumerConfig) -> Result<(), NobodyThere> {
        let (stream, consumers) = self.streams.get_mut(stream).ok_or(NobodyThere)?;
        consumers.entry(config.name.clone()).or_insert_with(|| Consumer::new(config, stream.first_sequence()));
        Ok(())
    }

    /// Stores a message in the stream that listens to its subject.
    ///
    /// # Errors
    /// As the server refuses it; nothing is stored then.
    pub fn publish(&mut self, message: Publish<P>, now: Timestamp) -> Result<PubAck, Refusal> {
        self.pass(now);
        let found = self.streams.values_mut().find(|(stream, _)| stream.takes(&message.subject));
        let (stream, consumers) = found.ok_or(Refusal::NoStream)?;
        let ack = stream.publish(message, now)?;
        serve(stream, consumers, &mut self.pushes, now);
        Ok(ack)
    }

    /// Asks for messages; they come out of [`Self::take_pushes`] as soon as they are there. A request without a time is for
    /// what is there; but where too much is unacknowledged it waits too, for ever.
    ///
    /// # Errors
    /// If there is no such consumer.
    pub fn pull(
        &mut self,
        stream: &str,
        consumer: &str,
        (inbox, batch): (Inbox, usize),
        expires: Duration,
        now: Timestamp,
    ) -> Result<(), NobodyThere> {
        self.pass(now);
        let (messages, consumers) = self.streams.get_mut(stream).ok_or(NobodyThere)?;
        let found = consumers.get_mut(consumer).ok_or(NobodyThere)?;
        let refused = found.pull((inbox, batch), expires, messages, now);
        self.pushes.extend(refused.map(|push| (inbox, push)));
        serve(messages, consumers, &mut self.pushes, now);
        Ok(())
    }

    /// Ends a message's stay, and says so. Whoever delivered it does not matter, nor whether it was since delivered to another;
    /// but what the consumer has not delivered since its RESET is left as it is.
    ///
    /// # Errors
    /// If the consumer is gone: nobody answers.
    pub fn ack(&mut self, token: &Token, now: Timestamp) -> Result<Acked, NobodyThere> {
        self.about(token, now, |stream, consumer| consumer.ack(token, stream))
    }

    /// Hands a message back, for at least `delay`.
    ///
    /// # Errors
    /// If the consumer is gone.
    pub fn nak(&mut self, token: &Token, delay: Duration, now: Timestamp) -> Result<(), NobodyThere> {
        self.about(token, now, |_, consumer| consumer.nak(token, delay, now))
    }

    /// Begins the ack wait of a message anew.
    ///
    /// # Errors
    /// If the consumer is gone.
    pub fn in_progress(&mut self, token: &Token, now: Timestamp) -> Result<(), NobodyThere> {
        self.about(token, now, |_, consumer| consumer.in_progress(token, now))
    }

    /// Whether there is such a consumer.
    pub fn has_consumer(&self, stream: &str, consumer: &str) -> bool {
        self.streams.get(stream).is_some_and(|(_, consumers)| consumers.contains_key(consumer))
    }

    /// How many messages a consumer has not delivered yet, what comes again aside.
    pub fn undelivered(&self, stream: &str, consumer: &str) -> usize {
        let Some((stream, consumers)) = self.streams.get(stream) else { return 0 };
        consumers.get(consumer).map_or(0, |consumer| consumer.undelivered(stream))
    }

    /// How many deliveries a consumer has made since its RESET.
    ///
    /// # Errors
    /// If there is no such consumer.
    pub fn delivered(&self, stream: &str, consumer: &str) -> Result<u64, NobodyThere> {
        let found = self.streams.get(stream).and_then(|(_, consumers)| consumers.get(consumer));
        found.map(Consumer::deliveries).ok_or(NobodyThere)
    }

    /// Makes all unacknowledged messages come again.
    ///
    /// # Errors
    /// If there is no such consumer: the server does not answer then.
    pub fn reset(&mut self, stream: &str, consumer: &str, now: Timestamp) -> Result<(), NobodyThere> {
        self.pass(now);
        let (messages, consumers) = self.streams.get_mut(stream).ok_or(NobodyThere)?;
        consumers.get_mut(consumer).ok_or(NobodyThere)?.reset();
        serve(messages, consumers, &mut self.pushes, now);
        Ok(())
    }

    fn about<T>(
        &mut self,
        token: &Token,
        now: Timestamp,
        act: impl FnOnce(&mut Stream<P>, &mut Consumer) -> T,
    ) -> Result<T, NobodyThere> {
        self.pass(now);
        let (stream, consumers) = self.streams.get_mut(&token.stream).ok_or(NobodyThere)?;
        let answer = act(stream, consumers.get_mut(&token.consumer).ok_or(NobodyThere)?);
        serve(stream, consumers, &mut self.pushes, now);
        Ok(answer)
    }

    /// One message.
    pub fn get(&mut self, stream: &str, sequence: u64, now: Timestamp) -> Option<&Stored<P>> {
        self.pass(now);
        self.streams.get(stream).and_then(|(stream, _)| stream.get(sequence))
    }

    /// The last message on a subject.
    pub fn last(&mut self, stream: &str, subject: &str, now: Timestamp) -> Option<&Stored<P>> {
        self.pass(now);
        self.streams.get(stream).and_then(|(stream, _)| stream.last(subject))
    }

    /// The first message from a sequence on whose subject matches.
    pub fn next(&mut self, stream: &str, filter: &str, from: u64, now: Timestamp) -> Option<&Stored<P>> {
        self.pass(now);
        self.streams.get(stream).and_then(|(stream, _)| stream.next(filter, from))
    }

    /// Everything in a stream.
    pub fn all(&self, stream: &str) -> impl Iterator<Item = &Stored<P>> {
        self.streams.get(stream).into_iter().flat_map(|(stream, _)| stream.all())
    }

    /// How full the fullest stream of these with a bound is, in thousandths.
    pub fn fullness(&self, which: impl Fn(&str) -> bool) -> u64 {
        let these = self.streams.values().filter(|(stream, _)| which(stream.name()));
        these.map(|(stream, _)| stream.fullness()).max().unwrap_or(0)
    }

    /// The sequence of the last message that a stream ever had.
    pub fn last_sequence(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |(stream, _)| stream.last_sequence())
    }

    /// Deletes one message of a stream without consumers; whether it was there.
    pub fn delete(&mut self, stream: &str, sequence: u64, now: Timestamp) -> bool {
        self.pass(now);
        self.streams.get_mut(stream).is_some_and(|(stream, _)| stream.delete(sequence))
    }

    /// The server dies and comes back with its store: consumers in memory are gone, requests too, and of the ids only
    /// those of messages that are still there are known.
    pub fn restart(&mut self, now: Timestamp) {
        self.pushes.clear();
        for (stream, consumers) in self.streams.values_mut() {
            consumers.clear();
            stream.restart(now);
        }
    }

    /// Whoever listened to these inboxes is gone.
    pub fn disconnect(&mut self, is_gone: impl Fn(Inbox) -> bool) {
        for consumer in self.streams.values_mut().flat_map(|(_, consumers)| consumers.values_mut()) {
            consumer.disconnect(&is_gone);
        }
        self.pushes.retain(|(inbox, _)| !is_gone(*inbox));
    }

    /// Does what the time has come for: requests end, unacknowledged messages come again, old ones vanish.
    pub fn pass(&mut self, now: Timestamp) {
        for (stream, consumers) in self.streams.values_mut() {
            stream.pass(now);
            let mut due = false;
            for consumer in consumers.values_mut() {
                due |= consumer.pass(now);
            }
            if due {
                serve(stream, consumers, &mut self.pushes, now);
            }
        }
    }

    /// When something happens next without a call.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let consumers = self.streams.values().flat_map(|(_, consumers)| consumers.values());
        let streams = self.streams.values().filter_map(|(stream, _)| stream.wake_at());
        consumers.filter_map(Consumer::wake_at).chain(streams).min()
    }

    /// What the server sent since this was last asked.
    pub fn take_pushes(&mut self) -> Vec<(Inbox, Push<P>)> {
        std::mem::take(&mut self.pushes)
    }
}

fn serve<P: Clone>(
    stream: &mut Stream<P>,
    consumers: &mut BTreeMap<String, Consumer>,
    pushes: &mut Vec<(Inbox, Push<P>)>,
    now: Timestamp,
) {
    for consumer in consumers.values_mut() {
        consumer.serve(stream, pushes, now);
    }
}

/// Whether a subject matches a filter: `*` is one token, `>` the rest of them.
fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_whole_tokens() {
        for (filter, subject, expected) in [
            ("ready.b00.>", "ready.b00.site.acme", true),
            ("ready.b00.>", "ready.b00", false),
            ("ready.b00.>", "ready.b01.site", false),
            ("retry.*.b.>", "retry.1m.b.b00", true),
            ("retry.*.b.>", "retry.1m.t.t00", false),
            ("intake", "intake", true),
            ("intake", "intake.x", false),
        ] {
            assert_eq!(matches(filter, subject), expected, "{filter} {subject}");
        }
    }
}
