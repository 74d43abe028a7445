//! A rule about replies: which numbers and which words it knows, and what they mean. Never asks where the reply came from;
//! that is the table's part.

use std::time::Duration;

use postrider_model::{EnhancedCode, Reply};

use super::class::{ReplyClass, Scope};

/// Which numbers a rule knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// Any refusal.
    Any,
    /// All but 5xx.
    Temporary,
    /// 5xx.
    Permanent,
    /// This code.
    Code(u16),
    /// An enhanced code: its class, or either; its subject; its detail, from and up to.
    Enhanced(Option<u8>, u16, u16, u16),
}

pub(super) use On::{Any, Permanent, Temporary};

/// This code.
pub(super) const fn code(code: u16) -> On {
    On::Code(code)
}

/// This enhanced code.
pub(super) const fn x(class: u8, subject: u16, detail: u16) -> On {
    On::Enhanced(Some(class), subject, detail, detail)
}

/// This enhanced code, temporary or permanent.
pub(super) const fn either(subject: u16, detail: u16) -> On {
    On::Enhanced(None, subject, detail, detail)
}

/// The enhanced codes of a class and subject whose detail is from `low` up to `high`.
pub(super) const fn range(class: u8, subject: u16, low: u16, high: u16) -> On {
    On::Enhanced(Some(class), subject, low, high)
}

/// What certain replies mean.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Its name, for reports and evidence: stays the same when the rule is mended.
    pub(super) name: &'static str,
    /// The numbers it knows.
    pub(super) on: On,
    /// What the text has to hold, in lower case, each run of white space as one space; nothing: any text.
    pub(super) says: &'static str,
    /// The kind of trouble.
    pub(super) class: ReplyClass,
    /// Whom it is about.
    pub(super) scope: Scope,
    /// How long to leave it alone, where the provider or common practice says so.
    pub(super) wait: Option<Duration>,
}

/// A rule without a hint how long to wait.
pub(super) const fn rule(name: &'static str, on: On, says: &'static str, class: ReplyClass, scope: Scope) -> Rule {
    Rule { name, on, says, class, scope, wait: None }
}

impl Rule {
    /// The same with a hint, in seconds.
    pub(super) const fn wait(mut self, secs: u64) -> Self {
        self.wait = Some(Duration::from_secs(secs));
        self
    }

    /// Whether it is about this reply, whose text is handed in as [`folded`] makes it. The numbers are compared first: most
    /// rules never look at the text.
    pub(super) fn knows(&self, reply: &Reply, text: &str) -> bool {
        self.on.covers(reply) && text.contains(self.says)
    }
}

impl On {
    fn covers(self, reply: &Reply) -> bool {
        match self {
            Self::Any => true,
            Self::Temporary => reply.is_temporary(),
            Self::Permanent => reply.is_permanent(),
            Self::Code(code) => reply.code == code,
            Self::Enhanced(class, subject, low, high) => reply.enhanced.is_some_and(|EnhancedCode(c, s, d)| {
                class.is_none_or(|class| class == c) && subject == s && (low..=high).contains(&d)
            }),
        }
    }
}

/// A text as rules read it: lower case, each run of white space one space, one before and one after it all (so that a rule
/// can ask for a word), the typographic apostrophe the plain one, and without addresses, whose words say nothing.
pub(super) fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + 2);
    folded.push(' ');
    for word in text.split_whitespace() {
        let (before, after) = around_address(word);
        let kept = before.chars().chain(after.chars());
        folded.extend(kept.map(|c| if c == '\u{2019}' { '\'' } else { c.to_ascii_lowercase() }));
        folded.push(' ');
    }
    folded
}

/// What stands before and after an address in a word; all of it before where there is none.
fn around_address(word: &str) -> (&str, &str) {
    let Some((local, domain)) = word.split_once('@') else { return (word, "") };
    let before = local.trim_end_matches(|c: char| !"<([\"'=:;,".contains(c));
    let after = domain.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || ".-".contains(c));
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_folded_to_one_form() {
        assert_eq!(folded("[192.0.2.1      15]  Doesn\u{2019}t\tWork "), " [192.0.2.1 15] doesn't work ");
        assert_eq!(folded(""), " ");
        assert_eq!(folded("<spam@dmarc.example>: User unknown"), " <>: user unknown ");
        assert_eq!(folded("(nobody@example.net:blocked)"), " (:blocked) ");
    }

    #[test]
    fn numbers_are_compared_as_written() {
        let reply = Reply::new(550, Some(EnhancedCode(5, 7, 610)), "");
        let covers = |on: On| on.covers(&reply);
        assert_eq!([Any, Permanent, code(550), range(5, 7, 606, 649), either(7, 610)].map(covers), [true; 5]);
        assert_eq!(
            [Temporary, code(554), range(4, 7, 606, 649), range(5, 7, 611, 649), x(5, 7, 61)].map(covers),
            [false; 5]
        );
        assert!(!either(7, 1).covers(&Reply::new(550, None, "5.7.1 in the text is not a code")));
    }
}
