//! The kinds of trouble a refusal can be about, and whom or what it can be about.

use postrider_model::{EnhancedCode, Reply};

/// The kind of trouble a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplyClass {
    /// Not trouble at all.
    Positive,
    /// Too much at once: connections, messages, recipients. Less of it would have been taken.
    RateLimited,
    /// Refused for what is known of the sender: its address, its network, a listing, its reputation.
    Blocked,
    /// Something that proves who sends is missing or wrong: SPF, DKIM, DMARC, the name of the address, TLS.
    Authentication,
    /// Refused because it is new; the same again a little later is taken.
    Greylisted,
    /// No such mailbox or domain, or one that has moved.
    BadAddress,
    /// The mailbox exists and takes nothing: full, disabled.
    Mailbox,
    /// What the message holds or how it is made: spam, a virus, a link, its size, its headers.
    Content,
    /// The receiving system itself: overloaded, out of order.
    System,
    /// Connections, routing, loops.
    Network,
    /// Commands and their order.
    Protocol,
    /// A policy that says no more about itself, or is the recipient's own.
    Policy,
    /// Nothing that can be told.
    Other,
}

/// Whom or what a reply is about, so that nobody else pays for it. Only what is about the source moves the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This recipient; the next one may be welcome.
    Recipient,
    /// This message (or this conversation); the next one may be welcome.
    Message,
    /// All mail of the domain that signs or sends it, from whichever address.
    SigningDomain,
    /// All mail from the address it came from: the path.
    Source,
    /// The site, whoever sends.
    Site,
}

impl ReplyClass {
    /// All classes.
    pub const ALL: [Self; 13] = [
        Self::Positive,
        Self::RateLimited,
        Self::Blocked,
        Self::Authentication,
        Self::Greylisted,
        Self::BadAddress,
        Self::Mailbox,
        Self::Content,
        Self::System,
        Self::Network,
        Self::Protocol,
        Self::Policy,
        Self::Other,
    ];

    /// What the numbers alone say: the enhanced code (RFC 3463 section 3), else the code (RFC 5321 section 4.2.3). The last
    /// resort; [`super::classify`] reads the text first.
    pub fn of(reply: &Reply) -> Self {
        if reply.is_positive() {
            return Self::Positive;
        }
        match (reply.enhanced, reply.code) {
            (Some(EnhancedCode(_, 1, _)), _) => Self::BadAddress,
            (Some(EnhancedCode(_, 2, _)), _) => Self::Mailbox,
            (Some(EnhancedCode(_, 3, _)), _) => Self::System,
            (Some(EnhancedCode(_, 4, _)), _) => Self::Network,
            (Some(EnhancedCode(_, 5, _)), _) => Self::Protocol,
            (Some(EnhancedCode(_, 6, _)), _) => Self::Content,
            (Some(EnhancedCode(_, 7, _)), _) => Self::Policy,
            (_, 550 | 551 | 553) => Self::BadAddress,
            (_, 450 | 452 | 552) => Self::Mailbox,
            (_, 451 | 432) => Self::System,
            (_, 421 | 447) => Self::Network,
            (_, 500..=504 | 555) => Self::Protocol,
            (_, 530 | 534 | 535 | 554) => Self::Policy,
            _ => Self::Other,
        }
    }

    /// Whom such trouble is about where nothing more is known: rather too few than too many, and never the source by the
    /// numbers alone ([`Self::of`] knows neither rates nor blocks).
    pub const fn usual_scope(self) -> Scope {
        match self {
            Self::Positive | Self::BadAddress | Self::Mailbox => Scope::Recipient,
            Self::Greylisted | Self::Content | Self::Protocol | Self::Policy | Self::Other => Scope::Message,
            Self::Authentication => Scope::SigningDomain,
            Self::RateLimited | Self::Blocked => Scope::Source,
            Self::System | Self::Network => Scope::Site,
        }
    }

    /// A short name for metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::RateLimited => "rate-limited",
            Self::Blocked => "blocked",
            Self::Authentication => "authentication",
            Self::Greylisted => "greylisted",
            Self::BadAddress => "bad-address",
            Self::Mailbox => "mailbox",
            Self::Content => "content",
            Self::System => "system",
            Self::Network => "network",
            Self::Protocol => "protocol",
            Self::Policy => "policy",
            Self::Other => "other",
        }
    }
}

impl Scope {
    /// A short name for metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::SigningDomain => "signing-domain",
            Self::Source => "source",
            Self::Site => "site",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: u16, enhanced: Option<EnhancedCode>, class: ReplyClass) {
        assert_eq!(ReplyClass::of(&Reply::new(code, enhanced, "")), class);
    }

    #[test]
    fn the_enhanced_code_says_more_than_the_code() {
        check(550, Some(EnhancedCode(5, 7, 1)), ReplyClass::Policy);
        check(550, Some(EnhancedCode(5, 1, 1)), ReplyClass::BadAddress);
        check(550, None, ReplyClass::BadAddress);
        check(452, Some(EnhancedCode(4, 3, 1)), ReplyClass::System);
        check(250, None, ReplyClass::Positive);
        check(999, None, ReplyClass::Other);
    }

    #[test]
    fn the_numbers_alone_never_move_a_path() {
        for code in 200..600 {
            for subject in 0..=8 {
                let enhanced = (subject < 8).then_some(EnhancedCode(5, subject, 1));
                let class = ReplyClass::of(&Reply::new(code, enhanced, ""));
                assert_ne!(class.usual_scope(), Scope::Source, "{code} {enhanced:?}");
            }
        }
    }

    #[test]
    fn every_class_has_a_name_of_its_own() {
        let mut names = ReplyClass::ALL.map(ReplyClass::as_str).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ReplyClass::ALL.len());
    }
}
