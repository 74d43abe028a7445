//! Records as people and scripts see them.

use postrider_model::{Attempt, EnvelopeId, MessageId, Reply, ReversePath, Tier, WaitReason};

use super::*;

/// A record about `recipients`, of a message accepted at second 100.
pub(crate) fn record(at: u64, hop: u32, outcomes: &[(&str, Outcome)], next: Option<Move>) -> Record {
    let arrival = Timestamp::from_millis(100_000);
    let outcomes = outcomes.iter().zip(0..).map(|((recipient, outcome), index)| RecipientOutcome {
        index,
        recipient: recipient.parse().unwrap(),
        outcome: *outcome,
        reply: Some(Reply::new(if *outcome == Outcome::Deferred { 451 } else { 250 }, None, "said")),
    });
    Record {
        id: EnvelopeId { message: MessageId::new(arrival, [7; 10]), part: 0, hop },
        at: Timestamp::from_millis(at * 1000),
        shard: "b01".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        class: Class::Bulk,
        campaign: Some("spring".parse().unwrap()),
        pool: None,
        site: "example.net".parse().unwrap(),
        sender: ReversePath::Null,
        header_message_id: "1@acme.example".into(),
        arrival,
        size_bytes: 1000,
        body: None,
        metadata: vec![("k".into(), "v".into())],
        attempt: next.as_ref().map(|_| Attempt {
            number: hop + 1,
            source: "default".into(),
            exchanger: "mx.example.net".into(),
            address: "127.0.2.1:25".into(),
            tls: "TLSv1.3".into(),
            began: Timestamp::from_millis(at * 1000 - 500),
        }),
        outcomes: outcomes.collect(),
        next,
    }
}

/// A move to the tier of five minutes.
pub(crate) fn to_tier(until: u64, pending: Vec<u32>) -> Option<Move> {
    Some(Move::Tier {
        tier: Tier::M5,
        reason: WaitReason::Retry,
        until: Timestamp::from_millis(until * 1000),
        attempt: 1,
        pending,
        last_reply: None,
    })
}

fn told(events: &[api::Event]) -> Vec<String> {
    events
        .iter()
        .map(|e| format!("{} {} -> {} {} {}", e.event, e.recipient, e.next, e.next_to, e.next_reason))
        .collect()
}

#[test]
fn a_mixed_record_is_one_event_a_recipient_each_with_its_own_end() {
    let outcomes = [("a@example.net", Outcome::Delivered), ("b@example.net", Outcome::Deferred)];
    let events = events(&record(102, 0, &outcomes, to_tier(400, vec![1])));
    assert_eq!(told(&events), ["delivered a@example.net -> finished  ", "deferred b@example.net -> tier 5m retry"]);
    assert_eq!((events[1].code, events[1].attempt, events[1].exchanger.as_str()), (451, 1, "mx.example.net"));
    assert_ne!(events[0].event_id, events[1].event_id);
    let read = |event: &api::Event| (event.reply_class.clone(), event.reply_rule.clone());
    assert_eq!([&events[0], &events[1]].map(read), [("", ""), ("system", "code")].map(|(a, b)| (a.into(), b.into())));
}

#[test]
fn an_accepted_record_without_recipients_is_one_event() {
    let events = events(&record(101, 0, &[], None));
    assert_eq!(told(&events), ["accepted  ->   "]);
    assert!(events[0].event_id.ends_with(":0:0:-:accepted"), "{}", events[0].event_id);
}

#[test]
fn a_filter_keeps_what_is_wanted() {
    let outcomes = [("a@example.net", Outcome::Delivered), ("B@example.net", Outcome::Deferred)];
    let record = record(102, 0, &outcomes, to_tier(400, vec![1]));
    let filter = |filter: api::EventFilter| EventFilter::parse(Some(filter)).unwrap().of(&record).len();
    assert_eq!(filter(api::EventFilter::default()), 2);
    assert_eq!(filter(api::EventFilter { events: vec!["deferred".into()], ..Default::default() }), 1);
    assert_eq!(filter(api::EventFilter { recipient: "b@EXAMPLE.net".into(), ..Default::default() }), 1);
    assert_eq!(filter(api::EventFilter { tenant: "globex".into(), ..Default::default() }), 0);
    assert_eq!(filter(api::EventFilter { campaign: "spring".into(), class: "bulk".into(), ..Default::default() }), 2);
    assert_eq!(filter(api::EventFilter { site: "google".into(), ..Default::default() }), 0);
}

#[test]
fn an_unknown_event_is_refused_with_the_known_ones() {
    let filter = api::EventFilter { events: vec!["opened".into()], ..Default::default() };
    let refusal = EventFilter::parse(Some(filter)).unwrap_err();
    assert!(refusal.message().contains("delivered"), "{}", refusal.message());
}

#[test]
fn what_a_takeover_records_again_is_told_once() {
    let mut seen = Seen::default();
    let mut told = |at: u64, hop: u32| {
        let event = &events(&record(at, hop, &[("a@example.net", Outcome::Deferred)], to_tier(400, vec![0])))[0];
        seen.is_new(event, Timestamp::from_millis(at * 1000))
    };
    assert!(told(102, 0));
    assert!(!told(120, 0));
    assert!(told(450, 1));
    assert!(!told(1_050, 1));
}
