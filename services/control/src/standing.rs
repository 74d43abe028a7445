//! What operators have ordered about a part that waits: which holds keep it and until when, and which other order it has not met
//! yet. Pure.

use postrider_model::{MessageId, Rule, RuleAction, RuleFilter, Timestamp};

/// The orders in force about a part.
#[derive(Debug, Default)]
pub(crate) struct Standing<'a> {
    /// Those that hold it, in the order in which they were given.
    holds: Vec<&'a Rule>,
    /// What ends it.
    end: Option<&'a Rule>,
    /// What hurries it, as long as its scan is under way.
    flush: Option<&'a Rule>,
}

impl<'a> Standing<'a> {
    /// Of all orders, in the order in which they were given, those in force that concern the part. Of holds and releases the
    /// later counts.
    pub(crate) fn of(orders: &'a [Rule], concerns: impl Fn(&Rule) -> bool, now: Timestamp) -> Self {
        let mut standing = Self::default();
        for rule in orders.iter().filter(|rule| rule.in_force(now) && concerns(rule)) {
            match rule.action {
                RuleAction::Suspend => standing.holds.push(rule),
                RuleAction::Release => standing.holds.clear(),
                RuleAction::Delete | RuleAction::Bounce => standing.end = standing.end.or(Some(rule)),
                RuleAction::Flush => standing.flush = Some(rule).filter(|rule| is_scanning(rule)),
            }
        }
        standing
    }

    /// When the last of its holds ends by itself; `None`: one of them never does.
    pub(crate) fn held_until(&self) -> Option<Timestamp> {
        let ends: Option<Vec<Timestamp>> = self.holds.iter().map(|rule| rule.until).collect();
        ends.and_then(|ends| ends.into_iter().max())
    }

    /// Who lets it go on, in words.
    pub(crate) fn lifted_by(&self, message: MessageId) -> String {
        let named: Vec<String> = self.holds.iter().map(|rule| format!("`postrider hold remove {}`", rule.id)).collect();
        if named.is_empty() {
            return "nothing keeps it any more: it goes on within seconds".to_owned();
        }
        let together = if named.len() > 1 { " together" } else { "" };
        let by_hand =
            format!("an operator: {}{together}, or `postrider message release {message}`", named.join(" and "));
        match self.held_until() {
            Some(_) => format!("the end of the hold, or {by_hand}"),
            None => by_hand,
        }
    }

    /// What is ordered that it has not met yet, in words; empty: nothing.
    pub(crate) fn ordered(&self) -> String {
        let Some(rule) = self.end.or(self.flush) else { return String::new() };
        let what = match rule.action {
            RuleAction::Delete => "deleted",
            RuleAction::Bounce => "bounced",
            RuleAction::Suspend | RuleAction::Release | RuleAction::Flush => "retried",
        };
        let when = if is_scanning(rule) { "as soon as the tiers are scanned" } else { "at its next turn" };
        format!("to be {what} {when}, by order {0} (`postrider hold remove {0}` withdraws it)", rule.id)
    }
}

fn is_scanning(rule: &Rule) -> bool {
    rule.scan && rule.scanned_at.is_none()
}

/// What is known of a part without its envelope.
pub(crate) struct Outline<'a> {
    /// Its last record.
    pub(crate) record: &'a postrider_model::Record,
    /// Where it is now.
    pub(crate) site: &'a str,
    /// Domains of the recipients that are still to be served.
    pub(crate) domains: Vec<&'a str>,
    /// Whether an exchanger has answered.
    pub(crate) tried: bool,
}

