//! Which rule concerns which envelope, and which of several counts.

use postrider_model::{Class, EnvelopeState};

use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

const NOW: Timestamp = Timestamp::from_millis(100_000);

fn envelope() -> Envelope {
    Envelope {
        message: MessageId::new(at(50), [7; 10]),
        part: 0,
        tenant: "acme".parse().unwrap(),
        class: Class::Bulk,
        campaign: Some("spring".parse().unwrap()),
        pool: Some("warm".parse().unwrap()),
        sender: "bounce@mail.acme.example".parse().unwrap(),
        recipients: vec!["a@example.net".parse().unwrap(), "b@example.org".parse().unwrap()],
        arrival: at(50),
        not_before: None,
        expiry: at(1_000),
        header_message_id: String::new(),
        from_domain: Some("acme.example".parse().unwrap()),
        size_bytes: 1,
        eight_bit: false,
        smtputf8: false,
        metadata: Vec::new(),
        state: EnvelopeState {
            hop: 1,
            attempt: 0,
            site: "example.net".parse().unwrap(),
            slice: 0,
            pending: vec![0, 1],
            last_reply: None,
        },
    }
}

fn rule(id: &str, action: RuleAction, made: u64, filter: RuleFilter) -> Rule {
    Rule {
        id: id.parse().unwrap(),
        action,
        filter,
        until: None,
        scan: false,
        scanned_at: None,
        made_by: "admin".to_owned(),
        made_at: at(made),
        reason: "a complaint".to_owned(),
    }
}

fn compiled(rules: Vec<Rule>) -> Rules {
    Rules::new(&rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect())
}

fn order(rules: Vec<Rule>, envelope: &Envelope) -> Option<Order> {
    compiled(rules).order(envelope, None, NOW)
}

fn suspended_by(id: &str) -> Option<Order> {
    Some(Order::Suspend { rule: id.parse().unwrap() })
}

#[track_caller]
fn check(filter: RuleFilter, matching: bool) {
    let expected = if matching { suspended_by("one") } else { None };
    assert_eq!(order(vec![rule("one", RuleAction::Suspend, 60, filter.clone())], &envelope()), expected, "{filter}");
}

fn any() -> RuleFilter {
    RuleFilter::default()
}

#[test]
fn every_thing_that_a_filter_says_must_be_so() {
    check(any(), true);
    for (text, matching) in [("acme", true), ("other", false)] {
        check(RuleFilter { tenant: Some(text.parse().unwrap()), ..any() }, matching);
    }
    check(RuleFilter { class: Some(Class::Bulk), ..any() }, true);
    check(RuleFilter { class: Some(Class::Transactional), ..any() }, false);
    check(RuleFilter { campaign: Some("spring".parse().unwrap()), ..any() }, true);
    check(RuleFilter { campaign: Some("autumn".parse().unwrap()), ..any() }, false);
    check(RuleFilter { site: Some("example.net".parse().unwrap()), ..any() }, true);
    check(RuleFilter { site: Some("google".parse().unwrap()), ..any() }, false);
    check(RuleFilter { pool: Some("warm".parse().unwrap()), ..any() }, true);
    check(RuleFilter { pool: Some("cold".parse().unwrap()), ..any() }, false);
    check(RuleFilter { to_domain: Some("example.org".parse().unwrap()), ..any() }, true);
    check(RuleFilter { to_domain: Some("example.com".parse().unwrap()), ..any() }, false);
    check(RuleFilter { from_domain: Some("acme.example".parse().unwrap()), ..any() }, true);
    check(RuleFilter { from_domain: Some("mail.acme.example".parse().unwrap()), ..any() }, true);
    check(RuleFilter { from_domain: Some("example".parse().unwrap()), ..any() }, false);
    check(RuleFilter { arrived_before: Some(at(51)), ..any() }, true);
    check(RuleFilter { arrived_before: Some(at(50)), ..any() }, false);
    check(RuleFilter { message: Some(envelope().message), ..any() }, true);
    check(RuleFilter { message: Some(MessageId::from_bytes([1; 16])), ..any() }, false);
    let both = RuleFilter { tenant: Some("acme".parse().unwrap()), class: Some(Class::Transactional), ..any() };
    check(both, false);
}

#[test]
fn a_recipient_that_has_met_its_end_counts_no_more() {
    let mut envelope = envelope();
    envelope.state.pending = vec![0];
    let filter = RuleFilter { to_domain: Some("example.org".parse().unwrap()), ..any() };
    assert_eq!(order(vec![rule("one", RuleAction::Suspend, 60, filter)], &envelope), None);
}

#[test]
fn what_was_tried_waits_for_its_retry_wherever_it_is() {
    let filter = RuleFilter { waits_for: Some(WaitReason::Retry), ..any() };
    let rules = compiled(vec![rule("one", RuleAction::Suspend, 60, filter)]);
    let mut envelope = envelope();
    assert_eq!(rules.order(&envelope, None, NOW), None);
    envelope.state.last_reply = Some(Reply::new(451, None, "later"));
    assert_eq!(rules.order(&envelope, None, NOW), suspended_by("one"));
    assert_eq!(rules.order(&envelope, Some(WaitReason::SiteClosed), NOW), suspended_by("one"));
}

#[test]
fn why_it_waits_in_the_index_only_the_index_knows() {
    let filter = RuleFilter { waits_for: Some(WaitReason::SiteClosed), ..any() };
    let rules = compiled(vec![rule("one", RuleAction::Suspend, 60, filter)]);
    assert_eq!(rules.order(&envelope(), None, NOW), None);
    assert_eq!(rules.order(&envelope(), Some(WaitReason::SiteClosed), NOW), suspended_by("one"));
    // It stays in HOLD, although it waits for something else there.
    assert_eq!(rules.keeps(&envelope(), NOW).map(RuleId::as_str), Some("one"));
}

