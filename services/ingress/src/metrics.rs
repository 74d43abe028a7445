//! What the ingress counts. Labels are the configured listeners, the class, and fixed words: nothing that a client sends.

use std::time::Duration;

use postrider_model::Class;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::config::IngressConfig;
use crate::refusal::Because;

/// The metrics of one ingress.
#[derive(Clone, Debug)]
pub struct Metrics {
    accepted: IntCounterVec,
    recipients: IntCounterVec,
    bytes: IntCounterVec,
    delayed: IntCounterVec,
    refused: IntCounterVec,
    sessions: IntCounterVec,
    connections: IntGaugeVec,
    auth_failures: IntCounter,
    bytes_in_flight: IntGauge,
    oldest_publish: Gauge,
    fullness: Gauge,
    publish: Histogram,
    accept: Histogram,
}

const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// A session that is counted as a connection until this is dropped.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers all of them. Every reason to refuse is there from the start, at zero.
    ///
    /// # Errors
    /// If one is registered already: two ingresses need two registries.
    pub fn register(registry: &Registry, config: &IngressConfig) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let histogram = |name: &str, help: &str| -> Result<Histogram, prometheus::Error> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let connections =
            IntGaugeVec::new(Opts::new("postrider_ingress_connections", "Open connections."), &["listener"])?;
        registry.register(Box::new(connections.clone()))?;
        let auth_failures = IntCounter::new("postrider_ingress_auth_failures_total", "Wrong credentials.")?;
        registry.register(Box::new(auth_failures.clone()))?;
        let bytes_in_flight = IntGauge::new(
            "postrider_ingress_bytes_in_flight",
            "Bytes of messages that are being received or made durable.",
        )?;
        registry.register(Box::new(bytes_in_flight.clone()))?;
        let budget = IntGauge::new(
            "postrider_ingress_bytes_in_flight_limit",
            "What postrider_ingress_bytes_in_flight may come to (ingress.bounds.bytes_in_flight).",
        )?;
        budget.set(i64::try_from(config.bounds.bytes_in_flight).unwrap_or(i64::MAX));
        registry.register(Box::new(budget))?;
        let gauge = |name: &str, help: &str| -> Result<Gauge, prometheus::Error> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let refused = counters(
            "postrider_refused_total",
            "Commands, messages and connections refused, by why.",
            &["reason", "listener"],
        )?;
        for listener in &config.listeners {
            for because in Because::ALL {
                refused.with_label_values(&[because.as_str(), &listener.name]);
            }
        }
        Ok(Self {
            accepted: counters(
                "postrider_accepted_messages_total",
                "Messages answered with 250.",
                &["class", "listener"],
            )?,
            recipients: counters("postrider_accepted_recipients_total", "Their recipients.", &["class"])?,
            bytes: counters("postrider_accepted_bytes_total", "Their bytes.", &["class"])?,
            delayed: counters(
                "postrider_ingress_delayed_messages_total",
                "Messages that went straight to a tier because they would only have waited.",
                &["class"],
            )?,
            refused,
            sessions: counters("postrider_ingress_sessions_total", "Sessions begun.", &["listener"])?,
            connections,
            auth_failures,
            bytes_in_flight,
            oldest_publish: gauge(
                "postrider_ingress_oldest_publish_seconds",
                "How long the oldest message has waited for its PubAck.",
            )?,
            fullness: gauge(
                "postrider_ingress_queue_fullness_ratio",
                "How full the fullest stream is that mail must pass, or the emptiest of the tiers that stand in for each other; from 0.8 on new mail hears 452.",
            )?,
            publish: histogram(
                "postrider_ingress_publish_seconds",
                "Time from the first publish of a message to its last PubAck.",
            )?,
            accept: histogram("postrider_ingress_accept_seconds", "Time from the end of a message to its reply.")?,
        })
    }

    /// A session begins.
    pub fn session(&self, listener: &str) -> Counted {
        self.sessions.with_label_values(&[listener]).inc();
        let connections = self.connections.with_label_values(&[listener]);
        connections.inc();
        Counted(connections)
    }

    /// A message was accepted.
    pub fn accepted(&self, listener: &str, class: Class, recipients: usize, bytes: usize) {
        self.accepted.with_label_values(&[class.as_str(), listener]).inc();
        self.recipients.with_label_values(&[class.as_str()]).inc_by(u64::try_from(recipients).unwrap_or(u64::MAX));
        self.bytes.with_label_values(&[class.as_str()]).inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A message went straight to a tier.
    pub fn delayed(&self, class: Class) {
        self.delayed.with_label_values(&[class.as_str()]).inc();
    }

    /// Something was refused.
    pub fn refused(&self, listener: &str, because: Because) {
        if because == Because::Credentials {
            self.auth_failures.inc();
        }
        self.refused.with_label_values(&[because.as_str(), listener]).inc();
    }

    /// What is looked at every second.
    pub fn watched(&self, bytes_in_flight: usize, oldest_publish: Duration, fullness: f64) {
        self.bytes_in_flight.set(i64::try_from(bytes_in_flight).unwrap_or(i64::MAX));
        self.oldest_publish.set(oldest_publish.as_secs_f64());
        self.fullness.set(fullness);
    }

    /// A message was made durable, or not, in so long.
    pub fn published(&self, took: Duration) {
        self.publish.observe(took.as_secs_f64());
    }

    /// A message was answered after so long.
    pub fn answered(&self, took: Duration) {
        self.accept.observe(took.as_secs_f64());
    }
}
