//! The one way to publish: with an id, until JetStream has acknowledged it or the budget is spent. A repeat carries the same
//! id, so it is stored once.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use bytes::Bytes;
use postrider_dispatch::promote::Placement;
use postrider_model::Tier;
use postrider_proto::Packet;
use thiserror::Error;
use tokio::time::Instant;

use crate::spool::{API_TIMEOUT, Spool};
use crate::subject;

/// Why something could not be made durable.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The stream is full: 452.
    #[error("the stream for {subject} is full")]
    Full {
        /// Where it should have gone.
        subject: String,
    },
    /// More bytes than one message may have: an error of ours, or a message with too many recipients.
    #[error("{bytes} bytes for {subject}: more than the {limit} that one message may have")]
    TooLarge {
        /// Where it should have gone.
        subject: String,
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// No acknowledgement within the budget: 451. It may be stored all the same.
    #[error("no acknowledgement for {subject} within {budget:?}: {why}")]
    Unavailable {
        /// Where it should have gone.
        subject: String,
        /// How long it was, or might have been, tried.
        budget: Duration,
        /// What the last try met.
        why: String,
    },
}

impl PublishError {
    /// Whether it may be stored all the same, now or in a moment.
    pub(crate) fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// The shortest and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Headers with room for bytes of ours are counted against the server's bound too.
const HEADER_ROOM: usize = 1024;

enum Refusal {
    Full,
    Passing(String),
}

impl Spool {
    /// Publishes a packet to READY under the shard of its site. Its id keeps a repeat from being stored twice.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn publish_ready(&self, packet: &Packet) -> Result<(), PublishError> {
        let subject = subject::ready(&self.layout(), packet.envelope());
        self.publish(&subject, &packet.id().to_string(), packet.encode()).await.map(|_| ())
    }

    /// Publishes a packet to a tier: its state must be that of its next hop already.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn copy_to_tier(&self, packet: &Packet, tier: Tier) -> Result<(), PublishError> {
        let subject = subject::retry(&self.layout(), tier, packet.envelope());
        self.publish(&subject, &packet.id().to_string(), packet.encode()).await.map(|_| ())
    }

    /// Publishes a packet to HOLD: its state must be that of its next hop already.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn copy_to_hold(&self, packet: &Packet) -> Result<(), PublishError> {
        let subject = subject::hold(packet.envelope());
        self.publish(&subject, &packet.id().to_string(), packet.encode()).await.map(|_| ())
    }

    /// Publishes a leased packet to READY, or to a tier, while it is ours to move.
    ///
    /// # Errors
    /// [`PublishError`], when the lease may be over or the configured budget is spent.
    pub(crate) async fn move_leased(&self, packet: &Packet, to: Placement, until: Instant) -> Result<(), PublishError> {
        let subject = match to {
            Placement::Ready => subject::ready(&self.layout(), packet.envelope()),
            Placement::Tier(tier) => subject::retry(&self.layout(), tier, packet.envelope()),
        };
        self.publish_until(&subject, packet.id().to_string(), packet.encode(), until).await
    }

    /// Publishes a leased packet that is due to a tier once more, as it is, while it is ours to move. Its stay is the same, so its
    /// id tells where it lay: the stream that it goes to may have had it already, less than a minute ago.
    ///
    /// # Errors
    /// As [`Self::move_leased`].
    pub(crate) async fn delay_again(
        &self,
        packet: &Packet,
        tier: Tier,
        (from, sequence): (Tier, u64),
        until: Instant,
    ) -> Result<(), PublishError> {
        let subject = subject::retry(&self.layout(), tier, packet.envelope());
        let id = format!("{}~{from}.{sequence}", packet.id());
        self.publish_until(&subject, id, packet.encode(), until).await
    }

    pub(crate) async fn publish(&self, subject: &str, id: &str, payload: Bytes) -> Result<u64, PublishError> {
        self.publish_with(subject, headers_of(id), payload, self.publish_budget()).await
    }

    async fn publish_until(
        &self,
        subject: &str,
        id: String,
        payload: Bytes,
        until: Instant,
    ) -> Result<(), PublishError> {
        let deadline = until.min(Instant::now() + self.publish_budget());
        self.publish_by(subject, headers_of(&id), payload, deadline).await.map(|_| ())
    }

    /// Publishes until acknowledged; returns the sequence. The headers hold the id.
    pub(crate) async fn publish_with(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        budget: Duration,
    ) -> Result<u64, PublishError> {
        self.publish_by(subject, headers, payload, Instant::now() + budget).await
    }

    /// Tries until `deadline`, which is looked at before each try: whoever was frozen past it publishes nothing any more.
    async fn publish_by(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<u64, PublishError> {
        let budget = deadline.saturating_duration_since(Instant::now());
        let late = |why: &str| PublishError::Unavailable { subject: subject.to_owned(), budget, why: why.to_owned() };
        let limit = self.client().max_payload().saturating_sub(HEADER_ROOM);
        if payload.len() > limit {
            return Err(PublishError::TooLarge { subject: subject.to_owned(), bytes: payload.len(), limit });
        }
        let mut pause = PAUSES.0;
        let mut may_be_stored = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late("no time is left"));
            }
            let patience = left.clamp(Duration::from_millis(100), API_TIMEOUT);
            let why = match self.try_publish(subject, headers.clone(), payload.clone(), patience).await {
                Ok(sequence) => {
                    return match self.link().until_durable().await {
                        Ok(()) => Ok(sequence),
                        Err(error) => Err(late(&error.to_string())),
                    };
                }
                // A try before this one may have been stored, its answer lost: nothing that it refers to may go.
                Err(Refusal::Full) if may_be_stored => {
                    return Err(late("the stream is full, after a try without an answer"));
                }
                Err(Refusal::Full) => return Err(PublishError::Full { subject: subject.to_owned() }),
                Err(Refusal::Passing(why)) => why,
            };
            may_be_stored = true;
            if Instant::now() + pause >= deadline {
                return Err(late(&why));
            }
            tracing::debug!(subject, why, "publishing again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn try_publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        patience: Duration,
    ) -> Result<u64, Refusal> {
        let answer = self.link().request(subject, headers, payload, patience).await;
        let message = answer.map_err(|error| Refusal::Passing(error.to_string()))?;
        match serde_json::from_slice::<Response<PublishAck>>(&message.payload) {
            Ok(Response::Ok(ack)) => Ok(ack.sequence),
            Ok(Response::Err { error }) if is_full(error.error_code(), &error.to_string()) => Err(Refusal::Full),
            Ok(Response::Err { error }) => Err(Refusal::Passing(error.to_string())),
            Err(error) => Err(Refusal::Passing(format!("not an acknowledgement: {error}"))),
        }
    }
}

fn headers_of(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    headers
}

/// Error 10077 wraps every failure to store; only "maximum ... exceeded" means full. The other two are the server's own
/// store and the account's share of it.
fn is_full(code: ErrorCode, text: &str) -> bool {
    let limits = [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::INSUFFICIENT_RESOURCES];
    limits.contains(&code) || (code == ErrorCode::STREAM_STORE_FAILED && text.contains("maximum"))
}