impl Outline<'_> {
    /// Whether a filter matches, as far as records tell: of `--from-domain` they know the envelope sender alone, of `--reason`
    /// only `retry`.
    pub(crate) fn fits(&self, filter: &RuleFilter) -> bool {
        let record = self.record;
        let said = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        let sender = record.sender.mailbox().map(|sender| sender.domain());
        filter.message.is_none_or(|message| message == record.id.message)
            && filter.tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
            && filter.class.is_none_or(|class| class == record.class)
            && filter.campaign.as_ref().is_none_or(|campaign| record.campaign.as_ref() == Some(campaign))
            && filter.pool.as_ref().is_none_or(|pool| record.pool.as_ref() == Some(pool))
            && said(filter.site.as_ref().map(|site| site.as_str()), self.site)
            && filter.arrived_before.is_none_or(|before| record.arrival < before)
            && filter.from_domain.as_ref().is_none_or(|domain| sender == Some(domain))
            && filter.to_domain.as_ref().is_none_or(|domain| self.domains.contains(&domain.as_str()))
            && filter.waits_for.is_none_or(|reason| reason == postrider_model::WaitReason::Retry && self.tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn rule(id: &str, action: RuleAction, until: Option<u64>) -> Rule {
        Rule {
            id: id.parse().unwrap(),
            action,
            filter: RuleFilter::default(),
            until: until.map(at),
            scan: false,
            scanned_at: None,
            made_by: String::new(),
            made_at: at(1),
            reason: String::new(),
        }
    }

    fn message() -> MessageId {
        MessageId::new(at(100), [7; 10])
    }

    #[test]
    fn a_hold_with_an_end_says_so_and_of_several_all_are_named() {
        let (one, two) = (rule("one", RuleAction::Suspend, Some(500)), rule("two", RuleAction::Suspend, Some(900)));
        let orders = [one.clone(), two];
        let standing = Standing::of(&orders, |_| true, at(200));
        assert_eq!(standing.held_until(), Some(at(900)));
        let lifted = standing.lifted_by(message());
        assert!(
            lifted.starts_with("the end of the hold, or an operator: `postrider hold remove one` and "),
            "{lifted}"
        );
        assert!(lifted.contains("`postrider hold remove two` together, or `postrider message release "), "{lifted}");
        let orders = [one, rule("three", RuleAction::Suspend, None)];
        let standing = Standing::of(&orders, |_| true, at(200));
        assert_eq!(standing.held_until(), None);
        assert!(standing.lifted_by(message()).starts_with("an operator: "));
    }

    #[test]
    fn what_is_released_or_ended_keeps_nothing() {
        let hold = rule("hold", RuleAction::Suspend, None);
        let released = [hold.clone(), rule("free", RuleAction::Release, None)];
        assert!(Standing::of(&released, |_| true, at(200)).lifted_by(message()).starts_with("nothing keeps it"));
        let again = [hold, rule("free", RuleAction::Release, None), rule("again", RuleAction::Suspend, None)];
        let lifted = Standing::of(&again, |_| true, at(200)).lifted_by(message());
        assert!(lifted.contains("remove again`") && !lifted.contains("remove hold`"), "{lifted}");
        let ended = [rule("hold", RuleAction::Suspend, Some(150))];
        assert!(Standing::of(&ended, |_| true, at(200)).lifted_by(message()).starts_with("nothing keeps it"));
    }

    #[test]
    fn what_is_ordered_is_named_until_it_is_met() {
        let orders = [rule("delete-1", RuleAction::Delete, None)];
        let ordered = Standing::of(&orders, |_| true, at(200)).ordered();
        assert!(ordered.starts_with("to be deleted at its next turn, by order delete-1 "), "{ordered}");
        assert_eq!(Standing::of(&orders, |_| false, at(200)).ordered(), "");
        let scanning = Rule { scan: true, ..rule("flush-1", RuleAction::Flush, None) };
        let orders = [scanning.clone()];
        assert!(Standing::of(&orders, |_| true, at(200)).ordered().contains("as soon as the tiers are scanned"));
        let orders = [Rule { scanned_at: Some(at(150)), ..scanning }];
        assert_eq!(Standing::of(&orders, |_| true, at(200)).ordered(), "");
    }
}
