//! The model of JetStream that the simulation of the machines runs on, held against a real server: the same random calls to both,
//! every answer compared, and everything the server sends by itself. `POSTRIDER_SIM_SEED=n` repeats one sequence,
//! `POSTRIDER_SIM_SEEDS=n` runs so many.

#[path = "model/calls.rs"]
mod calls;
#[path = "model/real.rs"]
mod real;

use std::time::Duration;

use postrider_dispatch::retry::Dice;
use postrider_model::Timestamp;
use postrider_sim::jetstream::{ConsumerConfig, JetStream, Publish, Retention, StreamConfig, Token};

use calls::{Answer, Call, Seen};
use real::Real;

/// Calls in a sequence.
const CALLS: usize = 150;

fn stream(name: &str, subject: &str, retention: Retention) -> StreamConfig {
    StreamConfig {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        retention,
        duplicate_window: Duration::from_secs(60),
        max_bytes: None,
        max_per_subject: None,
        markers_live: None,
    }
}

fn streams() -> [StreamConfig; 3] {
    [
        StreamConfig { max_bytes: Some(2_000), ..stream("WORK", "work.>", Retention::WorkQueue) },
        StreamConfig { max_per_subject: Some(1), ..stream("KV", "kv.>", Retention::Limits) },
        stream("LOG", "log.>", Retention::Limits),
    ]
}

fn consumer(number: u64) -> ConsumerConfig {
    ConsumerConfig {
        name: format!("c{number}"),
        filter: format!("work.{number}.>"),
        ack_wait: Duration::from_secs(1_200),
        max_ack_pending: 6,
    }
}

/// Both, and what is common knowledge.
struct Pair {
    model: JetStream<String>,
    real: Real,
    dice: Dice,
    tokens: Vec<Token>,
    inboxes: u64,
    published: u64,
    /// The server's time, as far as the model is concerned: nothing runs out within a sequence.
    now: Timestamp,
}

impl Pair {
    async fn start(seed: u64) -> Self {
        let (mut model, real) = (JetStream::new(), Real::start(&streams()).await);
        streams().into_iter().for_each(|config| model.create_stream(config));
        let now = Timestamp::from_millis(1_000_000);
        let mut pair = Self { model, real, dice: Dice::new(seed), tokens: Vec::new(), inboxes: 0, published: 0, now };
        for number in 0..2 {
            pair.call(Call::CreateConsumer(consumer(number))).await.unwrap();
        }
        pair
    }

    fn below(&mut self, end: u64) -> u64 {
        self.dice.roll() % end
    }

    fn message(&mut self, subject: String, ids: u64) -> Publish<String> {
        self.published += 1;
        let (id, padding) = (self.below(ids), usize::try_from(self.below(120)).unwrap());
        let payload = format!("{}{}", self.published, "x".repeat(padding));
        let mut message = Publish::new(subject, format!("id{id}"), payload.clone());
        message.payload_bytes = u64::try_from(payload.len()).unwrap();
        message
    }

