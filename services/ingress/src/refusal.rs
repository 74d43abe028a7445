//! Why something was not taken: what the client hears, and the word it is counted under. The words are few and fixed.

use postrider_model::{EnhancedCode, Reply};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client hears.
    pub reply: Reply,
    /// What it is counted under.
    pub because: Because,
}

impl Refusal {
    /// A refusal with an enhanced code.
    pub fn new(because: Because, code: u16, enhanced: (u8, u16, u16), text: &str) -> Self {
        let enhanced = EnhancedCode(enhanced.0, enhanced.1, enhanced.2);
        Self { reply: Reply::new(code, Some(enhanced), text), because }
    }
}

/// The reasons, as they stand in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// Too many connections in all or from one address.
    Connections,
    /// The client spoke before it was greeted.
    EarlyTalker,
    /// Wrong credentials.
    Credentials,
    /// Too many wrong credentials from one address.
    TooManyFailures,
    /// Neither authenticated nor from a configured network.
    Relay,
    /// The envelope sender is not the tenant's.
    Sender,
    /// No header From, several, or one that cannot be read.
    FromHeader,
    /// The header From is not the tenant's.
    FromDomain,
    /// A header of ours asks for what is not allowed, or is malformed.
    Directive,
    /// Too many `Received:` fields.
    Loop,
    /// Not a message.
    Malformed,
    /// The streams are (nearly) full.
    Full,
    /// NATS is out of reach or did not acknowledge.
    Unavailable,
    /// JetStream does not keep up.
    Strain,
    /// No room among the bytes in flight.
    Room,
    /// More recipients or bytes than one record may hold.
    TooLarge,
    /// The client was too slow.
    Slow,
}

impl Because {
    /// All reasons.
    pub const ALL: [Self; 17] = [
        Self::Connections,
        Self::EarlyTalker,
        Self::Credentials,
        Self::TooManyFailures,
        Self::Relay,
        Self::Sender,
        Self::FromHeader,
        Self::FromDomain,
        Self::Directive,
        Self::Loop,
        Self::Malformed,
        Self::Full,
        Self::Unavailable,
        Self::Strain,
        Self::Room,
        Self::TooLarge,
        Self::Slow,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::EarlyTalker => "early-talker",
            Self::Credentials => "credentials",
            Self::TooManyFailures => "too-many-failures",
            Self::Relay => "relay",
            Self::Sender => "sender",
            Self::FromHeader => "from-header",
            Self::FromDomain => "from-domain",
            Self::Directive => "directive",
            Self::Loop => "loop",
            Self::Malformed => "malformed",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Strain => "strain",
            Self::Room => "room",
            Self::TooLarge => "too-large",
            Self::Slow => "slow",
        }
    }
}
