//! HOLD, and what operators have ordered, as `postrider-nats` reads and writes them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::retry::fullness_for_new;
use postrider_model::{Rule, RuleId, Tier};

use super::{DELAYS, PublishError, Spool, retry_stream};
use crate::nats::{Packet, Payload, Unanswered};

impl Spool {
    /// To HOLD.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn copy_to_hold(&self, packet: &Packet) -> Result<(), PublishError> {
        let payload = Payload::Packet(Rc::new(packet.clone()));
        self.publish("hold.mail".to_owned(), packet.id().to_string(), payload).await.map(|_| ())
    }

    /// The rules, and how full HOLD and the tiers are, in thousandths.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn rules(&self) -> Result<(BTreeMap<RuleId, Rule>, u64, [u64; Tier::ALL.len()]), Unanswered> {
        let read = |stored: &crate::jetstream::Stored<Payload>| match &stored.payload {
            Some(Payload::Rule(rule)) => Some((rule.id.clone(), (**rule).clone())),
            _ => None,
        };
        let ask = self.client.ask(move |server, _| {
            let rules = server.all("CONFIG").filter_map(read).collect();
            let tiers = Tier::ALL.map(|tier| server.fullness(|stream| stream == retry_stream(tier)));
            Some((rules, server.fullness(|stream| stream == "HOLD"), tiers))
        });
        ask.await
    }

    /// Whether new mail that lives for `life` is refused: as ingress does.
    #[allow(clippy::cast_precision_loss, reason = "thousandths")]
    pub async fn is_full_for(&self, life: Duration) -> bool {
        let ask = self.client.ask(|server, _| {
            let others = server.fullness(|stream| stream != "HOLD" && !stream.starts_with("RETRY"));
            let tiers = Tier::ALL.map(|tier| server.fullness(|stream| stream == retry_stream(tier)) as f64 / 1_000.0);
            Some((others, tiers))
        });
        ask.await.is_ok_and(|(others, tiers)| others >= 800 || fullness_for_new(&tiers, life, &DELAYS) >= 0.8)
    }

    /// How much is in HOLD, and the last sequence that it gave out.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn hold_state(&self) -> Result<(usize, u64), Unanswered> {
        self.client.ask(|server, _| Some((server.all("HOLD").count(), server.last_sequence("HOLD")))).await
    }

    /// Some of what is in HOLD behind a sequence; none at its end.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn read_hold(&self, after: u64, most: usize) -> Result<Vec<(u64, Rc<Packet>)>, Unanswered> {
        let ask = self.client.ask(move |server, _| {
            let behind = server.all("HOLD").filter(|stored| stored.sequence > after);
            let packets = behind.filter_map(|stored| match &stored.payload {
                Some(Payload::Packet(packet)) => Some((stored.sequence, Rc::clone(packet))),
                _ => None,
            });
            Some(packets.take(most).collect())
        });
        ask.await
    }

    /// Deletes what was brought to READY. What is not there any more is as good.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn delete_held(&self, sequence: u64) -> Result<(), Unanswered> {
        self.client.ask(move |server, now| Some(server.delete("HOLD", sequence, now))).await.map(|_| ())
    }
}
