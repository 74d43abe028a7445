//! Pulling from a durable consumer. One request is open at a time and for at most a second, so that a process that freezes
//! or lets go holds little; what arrives is handed on at once. Every error is met with a pause and another try.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use postrider_dispatch::takeover::Deliveries;
use postrider_model::Timestamp;
use postrider_proto::{ConvertError, Packet};
use tokio::time::Instant;

use crate::handle::{Handle, Leased, Origin, Undecodable};
use crate::layout::{self, Consumer, consumer_of};
use crate::spool::Spool;
use ack_subject::Details;

mod ack_subject;
pub(crate) use ack_subject::ack_details;

mod ready;
pub use ready::{Puller, ResetError};

/// How long after its end at the server a request is given up here.
const GRACE: Duration = Duration::from_millis(500);

/// The fewest bytes that are asked for: more than any packet has, else its stream would stand still.
const LEAST_BYTES: usize = 512 * 1024;

/// The longest pause after an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long a record for a newer reader is left to newer readers.
const FOR_NEWER: Duration = Duration::from_secs(30);

/// A raw message of a work queue.
pub(crate) struct Raw {
    pub(crate) message: Message,
    pub(crate) stored: Timestamp,
    pub(crate) sequence: u64,
    pub(crate) handle: Handle,
}

/// Pulls from one consumer. Keeps what has arrived, so that a pull that is dropped half way loses nothing.
pub(crate) struct RawPuller {
    spool: Spool,
    which: Consumer,
    stream: String,
    name: String,
    inbox: Option<(String, Subscriber)>,
    requests: u64,
    /// When the last request was made.
    asked: Instant,
    open: Option<Open>,
    arrived: VecDeque<Raw>,
    pause: Duration,
    not_before: Option<Instant>,
    exhausted: bool,
    /// A request had no end, or one that says that the leader is another: what was on its way may be lost.
    missed: bool,
    deliveries: Deliveries,
    pending: u64,
    origin: Option<Arc<Origin>>,
}

struct Open {
    /// Where the server says that it has ended: a subject of its own, so that a late end of another is not mistaken.
    reply: String,
    remaining: usize,
    idle: bool,
    until: Instant,
}

/// What may be asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) expires: Duration,
}

impl RawPuller {
    pub(crate) fn new(spool: &Spool, which: Consumer) -> Self {
        let placed = consumer_of(&spool.layout(), &which);
        Self {
            spool: spool.clone(),
            which,
            stream: placed.stream,
            name: placed.name,
            inbox: None,
            requests: 0,
            asked: Instant::now(),
            open: None,
            arrived: VecDeque::new(),
            pause: Duration::ZERO,
            not_before: None,
            exhausted: false,
            missed: false,
            deliveries: Deliveries::default(),
            pending: 0,
            origin: None,
        }
    }

    /// Waits until something has arrived or the request has ended, and returns what there is. Safe to drop half way.
    pub(crate) async fn pull(&mut self, wish: Wish) -> Vec<Raw> {
        if self.arrived.is_empty() && wish.messages > 0 {
            if let Some(not_before) = self.not_before {
                tokio::time::sleep_until(not_before).await;
                self.not_before = None;
            }
            if self.open.is_none()
                && let Err(why) = self.ask(wish).await
            {
                self.trouble(&why);
                return Vec::new();
            }
            self.take_next().await;
        }
        self.take_ready();
        self.arrived.drain(..).collect()
    }

    /// Everything that a request brings that does not wait, and not only what has arrived by the first look.
    pub(crate) async fn pull_whole(&mut self, wish: Wish) -> Vec<Raw> {
        let mut whole = self.pull(wish).await;
        while self.open.is_some() {
            whole.extend(self.pull(wish).await);
        }
        whole
    }

    /// What nobody had pulled when the last that has arrived was.
    pub(crate) fn left(&self) -> u64 {
        self.pending
    }