#[test]
fn only_the_recipients_that_are_meant_meet_their_end() {
    let filter = RuleFilter { to_domain: Some("example.org".parse().unwrap()), ..any() };
    let Some(Order::End { outcome, reply, recipients }) =
        order(vec![rule("one", RuleAction::Bounce, 60, filter)], &envelope())
    else {
        panic!("no end")
    };
    assert_eq!((outcome, recipients), (Outcome::Bounced, vec![1]));
    assert_eq!((reply.code, reply.enhanced.map(|code| code.to_string())), (554, Some("5.7.0".to_owned())));
    assert!(reply.text.ends_with(": a complaint"), "{reply:?}");
}

#[test]
fn what_ends_comes_before_what_holds_and_that_before_what_hurries() {
    let (suspend, delete, flush) = (
        rule("one", RuleAction::Suspend, 60, any()),
        rule("two", RuleAction::Delete, 61, any()),
        rule("three", RuleAction::Flush, 62, any()),
    );
    let flushed = order(vec![flush.clone()], &envelope());
    assert_eq!(flushed, Some(Order::Flush { given: at(62) }));
    assert_eq!(order(vec![suspend.clone(), flush.clone()], &envelope()), suspended_by("one"));
    let Some(Order::End { outcome, recipients, .. }) = order(vec![suspend, delete, flush], &envelope()) else {
        panic!("no end")
    };
    assert_eq!((outcome, recipients), (Outcome::Deleted, vec![0, 1]));
}

#[test]
fn of_holding_and_releasing_the_latest_counts() {
    let message = RuleFilter { message: Some(envelope().message), ..any() };
    let tenant = RuleFilter { tenant: Some("acme".parse().unwrap()), ..any() };
    let hold = rule("one", RuleAction::Suspend, 60, tenant.clone());
    let release = rule("two", RuleAction::Release, 61, message);
    let again = rule("three", RuleAction::Suspend, 62, tenant);
    assert_eq!(order(vec![hold.clone(), release.clone()], &envelope()), None);
    assert_eq!(order(vec![hold, release, again], &envelope()), suspended_by("three"));
}

#[test]
fn a_rule_that_has_ended_says_nothing() {
    let ended = Rule { until: Some(NOW), ..rule("one", RuleAction::Suspend, 60, any()) };
    let rules = compiled(vec![ended]);
    assert_eq!(rules.order(&envelope(), None, NOW), None);
    assert_eq!(rules.order(&envelope(), None, at(99)), suspended_by("one"));
    assert_eq!((rules.next_end(at(99)), rules.next_end(NOW)), (Some(NOW), None));
}

#[test]
fn what_is_held_stays_until_no_rule_holds_it_or_one_ends_it() {
    let hold = rule("one", RuleAction::Suspend, 60, any());
    let delete = rule("two", RuleAction::Delete, 61, any());
    let rules = compiled(vec![hold.clone()]);
    assert_eq!(rules.keeps(&envelope(), NOW).map(RuleId::as_str), Some("one"));
    assert_eq!(compiled(vec![hold, delete]).keeps(&envelope(), NOW), None);
    assert_eq!(Rules::default().keeps(&envelope(), NOW), None);
}

#[test]
fn what_has_expired_is_neither_suspended_nor_kept() {
    let rules = compiled(vec![rule("one", RuleAction::Suspend, 60, any())]);
    let expiry = envelope().expiry;
    assert_eq!((rules.order(&envelope(), None, expiry), rules.keeps(&envelope(), expiry)), (None, None));
}

#[test]
fn only_some_changes_free_what_is_held() {
    let hold = rule("one", RuleAction::Suspend, 60, any());
    let scanned = Rule { scanned_at: Some(at(70)), ..hold.clone() };
    let other = rule("two", RuleAction::Suspend, 61, any());
    let flush = rule("three", RuleAction::Flush, 61, any());
    let delete = rule("four", RuleAction::Delete, 61, any());
    let before = compiled(vec![hold.clone()]);
    assert!(!compiled(vec![hold.clone(), other, flush]).may_free(&before));
    assert!(!compiled(vec![scanned]).may_free(&before));
    assert!(compiled(vec![hold, delete.clone()]).may_free(&before));
    assert!(Rules::default().may_free(&before));
    assert!(!Rules::default().may_free(&compiled(vec![delete])));
}

#[test]
fn compiled_rules_find_what_each_rule_alone_finds() {
    // Filters of every kind, far and near: the index must lose none of them.
    let envelope = envelope();
    let mut rules = Vec::new();
    for n in 0..200u64 {
        let near = n % 7 == 0;
        let name = if near { "acme" } else { "other" };
        let filter = match n % 5 {
            0 => RuleFilter { tenant: Some(name.parse().unwrap()), ..any() },
            1 => RuleFilter { campaign: Some(if near { "spring" } else { name }.parse().unwrap()), ..any() },
            2 => RuleFilter { site: Some(if near { "example.net" } else { name }.parse().unwrap()), ..any() },
            3 => RuleFilter {
                to_domain: Some(if near { "example.org" } else { "else.example" }.parse().unwrap()),
                ..any()
            },
            _ => RuleFilter { arrived_before: Some(at(if near { 60 } else { 10 })), ..any() },
        };
        rules.push(rule(&format!("rule-{n}"), RuleAction::Suspend, n, filter));
    }
    let expected: Vec<RuleId> =
        rules.iter().filter(|rule| matches(&rule.filter, &envelope)).map(|rule| rule.id.clone()).collect();
    assert_eq!(expected.len(), 29);
    let found =
        compiled(rules).in_force(&envelope, NOW, |_| true).into_iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
    assert_eq!(found, expected);
}
