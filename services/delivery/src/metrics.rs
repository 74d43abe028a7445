//! What delivery counts. Labels come from bounded sets only: class, outcome, reason, and the site if it is a configured one,
//! else `other`.

use std::collections::BTreeSet;

use postrider_dispatch::reply_class::classify;
use postrider_model::{Class, Outcome, Reply, SiteName};
use postrider_nats::{DeadState, PromoterEvent, SplitterEvent};
use postrider_runtime::fault;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// The metrics of one delivery service.
#[derive(Clone)]
pub struct Metrics {
    sites: BTreeSet<String>,
    recipients: IntCounterVec,
    replies: IntCounterVec,
    moves: IntCounterVec,
    split: IntCounter,
    first_attempt: HistogramVec,
    end_to_end: HistogramVec,
    failures: IntCounterVec,
    /// Envelopes in the index by class and state (`ready`, `in-flight`, or a reason to wait).
    pub depth: IntGaugeVec,
    /// Seconds since the oldest envelope in the index was accepted, by class.
    pub oldest: IntGaugeVec,
    /// Open conversations.
    pub conversations: IntGauge,
    /// Shards owned.
    pub shards: IntGauge,
    /// Seconds to a PubAck of a batch of EVENTS.
    pub publish: Histogram,
    /// Envelopes in the tiers of the whole cluster, by tier and class.
    pub tiers: IntGaugeVec,
    /// Messages that are accepted and not cut into parts yet.
    pub intake: IntGauge,
    /// Of the dead letters.
    pub dead: Dead,
    /// Bytes of bodies held in memory.
    pub body_bytes: IntGauge,
    /// Bytes of the index without bodies, estimated.
    pub index_bytes: IntGauge,
    /// How many bytes of bodies may be held in memory.
    pub body_bytes_limit: IntGauge,
    /// Envelopes in the index, of whatever class and state.
    pub index_entries: IntGauge,
    /// How many envelopes the index takes, with the shards that are owned now.
    pub index_entries_limit: IntGauge,
    /// What they would take in bytes, estimated.
    pub index_bytes_limit: IntGauge,
}

const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 86_400.0];

/// Of the dead letters of the whole cluster.
#[derive(Clone)]
pub struct Dead {
    letters: IntGauge,
    bytes: IntGauge,
    bytes_limit: IntGauge,
    discarded: IntGauge,
}

impl Dead {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            letters: gauge("postrider_dead_letters", "Records that could not be read, kept among the dead letters.")?,
            bytes: gauge("postrider_dead_letter_bytes", "Bytes of the dead letters.")?,
            bytes_limit: gauge(
                "postrider_dead_letter_bytes_limit",
                "How many bytes of dead letters there may be; the oldest are discarded then.",
            )?,
            discarded: gauge(
                "postrider_dead_letters_discarded",
                "Dead letters that were discarded since the stream was made: gone, and removed by no order.",
            )?,
        })
    }

    /// As it is now.
    pub fn show(&self, state: &DeadState) {
        let all = [
            (&self.letters, state.letters),
            (&self.bytes, state.bytes),
            (&self.bytes_limit, state.bytes_limit),
            (&self.discarded, state.discarded),
        ];
        for (gauge, number) in all {
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }
}

