//! What is leased from a work queue, and the handle that ends the lease in exactly one way. A handle that is dropped ends
//! nothing: the message comes again after the consumer's ack wait, or with a RESET.

use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, HeaderMap, Subject};
use bytes::Bytes;
use postrider_model::Timestamp;
use postrider_proto::Packet;
use thiserror::Error;
use tokio::time::Instant;

use crate::link::Link;

/// A packet that is ours until its handle is used.
#[derive(Debug)]
pub struct Leased {
    /// The packet.
    pub packet: Packet,
    /// When the stream took it, by the server's clock.
    pub stored: Timestamp,
    /// Where it lies in its stream.
    pub sequence: u64,
    /// Ends the lease.
    pub handle: Handle,
}

/// A record that is no packet: to be buried with [`crate::Spool::bury`], and then acknowledged.
#[derive(Debug)]
pub struct Undecodable {
    /// Where it lay.
    pub subject: String,
    /// Its sequence there.
    pub sequence: u64,
    /// The bytes as they are.
    pub raw: Bytes,
    /// What is wrong with them.
    pub reason: String,
    /// Ends the lease.
    pub handle: Handle,
}

/// The acknowledgement did not come through: the message will come again.
#[derive(Debug, Error)]
#[error("no confirmation of an acknowledgement: {0}")]
pub struct AckError(String);

/// Ends a lease. Consumed by exactly one of [`Handle::ack_confirmed`], [`Handle::hand_back`] and
/// [`Handle::hand_back_for`].
#[must_use = "a lease that is not ended blocks its message until the ack wait is over"]
pub struct Handle {
    link: Link,
    reply: Subject,
}

/// How long a confirmation is waited for before it is asked again.
const CONFIRMATION: Duration = Duration::from_secs(5);

impl Handle {
    pub(crate) fn new(link: Link, reply: Subject) -> Self {
        Self { link, reply }
    }

    /// Ends the message's stay in the stream, and waits for the server to say so. Asked again until `budget` is spent.
    ///
    /// # Errors
    /// [`AckError`]: whether the message is gone is not known; if not, it comes again and its id shows that it is a repeat.
    pub async fn ack_confirmed(self, budget: Duration) -> Result<(), AckError> {
        self.confirm_ack(budget).await
    }

    /// As [`Handle::ack_confirmed`], for whoever goes on asking after a failure.
    ///
    /// # Errors
    /// As [`Handle::ack_confirmed`].
    pub async fn confirm_ack(&self, budget: Duration) -> Result<(), AckError> {
        let deadline = Instant::now() + budget;
        let mut pause = Duration::from_millis(20);
        loop {
            let patience = deadline.saturating_duration_since(Instant::now()).clamp(CONFIRMATION / 50, CONFIRMATION);
            let asked = self.link.request(self.reply.as_str(), HeaderMap::new(), AckKind::Ack.into(), patience).await;
            let Err(why) = asked else { return Ok(()) };
            if Instant::now() + pause >= deadline {
                return Err(AckError(why.to_string()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Hands the message back for somebody else, at once. Best effort: a lost hand-back is made good by RESET or the ack
    /// wait.
    pub async fn hand_back(self) {
        say(self.link.client, self.reply, AckKind::Nak(None)).await;
    }

    /// Hands the message back; it comes again after `delay` at the earliest.
    pub async fn hand_back_for(self, delay: Duration) {
        say(self.link.client, self.reply, AckKind::Nak(Some(delay))).await;
    }

    /// Begins the ack wait anew, for a conversation that takes long.
    pub fn in_progress(&self) -> impl Future<Output = ()> + Send + use<> {
        say(self.link.client.clone(), self.reply.clone(), AckKind::Progress)
    }
}

async fn say(client: Client, reply: Subject, kind: AckKind) {
    if let Err(error) = client.publish(reply, kind.into()).await {
        tracing::debug!(%error, "an acknowledgement was not sent");
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.reply)
    }
}
