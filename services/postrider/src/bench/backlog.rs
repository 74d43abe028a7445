//! Mail that waits for a closed site, put into the tiers as deliveries leave it there: envelopes alone, the body in BODY. Straight
//! into JetStream, since millions by SMTP would take longer than what is measured. It also turns: as many come due each second as
//! of such a backlog in reality.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use postrider_model::{
    Body, Class, Envelope, EnvelopeState, MessageId, Reply, ReversePath, ShardLayout, Tier, Timestamp,
};
use postrider_nats::{NatsConfig, Spool};
use postrider_proto::Packet;
use postrider_runtime::clock;
use tokio_util::sync::CancellationToken;

/// The site that is down.
pub const CLOSED: &str = "closed.example";

/// How long the shortest tier makes wait here, so that a trial sees mail turn.
const SHORTEST_TIER: Duration = Duration::from_secs(10);

/// Bytes that the streams may hold: millions.
const STORAGE_BYTES: u64 = 64 << 30;

/// Publications under way at the same time.
const AT_ONCE: usize = 2_000;

/// The table [nats] for `up`.
pub fn settings() -> String {
    let delays = config("").tier_delays_secs.map(|secs| format!("{secs:?}")).join(", ");
    format!("[nats]\nstorage_bytes = {STORAGE_BYTES}\ntier_delays_secs = [{delays}]\n")
}

fn config(url: &str) -> NatsConfig {
    let mut config = NatsConfig { urls: vec![url.to_owned()], storage_bytes: STORAGE_BYTES, ..NatsConfig::default() };
    if let Some(first) = config.tier_delays_secs.first_mut() {
        *first = SHORTEST_TIER.as_secs_f64();
    }
    config
}

/// How many of a backlog come due each second: half of it waits an hour a turn, half four hours.
pub fn turning(waiting: usize) -> f64 {
    waiting as f64 / 2.0 * (1.0 / 3_600.0 + 1.0 / 14_400.0)
}

/// Fills.
pub struct Backlog {
    spool: Spool,
    body: Body,
    /// How many wait.
    pub waiting: usize,
}

impl Backlog {
    /// Over the queue of a running system.
    ///
    /// # Errors
    /// If the queue cannot be opened.
    pub async fn open(nats: &str, message: Vec<u8>) -> anyhow::Result<Self> {
        let spool = Spool::open(&config(&format!("nats://{nats}")), "bench", ShardLayout::SINGLE).await?;
        let body = spool.store_body(Bytes::from(message), postrider_nats::Sharing::Shared).await?;
        Ok(Self { spool, body, waiting: 0 })
    }

    /// Adds until so many wait.
    ///
    /// # Errors
    /// If JetStream does not take them, or the bench is stopped.
    pub async fn fill(&mut self, waiting: usize, stop: &CancellationToken) -> anyhow::Result<()> {
        let this = &*self;
        stream::iter(this.waiting..waiting)
            .map(|number| async move {
                anyhow::ensure!(!stop.is_cancelled(), "stopped");
                let tier = if number.is_multiple_of(2) { Tier::H1 } else { Tier::H4 };
                this.put(number, tier).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.waiting = self.waiting.max(waiting);
        Ok(())
    }

    /// Lets mail come due as of a backlog of that size, until `stop`.
    ///
    /// # Errors
    /// If JetStream does not take it.
    pub async fn turn(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        const STEP: Duration = Duration::from_millis(100);
        let mut ticks = tokio::time::interval(STEP);
        let (mut due, mut sent) = (0.0, 0usize);
        while !stop.is_cancelled() {
            ticks.tick().await;
            due += turning(self.waiting) * STEP.as_secs_f64();
            let mut numbers = Vec::new();
            while (sent as f64) < due {
                // Numbers of their own, apart from those of the backlog.
                numbers.push(usize::MAX / 2 + sent);
                sent += 1;
            }
            stream::iter(numbers)
                .map(|number| self.put(number, Tier::M1))
                .buffer_unordered(100)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }

    /// How long until the first of what turns is due.
    pub fn first_due() -> Duration {
        SHORTEST_TIER + Duration::from_secs(2)
    }

    async fn put(&self, number: usize, tier: Tier) -> anyhow::Result<()> {
        let packet = Packet::new(envelope(number, clock::now())?, self.body.clone());
        self.spool.copy_to_tier(&packet, tier).await.context("the backlog cannot be filled")
    }
}

fn envelope(number: usize, now: Timestamp) -> anyhow::Result<Envelope> {
    let mut unique = [0u8; 10];
    for (to, from) in unique.iter_mut().zip((number as u64).to_be_bytes()) {
        *to = from;
    }
    Ok(Envelope {
        message: MessageId::new(now, unique),
        part: 0,
        tenant: "demo".parse()?,
        class: Class::Bulk,
        campaign: None,
        pool: None,
        sender: ReversePath::Null,
        recipients: vec![format!("somebody{number}@{CLOSED}").parse()?],
        arrival: now,
        not_before: None,
        expiry: now.after(Duration::from_secs(4 * 86_400)),
        header_message_id: format!("{number}@bench.example"),
        from_domain: Some("bench.example".parse()?),
        size_bytes: 1_024,
        eight_bit: false,
        smtputf8: false,
        metadata: Vec::new(),
        state: EnvelopeState {
            hop: 1,
            attempt: 1,
            site: CLOSED.parse()?,
            slice: 0,
            pending: vec![0],
            last_reply: Some(Reply::new(451, "4.4.1".parse().ok(), "cannot connect")),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_backlog_turns_each_hour_and_half_every_four() {
        assert!((turning(7_200) - 1.25).abs() < 1e-9);
    }

    #[test]
    fn what_waits_is_an_envelope_like_any_other() {
        let packet = Packet::new(
            envelope(7, Timestamp::from_millis(1)).unwrap(),
            Body::Inline { bytes: Bytes::new(), compressed: false },
        );
        assert_eq!(Packet::decode(packet.encode()).unwrap(), packet);
    }
}
