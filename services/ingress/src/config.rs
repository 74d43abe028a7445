//! The `[ingress]` table of a process: listeners, who may submit without AUTH, bounds and patience. Read once at start;
//! what changes while it runs (tenants, credentials, domains) is a `Snapshot` instead.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postrider_model::{Class, Domain, TenantId};
use postrider_net::Network;
use postrider_runtime::Hysteresis;
use serde::Deserialize;

mod text;

/// The `[ingress]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressConfig {
    /// The name in greetings, in `Received:` fields and in Message-IDs that are added: a name that resolves to this host.
    #[serde(deserialize_with = "text::parse")]
    pub host_name: Domain,
    /// Where mail is taken. Without any the ingress has nothing to do and does not start.
    #[serde(default)]
    pub listeners: Vec<ListenerConfig>,
    /// The certificate chain (PEM) of all listeners that speak TLS, the server's own certificate first. Read again every
    /// minute, so that a renewed one comes into force without a restart.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// The private key (PEM) of `certificate_file`.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Networks that may submit without AUTH, each as a tenant, on listeners that do not require AUTH. Off unless given.
    #[serde(default)]
    pub networks: Vec<NetworkConfig>,
    /// What one session, and all of them together, may take.
    #[serde(default)]
    pub bounds: BoundsConfig,
    /// How long is waited for what.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
    /// What guessing passwords costs.
    #[serde(default)]
    pub auth: AuthConfig,
    /// A message is given up when it is older than this, in seconds: 4 days, at most 7, since bodies are kept for 8.
    #[serde(default = "four_days")]
    pub expiry_secs: u64,
}

fn four_days() -> u64 {
    4 * 86_400
}

impl IngressConfig {
    /// A configuration with defaults for all but the name.
    pub fn new(host_name: Domain) -> Self {
        Self {
            host_name,
            listeners: Vec::new(),
            certificate_file: None,
            key_file: None,
            networks: Vec::new(),
            bounds: BoundsConfig::default(),
            timeouts: TimeoutsConfig::default(),
            auth: AuthConfig::default(),
            expiry_secs: four_days(),
        }
    }
}

/// One address that takes mail.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// A short name for logs and metrics.
    pub name: String,
    /// The address to bind, `ip:port`; port 0 takes a free one.
    pub address: SocketAddr,
    /// What it is for; decides the defaults of the keys below.
    pub kind: ListenerKind,
    /// Whether TLS is absent, offered by STARTTLS, or on from the first byte. Default: `starttls` where a certificate is
    /// configured, else `none`; for `submissions` always `implicit`.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Refuse MAIL until the client has authenticated. Default: not for `relay`, else yes.
    #[serde(default)]
    pub require_auth: Option<bool>,
    /// Take passwords over plain text too. For closed networks and trials only.
    #[serde(default)]
    pub allow_auth_without_tls: bool,
}

impl ListenerConfig {
    /// A listener with the defaults of its kind.
    pub fn new(name: &str, address: SocketAddr, kind: ListenerKind) -> Self {
        Self { name: name.to_owned(), address, kind, tls: None, require_auth: None, allow_auth_without_tls: false }
    }

    /// Whether MAIL is refused until the client has authenticated.
    pub fn requires_auth(&self) -> bool {
        self.require_auth.unwrap_or(match self.kind {
            ListenerKind::Relay => false,
            ListenerKind::Submission | ListenerKind::Submissions => true,
        })
    }

    /// How connections come by TLS, given whether there is a certificate.
    pub fn tls(&self, has_certificate: bool) -> ListenerTls {
        self.tls.unwrap_or(match self.kind {
            ListenerKind::Submissions => ListenerTls::Implicit,
            ListenerKind::Relay | ListenerKind::Submission if has_certificate => ListenerTls::StartTls,
            ListenerKind::Relay | ListenerKind::Submission => ListenerTls::None,
        })
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerKind {
    /// Port 25 or 2525: from configured networks, and from whoever authenticates.
    Relay,
    /// Port 587 (RFC 6409): from whoever authenticates.
    Submission,
    /// Port 465 (RFC 8314): the same, with TLS from the first byte.
    Submissions,
}

/// How connections come by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerTls {
    /// Not at all.
    None,
    /// By STARTTLS (RFC 3207), if the client wants.
    StartTls,
    /// On from the first byte (RFC 8314).
    Implicit,
}

/// Networks that may submit without AUTH.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Ranges of addresses: `10.1.0.0/16`, `127.0.0.1`.
    pub cidrs: Vec<Network>,
    /// As whom they submit.
    #[serde(deserialize_with = "text::parse")]
    pub tenant: TenantId,
    /// Let them use any sender and header From, not only the tenant's domains. For trials and benchmarks.
    #[serde(default)]
    pub any_sender: bool,
    /// The class of their mail unless `X-Postrider-Class` says otherwise.
    #[serde(default = "transactional", deserialize_with = "text::parse")]
    pub class: Class,
}

