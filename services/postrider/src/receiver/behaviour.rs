//! What a recipient's name asks for: the table of the module above, read from a local part. Parses, does nothing.

use std::time::Duration;

use postrider_model::{EnhancedCode, Reply};

/// The longest that a name can make a reply wait.
const LONGEST_DELAY_SECONDS: u64 = 3600;

/// What happens to a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Accept,
    Refuse(Reply),
    Defer,
    /// Deferred at RCPT so often, then accepted.
    DeferTimes(u32),
    Busy,
    Drip(Duration),
    Hang,
    /// Drops at RCPT; whether replies that wait to be sent go out before.
    DropAtRecipient {
        replies_first: bool,
    },
    DropAtData,
    DropInBody,
    AtEnd(AtEnd),
}

/// What happens at the end of the data. The first of these wins in a transaction of several recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AtEnd {
    Drop,
    Hang,
    Refuse,
    Defer,
    DeferTimes(u32),
    Delay(Duration),
    DropAfter,
}

impl Behaviour {
    /// Reads a local part, up to a `+`.
    pub(super) fn of(local: &str) -> Self {
        let name = local.split('+').next().unwrap_or(local).to_ascii_lowercase();
        let (word, rest) = name.split_once('-').map_or((name.as_str(), None), |(word, rest)| (word, Some(rest)));
        match (word, rest) {
            ("refuse", None) => Self::refuse(550),
            ("refuse", Some("data")) => Self::AtEnd(AtEnd::Refuse),
            ("refuse", Some(code)) => match code.parse() {
                Ok(code @ 400..=599) => Self::refuse(code),
                Ok(_) | Err(_) => Self::Accept,
            },
            ("busy", None) => Self::Busy,
            ("delay", Some(seconds)) => match seconds.parse::<u64>() {
                Ok(seconds) => Self::AtEnd(AtEnd::Delay(Duration::from_secs(seconds.min(LONGEST_DELAY_SECONDS)))),
                Err(_) => Self::Accept,
            },
            ("drip", None) => Self::Drip(Duration::from_secs(1)),
            ("drip", Some(millis)) => millis.parse().map_or(Self::Accept, |m| Self::Drip(Duration::from_millis(m))),
            ("hang", None) => Self::Hang,
            ("hang", Some("data")) => Self::AtEnd(AtEnd::Hang),
            ("disconnect", Some("mail")) => Self::DropAtRecipient { replies_first: false },
            ("disconnect", Some("rcpt")) => Self::DropAtRecipient { replies_first: true },
            ("disconnect", Some("data")) => Self::DropAtData,
            ("disconnect", Some("body")) => Self::DropInBody,
            ("disconnect", Some("end")) => Self::AtEnd(AtEnd::Drop),
            ("disconnect", Some("after")) => Self::AtEnd(AtEnd::DropAfter),
            (word, rest) => word.strip_prefix("defer").map_or(Self::Accept, |count| Self::defer(count, rest)),
        }
    }

    fn defer(count: &str, rest: Option<&str>) -> Self {
        let times = if count.is_empty() { Ok(None) } else { count.parse().map(Some) };
        match (times, rest) {
            (Ok(None), None) => Self::Defer,
            (Ok(Some(times)), None) => Self::DeferTimes(times),
            (Ok(None), Some("data")) => Self::AtEnd(AtEnd::Defer),
            (Ok(Some(times)), Some("data")) => Self::AtEnd(AtEnd::DeferTimes(times)),
            (Ok(_), Some(_)) | (Err(_), _) => Self::Accept,
        }
    }

    fn refuse(code: u16) -> Self {
        let (enhanced, text) = match code {
            421 => (EnhancedCode(4, 3, 2), "service not available"),
            450 => (EnhancedCode(4, 2, 1), "mailbox is receiving mail too quickly"),
            452 => (EnhancedCode(4, 2, 2), "mailbox is full for now"),
            400..=499 => (EnhancedCode(4, 7, 1), "refused for now, as the recipient's name asks"),
            550 => (EnhancedCode(5, 1, 1), "no such user here"),
            552 => (EnhancedCode(5, 2, 2), "mailbox is full"),
            553 => (EnhancedCode(5, 1, 3), "mailbox name not allowed"),
            _ => (EnhancedCode(5, 7, 1), "refused, as the recipient's name asks"),
        };
        Self::Refuse(Reply::new(code, Some(enhanced), text))
    }
}