impl Metrics {
    /// Registers all of them. `sites` are the names that may appear as labels.
    ///
    /// # Errors
    /// If one is registered already.
    pub fn register(registry: &Registry, sites: BTreeSet<String>) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| -> Result<HistogramVec, prometheus::Error> {
            let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let publish = Histogram::with_opts(
            HistogramOpts::new("postrider_delivery_publish_seconds", "Time to the PubAck of a batch of EVENTS.")
                .buckets(SECONDS.to_vec()),
        )?;
        registry.register(Box::new(publish.clone()))?;
        let split = IntCounter::new("postrider_parts_split_total", "Parts made of messages for several sites.")?;
        registry.register(Box::new(split.clone()))?;
        Ok(Self {
            split,
            sites,
            recipients: counter(
                "postrider_recipients_total",
                "Recipients by what they met: delivered, deferred, moved, bounced, expired, dead, suspended, deleted.",
                &["event", "class", "site"],
            )?,
            replies: counter(
                "postrider_replies_total",
                "Recipients put off or refused, by what the reply was about and whom or what.",
                &["reply_class", "scope", "site"],
            )?,
            moves: counter("postrider_moves_total", "Moves of envelopes between streams by kind.", &["kind", "class"])?,
            first_attempt: histograms(
                "postrider_first_attempt_seconds",
                "Time from acceptance to the first conversation.",
                &["class"],
            )?,
            end_to_end: histograms(
                "postrider_end_to_end_seconds",
                "Time from acceptance to the exchanger's 250.",
                &["class"],
            )?,
            failures: counter(
                "postrider_conversation_failures_total",
                "Conversations that failed before a message, by whose fault it was.",
                &["scope", "site"],
            )?,
            depth: gauges("postrider_index_envelopes", "Envelopes in the index.", &["class", "state"])?,
            oldest: gauges(
                "postrider_index_oldest_seconds",
                "Age of the oldest envelope in the index since acceptance.",
                &["class"],
            )?,
            tiers: gauges(
                "postrider_tier_envelopes",
                "Envelopes that wait in the tiers of the whole cluster.",
                &["tier", "class"],
            )?,
            intake: gauge("postrider_intake_messages", "Messages accepted and not cut into parts yet.")?,
            dead: Dead::new(registry)?,
            conversations: gauge("postrider_conversations", "Open conversations with exchangers.")?,
            shards: gauge("postrider_shards_owned", "Shards owned by this process.")?,
            body_bytes: gauge("postrider_body_bytes", "Bytes of message bodies held in memory.")?,
            index_bytes: gauge(
                "postrider_index_bytes",
                "Bytes of the index without bodies, at 512 for each envelope.",
            )?,
            body_bytes_limit: gauge(
                "postrider_body_bytes_limit",
                "Bytes of message bodies that may be held in memory.",
            )?,
            index_entries: gauge("postrider_index_entries", "Envelopes in the index of this process.")?,
            index_entries_limit: gauge(
                "postrider_index_entries_limit",
                "Envelopes that the index of this process takes, with the shards that it owns now.",
            )?,
            index_bytes_limit: gauge(
                "postrider_index_bytes_limit",
                "Bytes of the index without bodies at its limit, at 512 for each envelope.",
            )?,
            publish,
        })
    }

    fn site<'a>(&self, site: &'a SiteName) -> &'a str {
        if self.sites.contains(site.as_str()) { site.as_str() } else { "other" }
    }

    /// Counts what a recipient met.
    pub fn recipient(&self, outcome: Outcome, class: Class, site: &SiteName) {
        self.recipients.with_label_values(&[outcome.as_str(), class.as_str(), self.site(site)]).inc();
    }

    /// Counts what a reply that put off or refused was about.
    pub fn reply(&self, site: &SiteName, reply: &Reply) {
        let read = classify(site, reply);
        self.replies.with_label_values(&[read.class.as_str(), read.scope.as_str(), self.site(site)]).inc();
    }

    /// Counts a move: `finished`, a tier, `site` or `dead`.
    pub fn moved(&self, kind: &str, class: Class) {
        self.moves.with_label_values(&[kind, class.as_str()]).inc();
    }

    /// Records the wait for the first conversation.
    pub fn first_attempt(&self, class: Class, waited: std::time::Duration) {
        self.first_attempt.with_label_values(&[class.as_str()]).observe(waited.as_secs_f64());
    }

    /// Records the time to an exchanger's 250.
    pub fn delivered(&self, class: Class, took: std::time::Duration) {
        self.end_to_end.with_label_values(&[class.as_str()]).observe(took.as_secs_f64());
    }

    /// Counts a conversation that failed before it carried a message.
    pub fn conversation_failed(&self, scope: &str, site: &SiteName) {
        self.failures.with_label_values(&[scope, self.site(site)]).inc();
    }
}

impl Metrics {
    /// What a promoter tells.
    pub fn promoter(&self, event: &PromoterEvent) {
        match event {
            PromoterEvent::Published { .. } => fault::point("promoter-published"),
            PromoterEvent::Delayed { class, .. } => {
                fault::point("promoter-published");
                self.moved("delayed", *class);
            }
            PromoterEvent::Promoted { class, .. } => self.moved("promoted", *class),
        }
    }

    /// What the splitter tells.
    pub fn splitter(&self, event: &SplitterEvent) {
        match event {
            SplitterEvent::Published => fault::point("splitter-published"),
            SplitterEvent::Split { parts } => self.split.inc_by(*parts),
        }
    }
}
