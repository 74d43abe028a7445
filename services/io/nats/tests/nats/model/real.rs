//! The real server, asked call by call through a bare client.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Message, StatusCode, Subscriber};
use base64::Engine;
use futures_util::stream::Peekable;
use futures_util::{FutureExt, StreamExt};
use postrider_sim::jetstream::{ConsumerConfig, JetStream, Publish, Refusal, Retention, StreamConfig, Token};
use serde_json::{Value, json};

use super::calls::{Answer, Call, Seen, message};
use crate::server::{PATIENCE, Server, eventually};

pub struct Real {
    server: Server,
    client: Client,
    /// One subscription each: a message bears the subject of its stream, not that of the request.
    inboxes: BTreeMap<u64, Peekable<Subscriber>>,
}

impl Real {
    pub async fn start(streams: &[StreamConfig]) -> Self {
        let server = Server::start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let real = Self { server, client, inboxes: BTreeMap::new() };
        for stream in streams {
            let answer = real.api(&format!("STREAM.CREATE.{}", stream.name), &wire(stream)).await.unwrap();
            assert!(answer.get("error").is_none(), "{answer}");
        }
        real
    }

    async fn request(&self, subject: String, headers: HeaderMap, payload: Vec<u8>) -> Option<Message> {
        let asked = self.client.request_with_headers(subject.clone(), headers, payload.into());
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(message)) => Some(message),
            Ok(Err(error)) => {
                assert!(error.to_string().contains("no responders"), "{subject}: {error}");
                None
            }
            Err(_) => panic!("no answer to {subject}"),
        }
    }

    async fn api(&self, call: &str, payload: &Value) -> Option<Value> {
        let answer = self.request(format!("$JS.API.{call}"), HeaderMap::new(), payload.to_string().into()).await?;
        Some(serde_json::from_slice(&answer.payload).unwrap())
    }

    pub async fn ask(&mut self, call: &Call) -> Answer {
        match call {
            Call::CreateConsumer(config) => {
                let call = format!("CONSUMER.CREATE.WORK.{}.{}", config.name, config.filter);
                done(self.api(&call, &wire_consumer(config)).await)
            }
            Call::Publish(message) => self.publish(message).await,
            Call::Pull { stream, consumer, inbox, batch, expires } => {
                let mut request = json!({ "batch": batch });
                match expires.is_zero() {
                    true => request["no_wait"] = true.into(),
                    false => request["expires"] = u64::try_from(expires.as_nanos()).unwrap().into(),
                }
                self.pull(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"), *inbox, &request).await
            }
            Call::Ack(token) => self.acknowledge(token, "+ACK").await,
            Call::Nak(token) => self.acknowledge(token, "-NAK").await,
            Call::InProgress(token) => self.acknowledge(token, "+WPI").await,
            Call::Reset { stream, consumer } => {
                done(self.api(&format!("CONSUMER.RESET.{stream}.{consumer}"), &json!({})).await)
            }
            Call::Get { stream, sequence } => self.look(stream, &json!({ "seq": sequence })).await,
            Call::Delete { stream, sequence } => {
                let request = json!({ "seq": sequence, "no_erase": true });
                let answer = self.api(&format!("STREAM.MSG.DELETE.{stream}"), &request).await.unwrap();
                if answer.get("error").is_some() { Answer::Nothing } else { Answer::Done }
            }
            Call::Last { stream, subject } => self.look(stream, &json!({ "last_by_subj": subject })).await,
            Call::Next { stream, filter, from } => {
                self.look(stream, &json!({ "next_by_subj": filter, "seq": from })).await
            }
            Call::Restart => {
                self.server.kill();
                self.server.start_again();
                eventually("a connection", async || {
                    let connection = async_nats::connect(self.server.url()).await.ok()?;
                    connection.flush().await.ok()
                })
                .await;
                self.client = async_nats::connect(self.server.url()).await.unwrap();
                eventually("the streams", async || {
                    let answer = self.api("STREAM.INFO.LOG", &json!({})).await?;
                    answer.get("error").is_none().then_some(())
                })
                .await;
                Answer::Done
            }
        }
    }

    async fn publish(&self, message: &Publish<String>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(id) = &message.id {
            headers.insert("Nats-Msg-Id", id.as_str());
        }
        if let Some(expected) = message.expected {
            headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        }
        let answer = self.request(message.subject.clone(), headers, message.payload.clone().into()).await;
        let Some(answer) = answer else { return Answer::Refused(Refusal::NoStream) };
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        let Some(error) = answer.get("error") else {
            let duplicate = answer["duplicate"].as_bool().unwrap_or(false);
            return Answer::Stored { sequence: answer["seq"].as_u64().unwrap(), duplicate };
        };
        let text = error["description"].as_str().unwrap();
        match error["err_code"].as_u64() {
            Some(10077) if text.contains("maximum") => Answer::Refused(Refusal::Full),
            Some(10071) => {
                let last = text.rsplit(' ').next().unwrap().parse().unwrap();
                Answer::Refused(Refusal::WrongLastSequence(last))
            }
            _ => panic!("{error}"),
        }
    }

    async fn pull(&mut self, subject: &str, inbox: u64, request: &Value) -> Answer {
        let reply = self.client.new_inbox();
        let mut answers = self.client.subscribe(reply.clone()).await.unwrap().peekable();
        self.client.publish_with_reply(subject.to_owned(), reply, request.to_string().into()).await.unwrap();
        // A request has no answer of its own, unless nobody listens: that one comes before the answer to whatever is asked next.
        self.api("INFO", &json!({})).await.unwrap();
        let first = Pin::new(&mut answers).peek().now_or_never().flatten();
        let nobody = first.is_some_and(|first| first.status == Some(StatusCode::NO_RESPONDERS));
        if nobody {
            return Answer::NobodyThere;
        }
        self.inboxes.insert(inbox, answers);
        Answer::Done
    }

    async fn acknowledge(&self, token: &Token, word: &'static str) -> Answer {
        match self.client.request(subject(token), word.into()).await {
            Ok(_) => Answer::Done,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Answer::NobodyThere,
            Err(_) => Answer::Silence,
        }
    }

    /// An acknowledgement that is not to be answered: asked for something else afterwards, the server has answered nothing. That
    /// it did nothing either is seen in what comes later.
    pub async fn expect_silence(&self, call: &Call) -> Answer {
        let Call::Ack(token) = call else { panic!("only acknowledgements are not answered") };
        let reply = self.client.new_inbox();
        let mut answers = self.client.subscribe(reply.clone()).await.unwrap();
        self.client.publish_with_reply(subject(token), reply, "+ACK".into()).await.unwrap();
        self.api("INFO", &json!({})).await.unwrap();
        if answers.next().now_or_never().is_some() { Answer::Done } else { Answer::Silence }
    }

    async fn look(&self, stream: &str, request: &Value) -> Answer {
        let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), request).await.unwrap();
        if let Some(error) = answer.get("error") {
            assert_eq!(error["err_code"], 10037, "{error}");
            return Answer::Nothing;
        }
        let found = &answer["message"];
        let data = found["data"].as_str().unwrap_or_default();
        let payload = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        let is_marker = found.get("hdrs").and_then(Value::as_str).is_some_and(|headers| {
            let headers = base64::engine::general_purpose::STANDARD.decode(headers).unwrap();
            String::from_utf8_lossy(&headers).contains("Nats-Marker-Reason")
        });
        Answer::Message {
            sequence: found["seq"].as_u64().unwrap(),
            subject: found["subject"].as_str().unwrap().to_owned(),
            payload: (!is_marker).then(|| String::from_utf8(payload).unwrap()),
        }
    }

    /// Whether both hold the same messages.
    pub async fn contents(&self, model: &JetStream<String>) -> Result<(), String> {
        for stream in ["WORK", "KV", "LOG"] {
            let answer = self.api(&format!("STREAM.INFO.{stream}"), &json!({})).await.unwrap();
            let count = u64::try_from(model.all(stream).count()).unwrap();
            let (last, state) = (model.last_sequence(stream), &answer["state"]);
            if state["messages"] != count || state["last_seq"] != last {
                return Err(format!("{stream}: the model has {count} up to {last}, the server {state}"));
            }
            for stored in model.all(stream) {
                let found = self.look(stream, &json!({ "seq": stored.sequence })).await;
                if found != message(Some(stored)) {
                    return Err(format!("{stream}: the model has {stored:?}, the server {found:?}"));
                }
            }
        }
        Ok(())
    }

    /// Waits until a consumer knows of so many messages.
    pub async fn has_told(&self, consumer: &str, messages: usize) {
        eventually("news of all messages", async || {
            let answer = self.api(&format!("CONSUMER.INFO.WORK.{consumer}"), &json!({})).await?;
            (answer["num_pending"] == messages).then_some(())
        })
        .await;
    }

    /// The next thing the server sends to an inbox; `None` if it sends nothing.
    pub async fn next_push(&mut self, inbox: u64) -> Option<Seen> {
        let answers = self.inboxes.get_mut(&inbox)?;
        let next = tokio::time::timeout(Duration::from_secs(10), answers.next()).await;
        next.ok().flatten().map(|message| push(&message))
    }

    /// What has come that nobody expected.
    pub async fn more_pushes(&mut self) -> Vec<(u64, Seen)> {
        self.api("INFO", &json!({})).await.unwrap();
        let mut more = Vec::new();
        for (inbox, answers) in &mut self.inboxes {
            while let Some(Some(message)) = answers.next().now_or_never() {
                more.push((*inbox, push(&message)));
            }
        }
        more
    }

    /// What was sent to a connection that is gone counts no more.
    pub fn forget_inboxes(&mut self) {
        self.inboxes.clear();
    }
}

