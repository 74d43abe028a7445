//! Lives as records tell them.

use postrider_model::{Outcome, RuleAction, RuleFilter};

use super::*;
use crate::flat::tests::{record, to_tier};

fn tell(records: &[Record], held: &[(String, api::WaitingPart)], silent: &[String], now: u64) -> api::MessageLife {
    tell_with(&[], records, held, silent, now)
}

fn tell_with(
    orders: &[Rule],
    records: &[Record],
    held: &[(String, api::WaitingPart)],
    silent: &[String],
    now: u64,
) -> api::MessageLife {
    let message = MessageId::new(Timestamp::from_millis(100_000), [7; 10]);
    life(&Known { message, records, held, silent, orders, gone: &[], now: Timestamp::from_millis(now * 1000) }).unwrap()
}

fn order(id: &str, action: RuleAction, to_domain: &str, until: Option<u64>) -> Rule {
    Rule {
        id: id.parse().unwrap(),
        action,
        filter: RuleFilter { to_domain: Some(to_domain.parse().unwrap()), ..RuleFilter::default() },
        until: until.map(|seconds| Timestamp::from_millis(seconds * 1000)),
        scan: false,
        scanned_at: None,
        made_by: String::new(),
        made_at: Timestamp::default(),
        reason: String::new(),
    }
}

fn held(hop: u32, reason: &str) -> (String, api::WaitingPart) {
    let part = api::WaitingPart {
        part: 0,
        hop,
        site: "example.net".into(),
        reason: reason.into(),
        until_ms: 0,
        lifted_by: "somebody".into(),
    };
    ("delivery-0".into(), part)
}

fn accepted() -> Record {
    record(101, 0, &[("a@example.net", Outcome::Accepted), ("b@example.net", Outcome::Accepted)], None)
}

fn mixed() -> Record {
    let outcomes = [("a@example.net", Outcome::Delivered), ("b@example.net", Outcome::Deferred)];
    record(102, 0, &outcomes, to_tier(400, vec![1]))
}

#[test]
fn what_waits_in_a_tier_says_why_and_until_when() {
    let life = tell(&[mixed(), accepted()], &[], &[], 110);
    let part = &life.parts[0];
    let told: Vec<_> = part.recipients.iter().map(|r| format!("{} {} {}", r.recipient, r.event, r.r#final)).collect();
    assert_eq!(told, ["a@example.net delivered true", "b@example.net deferred false"]);
    let waiting = part.waiting.as_ref().unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.tier.as_str()), ("retry", "5m"));
    assert_eq!(waiting.until, Some(time(Timestamp::from_millis(400_000))));
    assert_eq!(waiting.lifted_by, WaitReason::Retry.lifted_by());
    assert_eq!(life.happenings.len(), 2);
    assert_eq!(life.happenings[1].next, "tier 5m (retry)");
    assert!(life.notes.is_empty(), "{:?}", life.notes);
}

#[test]
fn what_is_suspended_says_which_rule_to_remove() {
    let hold = Move::Hold { rule: "hold-1".parse().unwrap() };
    let suspended = record(102, 0, &[("a@example.net", Outcome::Suspended)], Some(hold));
    // Whatever records know of its filter: it is the order that the record names.
    let orders = [order("hold-1", RuleAction::Suspend, "elsewhere.example", Some(500))];
    let life = tell_with(&orders, &[accepted(), suspended.clone()], &[], &[], 110);
    let waiting = life.parts[0].waiting.as_ref().unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.until), ("held", Some(time(Timestamp::from_millis(500_000)))));
    assert!(waiting.lifted_by.contains("`postrider hold remove hold-1`"), "{waiting:?}");
    assert_eq!(life.happenings[1].next, "hold (hold-1)");
    let life = tell(&[accepted(), suspended], &[], &[], 110);
    assert!(life.parts[0].waiting.as_ref().unwrap().lifted_by.starts_with("nothing keeps it"));
}

#[test]
fn what_is_to_be_deleted_at_its_turn_says_by_which_order() {
    let told = |to_domain| {
        let orders = [order("delete-1", RuleAction::Delete, to_domain, None)];
        let life = tell_with(&orders, &[accepted(), mixed()], &[], &[], 110);
        life.parts[0].waiting.clone().unwrap().ordered
    };
    assert!(told("example.net").starts_with("to be deleted at its next turn, by order delete-1"));
    assert_eq!(told("elsewhere.example"), "");
}

#[test]
fn a_delivery_member_knows_better_than_the_last_record() {
    let life = tell(&[accepted(), mixed()], &[held(1, "rate-limit")], &[], 410);
    let waiting = life.parts[0].waiting.as_ref().unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.member.as_str()), ("rate-limit", "delivery-0"));
}

#[test]
fn an_answer_about_a_hop_that_is_settled_is_old() {
    let life = tell(&[accepted(), mixed()], &[held(0, "in-flight")], &[], 110);
    assert_eq!(life.parts[0].waiting.as_ref().unwrap().reason, "retry");
}

#[test]
fn what_has_met_its_end_waits_for_nothing() {
    let last = record(403, 1, &[("b@example.net", Outcome::Delivered)], Some(Move::Finished));
    let life = tell(&[accepted(), mixed(), last], &[], &["delivery-1".into()], 500);
    assert_eq!(life.parts[0].waiting, None);
    assert!(life.notes.is_empty(), "{:?}", life.notes);
}

#[test]
fn what_is_accepted_and_not_attempted_says_so() {
    let life = tell(&[accepted()], &[], &["delivery-1".into()], 102);
    assert_eq!(life.parts[0].waiting.as_ref().unwrap().reason, "queued");
    assert_eq!(
        life.notes,
        ["part 0 was accepted; no attempt is recorded yet", "did not answer, and may hold it: delivery-1"]
    );
}

#[test]
fn what_is_overdue_in_its_tier_is_on_its_way() {
    let life = tell(&[accepted(), mixed()], &[], &[], 401);
    assert_eq!(life.parts[0].waiting.as_ref().unwrap().reason, "queued");
    assert!(life.notes[0].starts_with("part 0 was due at"), "{:?}", life.notes);
}

#[test]
fn a_record_that_comes_twice_happens_once() {
    let mut again = mixed();
    again.at = Timestamp::from_millis(119_000);
    assert_eq!(tell(&[accepted(), mixed(), again], &[], &[], 130).happenings.len(), 2);
}

#[test]
fn what_only_a_member_knows_is_told_with_a_note() {
    let life = tell(&[], &[held(0, "behind")], &[], 101);
    assert_eq!(life.accept_time, Some(time(Timestamp::from_millis(100_000))));
    assert!(life.notes[0].contains("nothing is recorded"), "{:?}", life.notes);
}
