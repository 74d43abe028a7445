//! What a reply means for the recipient it was given about: first what becomes of the recipient, then what kind of trouble
//! it is, for statistics. Unknown codes are temporary: nothing unknown becomes a permanent failure.

use postrider_model::{EnhancedCode, Outcome, Reply};

use crate::dispatcher::AttemptResult;

/// What becomes of a recipient after an attempt, and what is written down about it. Temporary failures are `Deferred`;
/// whether the message has grown too old meanwhile is not asked here.
pub fn outcome_of(result: &AttemptResult) -> (Outcome, Reply) {
    match result {
        AttemptResult::Delivered(reply) => (Outcome::Delivered, reply.clone()),
        AttemptResult::Refused(reply) if reply.is_permanent() => (Outcome::Bounced, reply.clone()),
        AttemptResult::Refused(reply) => (Outcome::Deferred, reply.clone()),
        AttemptResult::Unresolvable { permanent: true, reply } => (Outcome::Bounced, reply.clone()),
        AttemptResult::Unresolvable { permanent: false, reply } => (Outcome::Deferred, reply.clone()),
        AttemptResult::Lost { text, after_end_of_data } => (Outcome::Deferred, lost(text, *after_end_of_data)),
    }
}

/// Our own words for a conversation that broke off (RFC 3463: 4.4.2, bad connection).
pub fn lost(text: &str, after_end_of_data: bool) -> Reply {
    const LOST: &str = "connection lost";
    let how = match text.strip_suffix(LOST).map(|at| at.trim_end_matches([':', ' '])) {
        Some("") => LOST.to_owned(),
        Some(at) => format!("{LOST} {at}"),
        None => format!("{LOST}: {text}"),
    };
    let taken = if after_end_of_data { "; the message may have been taken" } else { "" };
    Reply::new(421, Some(EnhancedCode(4, 4, 2)), &format!("{how}{taken}"))
}

/// Our own words for a conversation that did not come about (RFC 3463: 4.4.1, no answer from host).
pub fn unreachable(text: &str) -> Reply {
    Reply::new(421, Some(EnhancedCode(4, 4, 1)), text)
}

/// The kind of trouble a refusal is about, read off its enhanced code (RFC 3463 section 3), else off its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplyClass {
    /// Not trouble at all.
    Positive,
    /// No such mailbox or domain, or one that has moved.
    BadAddress,
    /// The mailbox exists and takes nothing: full, disabled, message too large for it.
    Mailbox,
    /// The receiving system itself: full, overloaded, message too large.
    System,
    /// Connections, routing, loops.
    Network,
    /// Commands and their order.
    Protocol,
    /// The form of the content.
    Content,
    /// Policy and security: reputation, authentication, rates, greylisting.
    Policy,
    /// Nothing that can be told.
    Other,
}

impl ReplyClass {
    /// Reads the kind of a reply.
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

    /// A short name for metrics and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::BadAddress => "bad-address",
            Self::Mailbox => "mailbox",
            Self::System => "system",
            Self::Network => "network",
            Self::Protocol => "protocol",
            Self::Content => "content",
            Self::Policy => "policy",
            Self::Other => "other",
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
    fn a_conversation_that_broke_off_says_how_once() {
        assert_eq!(lost("at RCPT: connection lost", false).text, "connection lost at RCPT");
        let at_the_end = lost("at end of data: connection lost", true).text;
        assert_eq!(at_the_end, "connection lost at end of data; the message may have been taken");
        assert_eq!(lost("at RCPT: timed out", false).text, "connection lost: at RCPT: timed out");
        assert_eq!(lost("connection lost", false).text, "connection lost");
    }

    #[test]
    fn only_a_reply_of_5xx_bounces() {
        let outcome = |result| outcome_of(&result).0;
        let refused = |code| AttemptResult::Refused(Reply::new(code, None, ""));
        assert_eq!(outcome(refused(550)), Outcome::Bounced);
        assert_eq!([451, 421, 0, 700].map(|code| outcome(refused(code))), [Outcome::Deferred; 4]);
        let lost = AttemptResult::Lost { text: "reset".into(), after_end_of_data: true };
        assert_eq!(outcome(lost), Outcome::Deferred);
    }
}