fn subject(token: &Token) -> String {
    let Token { stream, consumer, delivered, sequence, delivery } = token;
    format!("$JS.ACK.{stream}.{consumer}.{delivered}.{sequence}.{delivery}.1763786400123456789.0")
}

fn done(answer: Option<Value>) -> Answer {
    match answer {
        Some(answer) if answer.get("error").is_none() => Answer::Done,
        _ => Answer::NobodyThere,
    }
}

fn push(message: &Message) -> Seen {
    match message.status {
        Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
            let refused = message.description.as_deref().is_some_and(|text| text.contains("Requests Pending"));
            return if refused { Seen::TooMany } else { Seen::Exhausted };
        }
        None | Some(StatusCode::OK) => {}
        Some(status) => panic!("{status} {:?}", message.description),
    }
    let reply = message.reply.as_ref().unwrap();
    let tokens: Vec<&str> = reply.split('.').collect();
    let tokens = &tokens[if tokens.len() > 9 { 4 } else { 2 }..];
    let number = |index: usize| tokens[index].parse().unwrap();
    let token = Token {
        stream: tokens[0].to_owned(),
        consumer: tokens[1].to_owned(),
        delivered: number(2),
        sequence: number(3),
        delivery: number(4),
    };
    Seen::Message { token, payload: String::from_utf8(message.payload.to_vec()).unwrap() }
}

fn wire(stream: &StreamConfig) -> Value {
    json!({
        "name": stream.name,
        "subjects": stream.subjects,
        "retention": match stream.retention { Retention::Limits => "limits", Retention::WorkQueue => "workqueue" },
        "discard": "new",
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": stream.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap()),
        "max_msgs_per_subject": stream.max_per_subject.map_or(-1, |most| i64::try_from(most).unwrap()),
        "duplicate_window": u64::try_from(stream.duplicate_window.as_nanos()).unwrap(),
        "allow_msg_ttl": stream.markers_live.is_some(),
        "subject_delete_marker_ttl": stream.markers_live.map_or(0, |life| u64::try_from(life.as_nanos()).unwrap()),
    })
}

fn wire_consumer(config: &ConsumerConfig) -> Value {
    json!({ "stream_name": "WORK", "config": {
        "durable_name": config.name,
        "name": config.name,
        "filter_subject": config.filter,
        "ack_policy": "explicit",
        "ack_wait": u64::try_from(config.ack_wait.as_nanos()).unwrap(),
        "max_ack_pending": config.max_ack_pending,
        "max_deliver": -1,
        "mem_storage": true,
        "deliver_policy": "all",
        "replay_policy": "instant",
    }})
}
