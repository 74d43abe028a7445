//! How to reach NATS, and how large the spool may grow. Nothing here talks to a server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use postrider_model::TierDelays;
use serde::Deserialize;

/// The section `[nats]` of every process's configuration.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// Servers of one NATS cluster, `nats://host:port` or `tls://host:port`. One that answers is enough to start.
    pub urls: Vec<String>,
    /// A NATS credentials file (JWT and key).
    pub credentials_file: Option<PathBuf>,
    /// A user name; goes with `password`.
    pub user: Option<String>,
    /// The password of `user`.
    pub password: Option<String>,
    /// A token, where the server wants one.
    pub token: Option<String>,
    /// TLS to the servers.
    pub tls: NatsTls,
    /// The prefix of reply subjects, so that permissions can be given per role. No wildcards.
    pub inbox_prefix: String,
    /// Copies of everything: 1 on a single server, 3 in a cluster.
    pub replicas: usize,
    /// The store of the only server, if it is on this machine and does not call fsync itself: what it acknowledges counts when
    /// the filesystem of this folder has been synced (syncfs), which is done for many at once. ext4 or btrfs.
    pub sync_folder: Option<PathBuf>,
    /// What all streams together may hold, in bytes. It is reserved in JetStream's store (`max_file_store`) when the
    /// streams are made and shared out among them; a changed value is applied at the next start.
    pub storage_bytes: u64,
    /// How long a publish is tried again before the sender hears 451.
    pub publish_budget_secs: u64,
    /// How long the tiers `1m 5m 15m 1h 4h` make wait, in seconds. The same in every process of a cluster; trials may
    /// shorten them.
    pub tier_delays_secs: [f64; 5],
}

/// TLS towards NATS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsTls {
    /// Refuse a server without TLS. Implied by a `tls://` URL and by the files below.
    pub required: bool,
    /// Certificates to trust (PEM) instead of those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show (PEM); goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file` (PEM).
    pub key_file: Option<PathBuf>,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".to_owned()],
            credentials_file: None,
            user: None,
            password: None,
            token: None,
            tls: NatsTls::default(),
            inbox_prefix: "_INBOX_postrider".to_owned(),
            replicas: 1,
            sync_folder: None,
            storage_bytes: 8 << 30,
            publish_budget_secs: 30,
            tier_delays_secs: [60.0, 300.0, 900.0, 3_600.0, 14_400.0],
        }
    }
}

impl NatsConfig {
    /// The delays of the tiers. A delay that is no positive number counts as one millisecond.
    pub fn tier_delays(&self) -> TierDelays {
        let shortest = Duration::from_millis(1);
        TierDelays::new(
            self.tier_delays_secs.map(|secs| Duration::try_from_secs_f64(secs).unwrap_or(shortest).max(shortest)),
        )
    }

    /// How long a publish is tried again.
    pub fn publish_budget(&self) -> Duration {
        Duration::from_secs(self.publish_budget_secs)
    }
}

/// Secrets are not printed.
impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("NatsConfig")
            .field("urls", &self.urls)
            .field("credentials_file", &self.credentials_file)
            .field("user", &self.user)
            .field("password", &hidden(&self.password))
            .field("token", &hidden(&self.token))
            .field("tls", &self.tls)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("replicas", &self.replicas)
            .field("sync_folder", &self.sync_folder)
            .field("storage_bytes", &self.storage_bytes)
            .field("publish_budget_secs", &self.publish_budget_secs)
            .field("tier_delays_secs", &self.tier_delays_secs)
            .finish()
    }
}
