//! What a reply means: what becomes of the recipient it was given about, what kind of trouble it is, and whom or what it is
//! about. Unknown codes are temporary: nothing unknown becomes a permanent failure.

use postrider_model::{EnhancedCode, Outcome, Reply};

use crate::dispatcher::AttemptResult;

mod class;
pub use class::{ReplyClass, Scope};

mod rule;

mod rules;

mod classify;
pub use classify::{Classified, classify};

#[cfg(test)]
mod tests;

/// What becomes of a recipient after an attempt, and what is written down about it. Temporary failures are `Deferred`;
/// whether the message has grown too old meanwhile is not asked here.
pub fn outcome_of(result: &AttemptResult) -> (Outcome, Reply) {
    match result {
        AttemptResult::Delivered(reply) => (Outcome::Delivered, reply.clone()),
        AttemptResult::Refused(reply) if reply.is_permanent() => (Outcome::Bounced, reply.clone()),
        AttemptResult::Refused(reply) => (Outcome::Deferred, reply.clone()),
        AttemptResult::Unsent { permanent: true, reply } => (Outcome::Bounced, reply.clone()),
        AttemptResult::Unsent { permanent: false, reply } => (Outcome::Deferred, reply.clone()),
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
    Reply::new(451, Some(EnhancedCode(4, 4, 1)), text)
}

#[cfg(test)]
mod outcome_tests {
    use super::*;

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
