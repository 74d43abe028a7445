//! Records and moves of a part of two recipients.

use postrider_model::{BodyRef, Class, EnvelopeState, MessageId, ReversePath};

use super::*;

const LAYOUT: ShardLayout = ShardLayout::CLUSTER;

fn envelope(hop: u32, attempt: u32) -> Envelope {
    Envelope {
        message: MessageId::from_bytes([7; 16]),
        part: 0,
        tenant: "acme".parse().unwrap(),
        class: Class::Transactional,
        campaign: None,
        pool: None,
        sender: ReversePath::Null,
        recipients: vec!["one@example.net".parse().unwrap(), "two@example.net".parse().unwrap()],
        arrival: Timestamp::from_millis(1_000),
        not_before: None,
        expiry: Timestamp::from_millis(1_000_000),
        header_message_id: "1@acme.example".into(),
        from_domain: None,
        size_bytes: 5,
        eight_bit: false,
        smtputf8: false,
        metadata: Vec::new(),
        state: EnvelopeState {
            hop,
            attempt,
            site: "example.net".parse().unwrap(),
            slice: 0,
            pending: vec![1],
            last_reply: None,
        },
    }
}

fn inline() -> Body {
    Body::Inline { bytes: "hello".into(), compressed: false }
}

fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

fn home() -> ShardId {
    LAYOUT.shard_of(Class::Transactional, &site("example.net"), 0)
}

#[test]
fn acceptance_is_of_the_moment_when_the_message_came() {
    let record = Stay { envelope: &envelope(0, 0), body: &inline(), shard: home() }.accepted();
    let outcomes: Vec<_> = record.outcomes.iter().map(|of| (of.index, of.outcome)).collect();
    assert_eq!((record.at, outcomes, record.next), (Timestamp::from_millis(1_000), vec![(1, Outcome::Accepted)], None));
}

#[test]
fn a_record_shows_the_attempt_that_it_counts_and_none_that_was_put_back() {
    let last = Attempt {
        number: 0,
        source: "127.0.1.1".into(),
        exchanger: "mx.example.net".into(),
        address: "127.0.2.1:25".into(),
        tls: String::new(),
        began: Timestamp::default(),
    };
    let (envelope, body) = (envelope(1, 1), inline());
    let stay = Stay { envelope: &envelope, body: &body, shard: home() };
    let number = |attempted| {
        let plan = Plan { attempted, outcomes: vec![(1, Outcome::Moved, None)], next: Move::Finished };
        let record = stay.turned(&site("example.net"), &plan, Some(&last), Timestamp::default());
        record.attempt.map(|attempt| attempt.number)
    };
    assert_eq!((number(true), number(false)), (Some(2), None));
}

#[test]
fn the_record_of_a_part_that_has_ended_names_the_body_that_others_share() {
    let body =
        |shared| BodyRef { stream: 0, sequences: vec![9], length: 5, hash: 0, compressed: false, shared, parts: 3 };
    let named = |shared, next| {
        let (envelope, body) = (envelope(0, 0), Body::Stored(body(shared)));
        Stay { envelope: &envelope, body: &body, shard: home() }.moved(next, Timestamp::default()).body
    };
    assert_eq!(named(true, Move::Finished), Some(body(true)));
    assert_eq!(named(false, Move::Finished), None);
    assert_eq!(named(true, Move::Site { site: site("other.example"), slice: 0 }), None);
}

#[test]
fn a_part_whose_site_is_another_goes_there_but_is_not_pushed_to_and_fro_for_ever() {
    let other = (0..).map(|number| site(&format!("other{number}.example")));
    let is_away = |site: &SiteName| LAYOUT.shard_of(Class::Transactional, site, 0) != home();
    let other = other.into_iter().find(is_away).unwrap();
    let moves = |hop, attempt, site: &SiteName| {
        Stay { envelope: &envelope(hop, attempt), body: &inline(), shard: home() }.elsewhere(site, 1, &LAYOUT)
    };
    let away = Some(Move::Site { site: other.clone(), slice: 0 });
    assert_eq!(moves(0, 0, &site("example.net")), None);
    assert_eq!(moves(0, 0, &other), away);
    assert_eq!(moves(8, 0, &other), away);
    assert_eq!(moves(9, 0, &other), None);
    assert_eq!(moves(9, 1, &other), away, "each attempt gives it eight more");
}
