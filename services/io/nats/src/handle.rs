//! What is leased from a work queue, and the handle that ends the lease in exactly one way. A handle that is dropped ends
//! nothing: the message comes again after the consumer's ack wait, or with a RESET.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use postrider_model::Timestamp;
use postrider_proto::Packet;
use thiserror::Error;
use tokio::time::Instant;

use crate::layout::TIER_UNACKNOWLEDGED;
use crate::link::Link;
use crate::pull::ack_details;

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
    origin: Arc<Origin>,
    end: End,
}

/// What all handles of one consumer share.
pub(crate) struct Origin {
    link: Link,
    prefix: Box<str>,
}

/// The rest of the subject that ends a lease. A process holds hundreds of thousands of them: as numbers they take half the room.
enum End {
    /// Delivered, stream sequence, consumer sequence, nanoseconds, pending.
    Numbers([u64; 5]),
    /// The whole of a subject that is of another form.
    Whole(Box<str>),
}

/// Whether somebody may have had a message before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Nobody.
    No,
    /// Only if the consumer was made anew.
    AfterARestart,
    /// It was delivered before.
    Likely,
}

/// How long a confirmation is waited for before it is asked again.
const CONFIRMATION: Duration = Duration::from_secs(5);

impl Handle {
    /// A handle that answers to `reply`. `origin` is that of the handle before, if there was one: it is shared.
    pub(crate) fn new(link: &Link, reply: &str, origin: &mut Option<Arc<Origin>>) -> Self {
        let (prefix, end) = match split(reply) {
            Some((prefix, numbers)) => (prefix, End::Numbers(numbers)),
            None => ("", End::Whole(reply.into())),
        };
        let same = origin.as_ref().filter(|origin| &*origin.prefix == prefix);
        let shared = same.cloned().unwrap_or_else(|| Arc::new(Origin { link: link.clone(), prefix: prefix.into() }));
        *origin = Some(Arc::clone(&shared));
        Self { origin: shared, end }
    }

    fn reply(&self) -> String {
        match &self.end {
            End::Numbers([a, b, c, d, e]) => format!("{}{a}.{b}.{c}.{d}.{e}", self.origin.prefix),
            End::Whole(whole) => whole.to_string(),
        }
    }

    /// Where the message lies in its stream, and when that took it; `None` if its subject is of a form that is not known.
    pub(crate) fn place(&self) -> Option<(u64, Timestamp)> {
        match &self.end {
            End::Numbers([_, sequence, _, nanos, _]) => Some((*sequence, Timestamp::from_millis(nanos / 1_000_000))),
            End::Whole(whole) => ack_details(whole).map(|details| (details.sequence, details.stored)),
        }
    }

    /// Whether somebody may have had this message before, and died before its acknowledgement: it was delivered before, or is among
    /// the first deliveries of a consumer that was made anew, as after a restart of a single server.
    pub(crate) fn may_be_a_repeat(&self) -> Repeat {
        match self.end {
            End::Numbers([delivered, ..]) if delivered > 1 => Repeat::Likely,
            End::Numbers([_, _, number, ..])
                if i64::try_from(number).is_ok_and(|number| number > TIER_UNACKNOWLEDGED) =>
            {
                Repeat::No
            }
            End::Numbers(_) | End::Whole(_) => Repeat::AfterARestart,
        }
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
        let reply = self.reply();
        let mut pause = Duration::from_millis(20);
        loop {
            let patience = deadline.saturating_duration_since(Instant::now()).clamp(CONFIRMATION / 50, CONFIRMATION);
            let asked = self.origin.link.request(reply.as_str(), HeaderMap::new(), AckKind::Ack.into(), patience).await;
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
        say(self.origin.link.client.clone(), self.reply(), AckKind::Nak(None)).await;
    }

    /// Hands the message back; it comes again after `delay` at the earliest.
    pub async fn hand_back_for(self, delay: Duration) {
        say(self.origin.link.client.clone(), self.reply(), AckKind::Nak(Some(delay))).await;
    }

    /// Begins the ack wait anew, for a conversation that takes long.
    pub fn in_progress(&self) -> impl Future<Output = ()> + Send + use<> {
        say(self.origin.link.client.clone(), self.reply(), AckKind::Progress)
    }
}

async fn say(client: Client, reply: String, kind: AckKind) {
    if let Err(error) = client.publish(reply, kind.into()).await {
        tracing::debug!(%error, "an acknowledgement was not sent");
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.reply())
    }
}

/// `$JS.ACK.<...>.<consumer>.` and the five numbers behind it.
fn split(reply: &str) -> Option<(&str, [u64; 5])> {
    let mut numbers = [0; 5];
    let mut rest = reply;
    for number in numbers.iter_mut().rev() {
        let (before, text) = rest.rsplit_once('.')?;
        *number = text.parse().ok().filter(|number: &u64| number.to_string() == text)?;
        rest = before;
    }
    reply.get(..=rest.len()).map(|prefix| (prefix, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_taken_apart_where_it_can_be_put_together_again() {
        let reply = "$JS.ACK.READY_T.ready-t00.1.42.7.1763786400123456789.0";
        assert_eq!(split(reply), Some(("$JS.ACK.READY_T.ready-t00.", [1, 42, 7, 1_763_786_400_123_456_789, 0])));
        for other in ["$JS.ACK.READY_T.ready-t00.1.42.7.1763786400123456789.0.x", "$JS.ACK.a.b.01.2.3.4.5", "x", ""] {
            assert_eq!(split(other), None, "{other}");
        }
    }
}
