//! The queue as a process uses it: what `postrider-nats` does with a server, done with the model. The same streams and subjects, the
//! same tries and budgets.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::ownership::{Lease, MEMBER_TTL};
use postrider_model::{
    Body, BodyRef, Class, EnvelopeId, MemberId, Record, ShardId, ShardLayout, Tier, TierDelays, Timestamp,
};

use crate::exec::{Life, Sim};
use crate::jetstream::{
    Acked, ConsumerConfig, Delivery, JetStream, NobodyThere, PubAck, Publish, Refusal, Retention, StreamConfig, Token,
};
use crate::nats::{Client, Packet, Payload, Unanswered};

mod hold;

mod puller;
pub use puller::Puller;

/// How the queue is cut here: as small as it may be with several owners.
pub const LAYOUT: ShardLayout = ShardLayout { bulk: 2, transactional: 1, bulk_streams: 1, side_streams: 1 };

/// The tiers, short enough for a trial.
pub const DELAYS: TierDelays = TierDelays::new([
    Duration::from_secs(6),
    Duration::from_secs(15),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(90),
]);

/// How long a publish or an acknowledgement is tried again.
pub const BUDGET: Duration = Duration::from_secs(30);
const MOVE_WAIT: Duration = Duration::from_secs(25);
/// What was asked for so long ago may be another's to move, and some time before that is over for what is on its way.
pub const OURS_FOR: Duration = Duration::from_secs(20);
const READY_WAIT: Duration = Duration::from_secs(20 * 60);
/// How long a member lives without a renewal.
/// How long a request for mail stays open, and how long after that it is given up here.
const OPEN: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(500);

fn ready_stream(shard: ShardId) -> &'static str {
    match shard.class {
        Class::Bulk => "READY_B",
        Class::Transactional => "READY_T",
    }
}

fn ready_subject(packet: &Packet) -> String {
    let state = &packet.envelope.state;
    format!("ready.{}.mail", LAYOUT.shard_of(packet.envelope.class, &state.site, state.slice))
}

fn retry_stream(tier: Tier) -> String {
    format!("RETRY_{tier}")
}

fn retry_filter(tier: Tier, class: Class) -> String {
    format!("retry.{tier}.{}.>", class.letter())
}

/// A consumer by what it is for.
#[derive(Clone, Copy, Debug)]
pub enum Consumer {
    /// A shard's mail.
    Ready(ShardId),
    /// What waits in a tier.
    Retry(Tier, Class),
    /// Messages of several parts.
    Splitter,
}

impl Consumer {
    fn all() -> Vec<Self> {
        let tiers = Tier::ALL.into_iter().flat_map(|tier| Class::ALL.map(|class| Self::Retry(tier, class)));
        LAYOUT.shards().map(Self::Ready).chain(tiers).chain([Self::Splitter]).collect()
    }

    fn stream(self) -> String {
        match self {
            Self::Ready(shard) => ready_stream(shard).to_owned(),
            Self::Retry(tier, _) => retry_stream(tier),
            Self::Splitter => "INTAKE".to_owned(),
        }
    }

    fn config(self) -> ConsumerConfig {
        let (name, filter, ack_wait, max_ack_pending) = match self {
            Self::Ready(shard) => (format!("ready-{shard}"), format!("ready.{shard}.>"), READY_WAIT, 20_000),
            Self::Retry(tier, class) => {
                (format!("promote-{tier}-{}", class.letter()), retry_filter(tier, class), MOVE_WAIT, 4_096)
            }
            Self::Splitter => ("splitter".to_owned(), "intake".to_owned(), MOVE_WAIT, 1_024),
        };
        ConsumerConfig { name, filter, ack_wait, max_ack_pending }
    }
}