    fn next_call(&mut self) -> Call {
        let number = self.below(2);
        match self.below(100) {
            0..30 => {
                let site = self.below(3);
                Call::Publish(self.message(format!("work.{number}.s{site}"), 40))
            }
            30..38 => {
                let key = self.below(3);
                let known = self.model.last("KV", &format!("kv.{key}"), self.now).map_or(0, |stored| stored.sequence);
                let (other, whatever) = (self.below(12), self.below(4));
                let mut message = self.message(format!("kv.{key}"), 1);
                message.id = None;
                message.expected = match whatever {
                    0 => None,
                    1 => Some(other),
                    _ => Some(known),
                };
                Call::Publish(message)
            }
            38..42 => Call::Publish(self.message("log.a".to_owned(), 20)),
            42..60 => {
                self.inboxes += 1;
                let batch = usize::try_from(self.below(4) + 1).unwrap();
                let expires = Duration::from_secs(if self.below(3) == 0 { 600 } else { 0 });
                Call::Pull {
                    stream: "WORK".into(),
                    consumer: format!("c{number}"),
                    inbox: self.inboxes,
                    batch,
                    expires,
                }
            }
            60..80 if !self.tokens.is_empty() => {
                // Late ones and doubled ones as well, but fresh ones more often.
                let count = u64::try_from(self.tokens.len()).unwrap();
                let back = self.below(count).min(self.below(count));
                let token = self.tokens[usize::try_from(count - 1 - back).unwrap()].clone();
                match self.below(10) {
                    0..6 => Call::Ack(token),
                    6..9 => Call::Nak(token),
                    _ => Call::InProgress(token),
                }
            }
            // The server does not answer at all where there is no such consumer.
            80..84 if self.model.has_consumer("WORK", &format!("c{number}")) => {
                Call::Reset { stream: "WORK".into(), consumer: format!("c{number}") }
            }
            84..88 => Call::Get { stream: "WORK".into(), sequence: self.below(20) + 1 },
            88..91 => Call::Delete { stream: "LOG".into(), sequence: self.below(20) + 1 },
            91..94 => Call::Last { stream: "KV".into(), subject: format!("kv.{}", self.below(3)) },
            94..97 => {
                Call::Next { stream: "WORK".into(), filter: format!("work.{number}.>"), from: self.below(20) + 1 }
            }
            99 => Call::Restart,
            _ => Call::CreateConsumer(consumer(number)),
        }
    }

    /// The same call to both; the difference, if there is one.
    async fn call(&mut self, call: Call) -> Result<(), String> {
        self.now = self.now.after(Duration::from_millis(1));
        if let Call::Pull { consumer, .. } = &call
            && self.model.has_consumer("WORK", consumer)
        {
            // The server tells its consumers of a new message a moment after its PubAck.
            self.real.has_told(consumer, self.model.undelivered("WORK", consumer)).await;
        }
        let expected = calls::ask_model(&mut self.model, &call, self.now);
        let found = match &expected {
            Answer::Silence => self.real.expect_silence(&call).await,
            _ => self.real.ask(&call).await,
        };
        if expected != found {
            return Err(format!("the model answers {expected:?}, the server {found:?}"));
        }
        if matches!(call, Call::Restart) {
            self.real.forget_inboxes();
        }
        for (inbox, push) in self.model.take_pushes() {
            let expected = calls::seen(&push);
            let found = self.real.next_push(inbox).await;
            if found.as_ref() != Some(&expected) {
                return Err(format!("inbox {inbox}: the model sends {expected:?}, the server {found:?}"));
            }
            if let Seen::Message { token, .. } = expected {
                self.tokens.push(token);
            }
        }
        Ok(())
    }
}

async fn run(seed: u64) -> Result<(), String> {
    let mut pair = Pair::start(seed).await;
    let mut trace = Vec::new();
    for number in 0..CALLS {
        let call = pair.next_call();
        trace.push(format!("{number}: {call:?}"));
        if let Err(difference) = pair.call(call).await {
            let recent = trace.split_off(trace.len().saturating_sub(25)).join("\n");
            return Err(format!("seed {seed}: {difference}\nafter\n{recent}"));
        }
    }
    let more = pair.real.more_pushes().await;
    if !more.is_empty() {
        return Err(format!("seed {seed}: the server sent more than the model: {more:?}"));
    }
    pair.real.contents(&pair.model).await.map_err(|difference| format!("seed {seed}, at the end: {difference}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[tokio::test]
async fn every_answer_of_the_model_is_the_servers() {
    let seeds = match number("POSTRIDER_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("POSTRIDER_SIM_SEEDS").unwrap_or(8),
    };
    for seed in seeds {
        if let Err(difference) = run(seed).await {
            panic!("{difference}\nPOSTRIDER_SIM_SEED={seed} repeats it");
        }
    }
}