/// The reply of everything that defers.
pub(super) fn deferral() -> Reply {
    Reply::new(451, Some(EnhancedCode(4, 7, 1)), "deferred, as the recipient's name asks; try again later")
}

/// The reply of `refuse-data`.
pub(super) fn refusal_of_data() -> Reply {
    Reply::new(554, Some(EnhancedCode(5, 7, 1)), "message refused, as the recipient's name asks")
}

/// The reply of `busy`.
pub(super) fn busy() -> Reply {
    Reply::new(421, Some(EnhancedCode(4, 3, 2)), "too busy, as the recipient's name asks; closing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(local: &str, behaviour: Behaviour) {
        assert_eq!(Behaviour::of(local), behaviour, "{local}");
    }

    #[test]
    fn each_row_of_the_table_is_understood() {
        check("defer", Behaviour::Defer);
        check("defer2", Behaviour::DeferTimes(2));
        check("defer-data", Behaviour::AtEnd(AtEnd::Defer));
        check("defer12-data", Behaviour::AtEnd(AtEnd::DeferTimes(12)));
        check("delay-3", Behaviour::AtEnd(AtEnd::Delay(Duration::from_secs(3))));
        check("drip", Behaviour::Drip(Duration::from_secs(1)));
        check("drip-50", Behaviour::Drip(Duration::from_millis(50)));
        check("hang", Behaviour::Hang);
        check("hang-data", Behaviour::AtEnd(AtEnd::Hang));
        check("busy", Behaviour::Busy);
        check("refuse-data", Behaviour::AtEnd(AtEnd::Refuse));
        check("disconnect-mail", Behaviour::DropAtRecipient { replies_first: false });
        check("disconnect-rcpt", Behaviour::DropAtRecipient { replies_first: true });
        check("disconnect-data", Behaviour::DropAtData);
        check("disconnect-body", Behaviour::DropInBody);
        check("disconnect-end", Behaviour::AtEnd(AtEnd::Drop));
        check("disconnect-after", Behaviour::AtEnd(AtEnd::DropAfter));
    }

    #[test]
    fn a_refusal_names_its_code() {
        let Behaviour::Refuse(reply) = Behaviour::of("refuse") else { panic!("no refusal") };
        assert_eq!((reply.code, reply.enhanced), (550, Some(EnhancedCode(5, 1, 1))));
        let Behaviour::Refuse(reply) = Behaviour::of("refuse-452") else { panic!("no refusal") };
        assert_eq!((reply.code, reply.enhanced), (452, Some(EnhancedCode(4, 2, 2))));
    }

    #[test]
    fn a_tag_and_upper_case_change_nothing() {
        check("Defer2+abc-17", Behaviour::DeferTimes(2));
        check("HANG", Behaviour::Hang);
    }

    #[test]
    fn every_other_name_is_accepted() {
        for local in
            ["accept", "accept-7", "alice", "deferred", "refuse-200", "refuse-x", "delay", "delay-x", "hang-x", ""]
        {
            check(local, Behaviour::Accept);
        }
    }

    #[test]
    fn of_several_at_the_end_the_first_of_the_table_wins() {
        let mut all = [
            AtEnd::DropAfter,
            AtEnd::Delay(Duration::ZERO),
            AtEnd::DeferTimes(1),
            AtEnd::Refuse,
            AtEnd::Drop,
            AtEnd::Hang,
        ];
        all.sort();
        assert_eq!(all.first(), Some(&AtEnd::Drop));
        assert_eq!(all.last(), Some(&AtEnd::DropAfter));
    }
}
