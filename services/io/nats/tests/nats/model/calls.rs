//! The calls, what the model answers to them, and answers in a form in which both can be compared.

use std::time::Duration;

use postrider_model::Timestamp;
use postrider_sim::jetstream::{Acked, ConsumerConfig, JetStream, NobodyThere, Publish, Push, Refusal, Stored, Token};

/// One call.
#[derive(Clone, Debug)]
pub enum Call {
    CreateConsumer(ConsumerConfig),
    Publish(Publish<String>),
    Pull { stream: String, consumer: String, inbox: u64, batch: usize, expires: Duration },
    Ack(Token),
    Nak(Token),
    InProgress(Token),
    Reset { stream: String, consumer: String },
    Get { stream: String, sequence: u64 },
    Delete { stream: String, sequence: u64 },
    Last { stream: String, subject: String },
    Next { stream: String, filter: String, from: u64 },
    Restart,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    NobodyThere,
    Silence,
    Stored { sequence: u64, duplicate: bool },
    Refused(Refusal),
    Message { sequence: u64, subject: String, payload: Option<String> },
    Nothing,
}

/// What the server sends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Message { token: Token, payload: String },
    Exhausted,
    TooMany,
}

pub fn seen(push: &Push<String>) -> Seen {
    match push {
        Push::Message(delivery) => Seen::Message { token: delivery.token.clone(), payload: delivery.payload.clone() },
        Push::Exhausted => Seen::Exhausted,
        Push::TooMany => Seen::TooMany,
    }
}

pub fn ask_model(model: &mut JetStream<String>, call: &Call, now: Timestamp) -> Answer {
    let done = |result: Result<(), _>| result.map_or(Answer::NobodyThere, |()| Answer::Done);
    match call {
        Call::CreateConsumer(config) => done(model.create_consumer("WORK", config.clone())),
        Call::Publish(message) => {
            let mut message = message.clone();
            message.header_bytes = header_bytes(&message);
            match model.publish(message, now) {
                Ok(ack) => Answer::Stored { sequence: ack.sequence, duplicate: ack.duplicate },
                Err(refusal) => Answer::Refused(refusal),
            }
        }
        Call::Pull { stream, consumer, inbox, batch, expires } => {
            done(model.pull(stream, consumer, (*inbox, *batch), *expires, now))
        }
        Call::Ack(token) => match model.ack(token, now) {
            Ok(Acked::Confirmed) => Answer::Done,
            Ok(Acked::Ignored) => Answer::Silence,
            Err(NobodyThere) => Answer::NobodyThere,
        },
        Call::Nak(token) => done(model.nak(token, Duration::ZERO, now)),
        Call::InProgress(token) => done(model.in_progress(token, now)),
        Call::Reset { stream, consumer } => done(model.reset(stream, consumer, now)),
        Call::Get { stream, sequence } => message(model.get(stream, *sequence, now)),
        Call::Delete { stream, sequence } => match model.delete(stream, *sequence, now) {
            true => Answer::Done,
            false => Answer::Nothing,
        },
        Call::Last { stream, subject } => message(model.last(stream, subject, now)),
        Call::Next { stream, filter, from } => message(model.next(stream, filter, *from, now)),
        Call::Restart => {
            model.restart(now);
            Answer::Done
        }
    }
}

pub fn message(stored: Option<&Stored<String>>) -> Answer {
    stored.map_or(Answer::Nothing, |stored| Answer::Message {
        sequence: stored.sequence,
        subject: stored.subject.clone(),
        payload: stored.payload.clone(),
    })
}

/// The headers as the client writes them.
fn header_bytes(message: &Publish<String>) -> u64 {
    let id = message.id.as_ref().map(|id| format!("Nats-Msg-Id: {id}\r\n"));
    let expected = message.expected.map(|n| format!("Nats-Expected-Last-Subject-Sequence: {n}\r\n"));
    let lines = [id, expected].into_iter().flatten().collect::<String>();
    match lines.len() {
        0 => 0,
        length => u64::try_from("NATS/1.0\r\n".len() + length + "\r\n".len()).unwrap(),
    }
}
