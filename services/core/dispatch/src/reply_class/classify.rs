//! From a reply to its class: the rules of the site first, then the rules for everybody, then the numbers alone.

use std::time::Duration;

use postrider_model::{EnhancedCode, Reply, SiteName};

use super::class::{ReplyClass, Scope};
use super::rule::{Rule, folded};
use super::rules::TABLES;

/// A hint in a text that is longer than this is not believed.
const LONGEST_HINT: Duration = Duration::from_secs(24 * 3_600);

/// What a reply is about, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The kind of trouble.
    pub class: ReplyClass,
    /// Whom or what it is about.
    pub scope: Scope,
    /// The name of the rule; `enhanced-code`, `code` or `positive` where the numbers alone said it.
    pub rule: &'static str,
    /// How long to wait before the next try, if the reply or its rule says so.
    pub wait: Option<Duration>,
}

/// Reads a reply of a server of `site`. The first rule that knows it counts.
pub fn classify(site: &SiteName, reply: &Reply) -> Classified {
    if reply.is_positive() {
        return by_numbers(reply);
    }
    let text = folded(&reply.text);
    let mut rules = rules_of(site.as_str(), !says_enough(reply));
    match rules.find(|rule| rule.knows(reply, &text)) {
        Some(rule) => by_rule(rule, reply, &text),
        None => by_numbers(reply),
    }
}

/// Whether the numbers say all (RFC 3463 sections 3.2 and 3.5: no route or no answer, no such domain) unless a provider has its
/// own use for them. Our own words for what did not come about have these, and name domains, which are not to be read.
fn says_enough(reply: &Reply) -> bool {
    matches!(reply.enhanced, Some(EnhancedCode(_, 4, 1..=4) | EnhancedCode(_, 1, 2 | 10)))
}

/// The rules that are asked about a reply of a site, in their order; those for everybody too, or the site's own alone.
pub(super) fn rules_of(site: &str, of_everybody: bool) -> impl Iterator<Item = &'static Rule> {
    TABLES
        .iter()
        .filter(move |table| if table.sites.is_empty() { of_everybody } else { table.sites.contains(&site) })
        .flat_map(|table| table.rules)
}

fn by_rule(rule: &Rule, reply: &Reply, text: &str) -> Classified {
    let says_when = matches!(rule.class, ReplyClass::Greylisted | ReplyClass::RateLimited) && reply.is_temporary();
    let wait = rule.wait.or_else(|| if says_when { wait_in(text) } else { None });
    Classified { class: rule.class, scope: rule.scope, rule: rule.name, wait }
}

fn by_numbers(reply: &Reply) -> Classified {
    let class = ReplyClass::of(reply);
    let rule = match (class, reply.enhanced) {
        (ReplyClass::Positive, _) => "positive",
        (_, Some(_)) => "enhanced-code",
        (_, None) => "code",
    };
    Classified { class, scope: class.usual_scope(), rule, wait: None }
}

/// The first time span a folded text names, as in "try again in 300 seconds".
fn wait_in(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.windows(2).find_map(|pair| {
        let [number, unit] = pair else { return None };
        let unit_secs = match *unit {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "min" | "mins" | "minute" | "minutes" => 60,
            "hour" | "hours" => 3_600,
            _ => return None,
        };
        let wait = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit_secs)?);
        (!wait.is_zero() && wait <= LONGEST_HINT).then_some(wait)
    })
}