/// Makes all streams and consumers. The first `room` bounds READY and the tiers, the second HOLD, in bytes as the server counts them;
/// ids are remembered for `repeats`.
pub fn lay_out(server: &mut JetStream<Payload>, (room, hold_room): (Option<u64>, Option<u64>), repeats: Duration) {
    let stream = |name: &str, subjects: &[&str], retention| StreamConfig {
        name: name.to_owned(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        retention,
        duplicate_window: repeats,
        max_bytes: None,
        max_per_subject: None,
        markers_live: None,
    };
    let work = |name: &str, subjects: &[&str]| StreamConfig {
        max_bytes: room,
        ..stream(name, subjects, Retention::WorkQueue)
    };
    server.create_stream(work("READY_B", &["ready.b00.>", "ready.b01.>"]));
    server.create_stream(work("READY_T", &["ready.t00.>"]));
    for tier in Tier::ALL {
        server.create_stream(work(&retry_stream(tier), &[&format!("retry.{tier}.>")]));
    }
    server.create_stream(work("INTAKE", &["intake"]));
    for (name, subject) in [("BODY", "body.0"), ("EVENTS", "event.>"), ("DEAD", "dead.>")] {
        server.create_stream(stream(name, &[subject], Retention::Limits));
    }
    let held = stream("HOLD", &["hold.>"], Retention::Limits);
    server.create_stream(StreamConfig { max_bytes: hold_room, ..held });
    let rules = stream("CONFIG", &["config.>"], Retention::Limits);
    server.create_stream(StreamConfig { max_per_subject: Some(1), ..rules });
    server.create_stream(StreamConfig {
        max_per_subject: Some(1),
        markers_live: Some(MEMBER_TTL),
        ..stream("LEASE", &["lease.>"], Retention::Limits)
    });
    ensure_consumers(server);
}

fn ensure_consumers(server: &mut JetStream<Payload>) {
    for consumer in Consumer::all() {
        server.create_consumer(&consumer.stream(), consumer.config()).unwrap();
    }
}

/// Why something was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// The stream is full.
    Full,
    /// No acknowledgement in time; it may be stored all the same.
    Unavailable,
}

/// Why a bucket did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketError {
    /// Somebody else wrote meanwhile.
    Conflict,
    /// No answer.
    Unavailable,
}

/// All leases and members as last listed.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// The living, with the start of their lives and the revision.
    pub members: BTreeMap<MemberId, (Timestamp, u64)>,
    /// Who owns what, with the revision.
    pub shards: BTreeMap<ShardId, (Lease, u64)>,
}

/// A leased message.
pub type Leased = Delivery<Payload>;

/// The door to JetStream of one process. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    /// The world.
    pub sim: Sim,
    /// The connection.
    pub client: Client,
    /// Whose it is.
    pub life: Life,
}

impl Spool {
    /// The server's clock, as well as it can be known.
    pub fn server_now(&self) -> Timestamp {
        self.sim.now().before(self.sim.some_time(5))
    }