    /// When what was pulled last was asked for, at the earliest: its lease began no sooner. Not for READY, where what is late is
    /// taken too.
    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    async fn ask(&mut self, wish: Wish) -> Result<(), String> {
        self.exhausted = false;
        if self.inbox.is_none() {
            let inbox = self.spool.client().new_inbox();
            let subscriber = self.spool.client().subscribe(format!("{inbox}.*")).await.map_err(|e| e.to_string())?;
            self.inbox = Some((inbox, subscriber));
        }
        let Some((inbox, _)) = &self.inbox else { return Ok(()) };
        self.requests += 1;
        self.asked = Instant::now();
        let reply = format!("{inbox}.{}", self.requests);
        let expires = wish.expires.min(Duration::from_secs(2));
        let request = BatchConfig {
            batch: wish.messages,
            max_bytes: wish.bytes.max(LEAST_BYTES),
            expires: (!expires.is_zero()).then_some(expires),
            no_wait: expires.is_zero(),
            ..BatchConfig::default()
        };
        let payload = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name);
        let sent = self.spool.client().publish_with_reply(subject, reply.clone(), payload.into());
        match tokio::time::timeout(LONGEST_PAUSE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("not connected".to_owned()),
        }
        // A request that does not wait has no end of its own to be late after.
        let grace = if expires.is_zero() { LONGEST_PAUSE } else { GRACE };
        self.open = Some(Open { reply, remaining: wish.messages, idle: true, until: Instant::now() + expires + grace });
        Ok(())
    }

    /// Waits for one message or the end of the request.
    async fn take_next(&mut self) {
        while self.arrived.is_empty() {
            let (Some(open), Some((_, subscriber))) = (&self.open, &mut self.inbox) else { return };
            match tokio::time::timeout_at(open.until, subscriber.next()).await {
                Ok(Some(message)) => self.note(message),
                // The subscription has ended with the client.
                Ok(None) => {
                    self.inbox = None;
                    self.open = None;
                    self.trouble("the subscription ended");
                }
                // The end did not arrive: the connection was made anew, or the leader is another.
                Err(_) => {
                    self.missed = true;
                    self.open = None;
                    // What comes late would be taken for what the next request brings, and its lease for a young one.
                    if !matches!(self.which, Consumer::Ready(_)) {
                        self.inbox = None;
                    }
                }
            }
        }
    }

    /// Takes what has arrived already, without waiting.
    fn take_ready(&mut self) {
        while let Some((_, subscriber)) = &mut self.inbox {
            match subscriber.next().now_or_never() {
                Some(Some(message)) => self.note(message),
                Some(None) => {
                    self.inbox = None;
                    self.open = None;
                }
                None => return,
            }
        }
    }

    fn note(&mut self, message: Message) {
        if is_record(&message) {
            return self.keep(message);
        }
        if self.open.as_ref().is_none_or(|open| open.reply != message.subject.as_str()) {
            return;
        }
        self.end(&message);
        if message.status == Some(StatusCode::NO_RESPONDERS) || says(&message, "Consumer Deleted") {
            self.restore();
        }
        if says(&message, "Leadership Change") || says(&message, "Server Shutdown") {
            self.missed = true;
        }
    }

    /// A single server that restarts forgets consumers in memory. Made again beside the pull, which may be dropped any time.
    fn restore(&self) {
        let (spool, wanted) = (self.spool.clone(), consumer_of(&self.spool.layout(), &self.which));
        tokio::spawn(async move {
            match layout::restore_consumer(spool.context(), &wanted.stream, wanted.config).await {
                Ok(()) => tracing::info!(consumer = wanted.name, "made again"),
                Err(why) => tracing::debug!(consumer = wanted.name, why, "not made again yet"),
            }
        });
    }

    fn keep(&mut self, message: Message) {
        self.pause = Duration::ZERO;
        if let Some(open) = &mut self.open {
            open.idle = false;
            open.remaining = open.remaining.saturating_sub(1);
            if open.remaining == 0 {
                self.open = None;
            }
        }
        let Some(reply) = message.reply.clone() else { return };
        let Details { sequence, stored, delivery, pending } = ack_details(&reply).unwrap_or_default();
        self.pending = pending;
        self.missed |= self.deliveries.came(delivery);
        let handle = Handle::new(self.spool.link(), &reply, &mut self.origin);
        self.arrived.push_back(Raw { message, stored, sequence, handle });
    }

    /// The server has ended the request.
    fn end(&mut self, message: &Message) {
        match message.status {
            // Heartbeats end nothing.
            Some(StatusCode::IDLE_HEARTBEAT) => return,
            // Nothing there, or the time is used up. A request that was cancelled has the same status, and says nothing of
            // what is there.
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => {
                self.pause = Duration::ZERO;
                let description = message.description.as_deref().unwrap_or_default();
                self.exhausted = description.contains("Request Timeout") || description.contains("No Messages");
                if self.exhausted {
                    self.pending = 0;
                }
            }
            _ if self.open.as_ref().is_some_and(|open| !open.idle) && says(message, "MaxBytes") => {
                self.pause = Duration::ZERO;
            }
            status => self.trouble(&format!("{status:?} {:?}", message.description)),
        }
        self.open = None;
    }

    fn trouble(&mut self, why: &str) {
        tracing::debug!(consumer = self.name, why, "pulling again");
        self.pause = (self.pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE);
        self.not_before = Some(Instant::now() + self.pause);
    }

    /// Lets go: waits out the open request, and hands back all that arrives.
    pub(crate) async fn stop(mut self) {
        loop {
            self.take_ready();
            for raw in self.arrived.drain(..) {
                raw.handle.hand_back().await;
            }
            if self.open.is_none() {
                return self.spool.flush().await;
            }
            self.take_next().await;
        }
    }
}

fn is_record(message: &Message) -> bool {
    message.status.is_none() || message.status == Some(StatusCode::OK)
}

fn says(message: &Message, what: &str) -> bool {
    message.description.as_deref().is_some_and(|text| text.contains(what))
}

/// Reads a packet, or says why not. A record for a newer reader is handed back and is none of our business.
pub(crate) fn decode(raw: Raw) -> Option<Result<Leased, Undecodable>> {
    let payload: Bytes = raw.message.payload.clone();
    match Packet::decode(payload.clone()) {
        Ok(packet) => Some(Ok(Leased { packet, stored: raw.stored, sequence: raw.sequence, handle: raw.handle })),
        Err(ConvertError::TooNew { needs, reads }) => {
            tracing::warn!(needs, reads, "left a record for a newer reader");
            // Beside the pull: whoever waits for the batch may drop it any time.
            tokio::spawn(raw.handle.hand_back_for(FOR_NEWER));
            None
        }
        Err(error) => Some(Err(Undecodable {
            subject: raw.message.subject.to_string(),
            sequence: raw.sequence,
            raw: payload,
            reason: error.to_string(),
            handle: raw.handle,
        })),
    }
}
