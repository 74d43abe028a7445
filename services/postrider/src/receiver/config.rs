//! The receiver's configuration: how it is reached, what it keeps, and which provider it plays. Holds and reads, no more.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Configuration of `postrider receiver`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiverConfig {
    /// Where it listens, `127.0.0.1:2026`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The name in its greeting, and in its certificate.
    pub host_name: String,
    /// Offers STARTTLS with a self-signed certificate that is made at start.
    pub starttls: bool,
    /// The file that gets one line for each accepted (message, recipient); it is appended to.
    pub ledger: Option<PathBuf>,
    /// A folder that gets each accepted message as a file, byte for byte as it came (without dot-stuffing).
    pub store: Option<PathBuf>,
    /// The largest message taken, in bytes.
    pub message_bytes: usize,
    /// The most recipients in one transaction; more get 452 4.5.3.
    pub recipients: usize,
    /// What it does to everybody before a recipient is named.
    pub misbehave: Option<Misbehaviour>,
    /// Limits per source address.
    pub limits: LimitsConfig,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 2026)),
            host_name: "receiver.localhost".to_owned(),
            starttls: false,
            ledger: None,
            store: None,
            message_bytes: 100 * 1024 * 1024,
            recipients: 1000,
            misbehave: None,
            limits: LimitsConfig::default(),
        }
    }
}

/// Limits per source address, and whose words refuse what is beyond them. Nothing is limited by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Whose replies are given.
    pub flavour: Flavour,
    /// The most connections open at once; one more is refused at its greeting.
    pub connections: Option<u32>,
    /// The most messages on one connection; at the next MAIL it is closed.
    pub messages_per_connection: Option<u32>,
    /// The most MAIL commands accepted in any 60 seconds; the next is refused.
    pub messages_per_minute: Option<u32>,
}

/// Whose replies the limits give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Replies as RFC 5321 and RFC 3463 suggest them.
    #[default]
    Plain,
    /// As Gmail: 421 4.7.28.
    Gmail,
    /// As Microsoft: 451 4.7.500, 421 4.7.0.
    Microsoft,
    /// As Yahoo: 421 4.7.0 \[TSS04\].
    Yahoo,
}

/// What a receiver does to every client before a recipient is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Misbehaviour {
    /// Never greets.
    HangGreeting,
    /// Never answers EHLO or HELO.
    HangEhlo,
    /// Never answers MAIL.
    HangMail,
    /// Drops the connection instead of a greeting.
    DisconnectGreeting,
    /// Drops the connection instead of answering EHLO or HELO.
    DisconnectEhlo,
    /// Drops the connection instead of answering MAIL.
    DisconnectMail,
    /// Every reply a byte a second, the greeting too.
    Drip,
}