    /// Publishes until acknowledged; returns the sequence.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, subject: String, id: String, payload: Payload) -> Result<u64, PublishError> {
        self.publish_by(subject, id, payload, self.sim.now().after(BUDGET)).await
    }

    /// Tries until `deadline`, which is looked at before each try.
    async fn publish_by(
        &self,
        subject: String,
        id: String,
        payload: Payload,
        deadline: Timestamp,
    ) -> Result<u64, PublishError> {
        let mut pause = Duration::from_millis(20);
        let mut may_be_stored = false;
        loop {
            if self.sim.now() >= deadline {
                return Err(PublishError::Unavailable);
            }
            let mut message = Publish::new(subject.clone(), id.clone(), payload.clone());
            message.payload_bytes = 500;
            let (client, to, what) = (self.client.clone(), subject.clone(), payload.clone());
            let publish = move |server: &mut JetStream<Payload>, now| {
                let answer = server.publish(message, now);
                if let Ok(PubAck { duplicate: false, .. }) = &answer {
                    client.note_stored(&to, &what);
                }
                Some(answer)
            };
            match self.client.ask(publish).await {
                Ok(Ok(ack)) => return Ok(ack.sequence),
                // A try before this one may have been stored, its answer lost.
                Ok(Err(Refusal::Full)) if may_be_stored => return Err(PublishError::Unavailable),
                Ok(Err(Refusal::Full)) => return Err(PublishError::Full),
                Ok(Err(refusal)) => panic!("{refusal:?}"),
                Err(Unanswered) => may_be_stored = true,
            }
            if self.sim.now().after(pause) >= deadline {
                return Err(PublishError::Unavailable);
            }
            self.sim.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// To READY, under the shard of its site.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_ready(&self, packet: &Packet) -> Result<(), PublishError> {
        let payload = Payload::Packet(Rc::new(packet.clone()));
        self.publish(ready_subject(packet), packet.id().to_string(), payload).await.map(|_| ())
    }

    /// The same, while it is ours to move.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn move_to_ready(&self, packet: &Packet, until: Timestamp) -> Result<(), PublishError> {
        let payload = Payload::Packet(Rc::new(packet.clone()));
        let deadline = until.min(self.sim.now().after(BUDGET));
        self.publish_by(ready_subject(packet), packet.id().to_string(), payload, deadline).await.map(|_| ())
    }

    /// To a tier.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn copy_to_tier(&self, packet: &Packet, tier: Tier) -> Result<(), PublishError> {
        let class = packet.envelope.class.letter();
        let payload = Payload::Packet(Rc::new(packet.clone()));
        self.publish(format!("retry.{tier}.{class}.mail"), packet.id().to_string(), payload).await.map(|_| ())
    }

    /// To the dead letters.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn bury(&self, id: EnvelopeId) -> Result<(), PublishError> {
        self.publish("dead.body-lost".to_owned(), id.to_string(), Payload::Dead(id)).await.map(|_| ())
    }

    /// Several parts, in one record.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_intake(&self, parts: Vec<Packet>) -> Result<(), PublishError> {
        let id = parts[0].envelope.message.to_string();
        self.publish("intake".to_owned(), id, Payload::Intake(Rc::new(parts))).await.map(|_| ())
    }

    /// A body to BODY.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn put_body(&self, shared: bool) -> Result<BodyRef, PublishError> {
        let id = format!("body-{}", self.sim.below(u64::MAX));
        let sequence = self.publish("body.0".to_owned(), id, Payload::Body).await?;
        Ok(BodyRef {
            stream: 0,
            sequences: vec![sequence],
            length: 1,
            hash: sequence,
            compressed: false,
            shared,
            parts: 0,
        })
    }

    /// An inline body to BODY.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn spill_body(&self, body: &Body) -> Result<BodyRef, PublishError> {
        match body {
            Body::Inline { .. } => self.put_body(false).await,
            Body::Stored(stored) => Ok(stored.clone()),
        }
    }

    /// Whether a body can be read; `None` is no answer.
    pub async fn read_body(&self, body: &Body) -> Option<bool> {
        let Body::Stored(stored) = body else { return Some(true) };
        let sequence = stored.sequences[0];
        self.client.ask(move |server, now| Some(server.get("BODY", sequence, now).is_some())).await.ok()
    }

    /// Deletes a part's own body.
    pub async fn delete_body(&self, stored: &BodyRef) {
        let sequence = stored.sequences[0];
        // What could not be done ages out.
        self.client.ask(move |server, now| Some(server.delete("BODY", sequence, now))).await.ok();
    }

    /// A flush of records; returns its sequence.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_events(
        &self,
        shard: ShardId,
        records: Rc<Vec<Record>>,
        flush: &str,
    ) -> Result<u64, PublishError> {
        self.publish(format!("event.{shard}"), flush.to_owned(), Payload::Events(records)).await
    }

    /// The flushes of a shard behind a sequence.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn replay(&self, shard: ShardId, after: u64) -> Result<Vec<(u64, Rc<Vec<Record>>)>, Unanswered> {
        let subject = format!("event.{shard}");
        let read = move |server: &mut JetStream<Payload>, _: Timestamp| {
            let of_shard = server.all("EVENTS").filter(|stored| stored.sequence > after && stored.subject == subject);
            let flushes = of_shard.filter_map(|stored| match &stored.payload {
                Some(Payload::Events(records)) => Some((stored.sequence, Rc::clone(records))),
                _ => None,
            });
            Some(flushes.collect())
        };
        self.client.ask(read).await
    }

    /// Makes all unacknowledged mail of a shard come again.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn reset_consumer(&self, shard: ShardId) -> Result<(), Unanswered> {
        let name = format!("ready-{shard}");
        let reset = move |server: &mut JetStream<Payload>, now| server.reset(ready_stream(shard), &name, now).ok();
        if self.client.ask(reset).await.is_ok() {
            return Ok(());
        }
        let config = Consumer::Ready(shard).config();
        self.client.ask(move |server, _| server.create_consumer(ready_stream(shard), config).ok()).await
    }

    /// Makes the consumers again that a restarted server forgot.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ensure(&self) -> Result<(), Unanswered> {
        let ensure = |server: &mut _| {
            ensure_consumers(server);
            Some(())
        };
        self.client.ask(move |server, _| ensure(server)).await
    }

    /// When the head of a tier was stored.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn tier_head(&self, tier: Tier, class: Class) -> Result<Option<Timestamp>, Unanswered> {
        let (stream, filter) = (retry_stream(tier), retry_filter(tier, class));
        self.client.ask(move |server, now| Some(server.next(&stream, &filter, 1, now).map(|head| head.at))).await
    }

    /// Writes a key of the lease bucket; `None` expects anything, 0 no such key.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn put(&self, key: String, value: Payload, expected: Option<u64>) -> Result<u64, BucketError> {
        let ttl = matches!(value, Payload::Member(..)).then_some(MEMBER_TTL);
        let write = move |server: &mut JetStream<Payload>, now| {
            let mut message = Publish::new(format!("lease.{key}"), "", value);
            (message.id, message.expected, message.ttl) = (None, expected, ttl);
            Some(server.publish(message, now))
        };
        match self.client.ask(write).await {
            Ok(Ok(ack)) => Ok(ack.sequence),
            Ok(Err(Refusal::WrongLastSequence(_))) => Err(BucketError::Conflict),
            Ok(Err(refusal)) => panic!("{refusal:?}"),
            Err(Unanswered) => Err(BucketError::Unavailable),
        }
    }

    /// A key that was never written, deleted or has run out may be written with this revision.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn put_absent(&self, key: String, value: Payload) -> Result<u64, BucketError> {
        let subject = format!("lease.{key}");
        let look = move |server: &mut JetStream<Payload>, now| {
            let last = server.last("LEASE", &subject, now);
            Some(last.map(|stored| (stored.sequence, matches!(stored.payload, None | Some(Payload::Gone)))))
        };
        let expected = match self.client.ask(look).await {
            Ok(None) => 0,
            Ok(Some((revision, true))) => revision,
            Ok(Some((_, false))) => return Err(BucketError::Conflict),
            Err(Unanswered) => return Err(BucketError::Unavailable),
        };
        self.put(key, value, Some(expected)).await
    }

    /// Everything in the lease bucket.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn leases(&self) -> Result<Leases, Unanswered> {
        self.client.ask(|server, now| Some(list_leases(server, now))).await
    }

    /// Pulls from a consumer.
    pub fn puller(&self, consumer: Consumer) -> Puller {
        Puller::new(self.clone(), consumer)
    }

    /// Ends a message's stay, asked again until it is confirmed or the budget is spent. Whether it is confirmed.
    pub async fn confirm_ack(&self, token: &Token) -> bool {
        let deadline = self.sim.now().after(BUDGET);
        let mut pause = Duration::from_millis(20);
        loop {
            let asked = token.clone();
            let ack = move |server: &mut JetStream<Payload>, now| match server.ack(&asked, now) {
                Ok(Acked::Confirmed) => Some(true),
                Ok(Acked::Ignored) => None,
                Err(NobodyThere) => Some(false),
            };
            if self.client.ask(ack).await == Ok(true) {
                return true;
            }
            if self.sim.now().after(pause) >= deadline {
                return false;
            }
            self.sim.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Hands a message back, as well as can be.
    pub fn hand_back(&self, token: &Token, delay: Duration) {
        let token = token.clone();
        self.client.tell(move |server, now| drop(server.nak(&token, delay, now)));
    }
}

/// What the lease bucket holds.
pub fn list_leases(server: &mut JetStream<Payload>, now: Timestamp) -> Leases {
    server.pass(now);
    let mut leases = Leases::default();
    for stored in server.all("LEASE") {
        match &stored.payload {
            Some(Payload::Member(id, started)) => {
                leases.members.insert(id.clone(), (*started, stored.sequence));
            }
            Some(Payload::Lease(shard, lease)) => {
                leases.shards.insert(*shard, (lease.clone(), stored.sequence));
            }
            _ => {}
        }
    }
    leases
}