fn transactional() -> Class {
    Class::Transactional
}

/// What sessions may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoundsConfig {
    /// Connections in all; more are turned away with 421.
    pub connections: usize,
    /// Connections from one address (IPv6: one /64).
    pub connections_per_address: usize,
    /// Bytes of a message, announced with SIZE.
    pub message_bytes: usize,
    /// Recipients of a message.
    pub recipients: usize,
    /// Bytes of a line of a message. RFC 5321 section 4.5.3.1.6 allows 1000 with its end; raise it for submitters that do
    /// not keep to that.
    pub line_bytes: usize,
    /// Bytes of messages that are being received or made durable, over all connections. More wait a little, then hear 452.
    pub bytes_in_flight: usize,
    /// Malformed or misplaced commands before a session is ended.
    pub errors_per_session: u32,
    /// `Received:` fields from which on a message is taken to go round in circles.
    pub received_fields: usize,
}

impl Default for BoundsConfig {
    fn default() -> Self {
        Self {
            connections: 4_000,
            connections_per_address: 200,
            message_bytes: 50 << 20,
            recipients: 1_000,
            line_bytes: 1_000,
            bytes_in_flight: 512 << 20,
            errors_per_session: 20,
            received_fields: 50,
        }
    }
}

/// How long is waited.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsConfig {
    /// For a whole command line (RFC 5321 section 4.5.3.2.7: at least 5 minutes).
    pub command_secs: u64,
    /// For some more of a message (RFC 5321 section 4.5.3.2.5: 3 minutes).
    pub data_block_secs: u64,
    /// For a whole message.
    pub message_secs: u64,
    /// A message that has come in slower than this on average, after half a minute, is broken off.
    pub slowest_bytes_per_sec: u64,
    /// For a TLS handshake.
    pub handshake_secs: u64,
    /// For the client to take a reply.
    pub write_secs: u64,
    /// A session that is older than this is ended between two messages.
    pub session_secs: u64,
    /// For room among the bytes in flight, before 452.
    pub room_secs: u64,
    /// From a publish to its acknowledgement, or for any answer of JetStream, before the queue counts as strained: then the
    /// ingress is not ready, and new messages wait for `room_secs` and hear 452. A lost connection, too: mail hears 451 at once, and
    /// the ingress is not ready after this time.
    pub strain_secs: u64,
    /// Without anything that waited half of `strain_secs`, before the queue counts as recovered.
    pub calm_secs: u64,
    /// For the sites of all recipients, in milliseconds. Whatever is not known by then goes by its domain.
    pub sites_ms: u64,
    /// At shutdown: for sessions to end their message, before they are cut.
    pub drain_secs: u64,
}

impl TimeoutsConfig {
    /// What counts as strain, and when it is over.
    pub fn patience(&self) -> Hysteresis {
        Hysteresis::new(Duration::from_secs(self.strain_secs), Duration::from_secs(self.calm_secs))
    }
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self {
            command_secs: 300,
            data_block_secs: 180,
            message_secs: 1_800,
            slowest_bytes_per_sec: 256,
            handshake_secs: 30,
            write_secs: 60,
            session_secs: 3_600,
            room_secs: 10,
            strain_secs: 5,
            calm_secs: 5,
            sites_ms: 500,
            drain_secs: 35,
        }
    }
}

/// What wrong passwords cost.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Every refusal comes so long after the attempt, in milliseconds, whatever was wrong.
    pub failure_delay_ms: u64,
    /// Refused attempts in one session; the next one ends it.
    pub failures_per_session: u32,
    /// Refused attempts from one address (IPv6: one /64) within `failure_window_secs`, before further ones hear 421.
    pub failures_per_address: u32,
    /// How long failures of an address are remembered, in seconds, from the first one on.
    pub failure_window_secs: u64,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self { failure_delay_ms: 1_000, failures_per_session: 3, failures_per_address: 30, failure_window_secs: 600 }
    }
}

impl AuthConfig {
    pub(crate) fn failure_delay(&self) -> Duration {
        Duration::from_millis(self.failure_delay_ms)
    }

    pub(crate) fn failure_window(&self) -> Duration {
        Duration::from_secs(self.failure_window_secs)
    }
}

#[cfg(test)]
mod tests;
