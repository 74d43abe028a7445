//! Events as streams, over what lies in the journal.

use std::time::Duration;

use postrider_model::{
    Attempt, Class, EnvelopeId, MessageId, Move, Outcome, RecipientOutcome, Record, Reply, ReversePath, Tier,
    Timestamp, WaitReason,
};
use postrider_proto::control::v1 as api;
use tonic::Streaming;

use crate::cluster::Cluster;
use crate::server::PATIENCE;

/// The id of the `n`th message, accepted at `at`.
pub fn message(n: u64, at: Timestamp) -> MessageId {
    let mut random = [0u8; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    MessageId::new(at, random)
}

/// What is recorded when the `n`th message is accepted.
pub fn accepted(n: u64, at: Timestamp) -> Record {
    Record {
        id: EnvelopeId { message: message(n, at), part: 0, hop: 0 },
        at,
        shard: "b01".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        class: Class::Bulk,
        campaign: None,
        pool: None,
        site: "example.net".parse().unwrap(),
        sender: ReversePath::Null,
        header_message_id: format!("{n}@acme.example"),
        arrival: at,
        size_bytes: 5,
        body: None,
        metadata: vec![("order".into(), n.to_string())],
        attempt: None,
        outcomes: vec![RecipientOutcome {
            index: 0,
            recipient: format!("user{n}@example.net").parse().unwrap(),
            outcome: Outcome::Accepted,
            reply: None,
        }],
        next: None,
    }
}

/// What is recorded when its first attempt ends.
pub fn attempted(accepted: &Record, outcome: Outcome, code: u16, next: Move) -> Record {
    let mut record = accepted.clone();
    record.at = accepted.at.after(Duration::from_millis(10));
    record.attempt = Some(Attempt {
        number: 1,
        source: "default".into(),
        exchanger: "mx.example.net".into(),
        address: "127.0.2.1:25".into(),
        tls: "TLSv1.3".into(),
        began: accepted.at.after(Duration::from_millis(5)),
    });
    record.outcomes[0].outcome = outcome;
    record.outcomes[0].reply = Some(Reply::new(code, None, "said the exchanger"));
    record.next = Some(next);
    record
}

/// A move into the tier of five minutes.
pub fn retry(until: Timestamp) -> Move {
    Move::Tier { tier: Tier::M5, reason: WaitReason::Retry, until, attempt: 1, pending: vec![0], last_reply: None }
}

/// A name for a flush that no other has.
fn flush() -> String {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string()
}

pub async fn write(cluster: &Cluster, records: &[Record]) {
    cluster.spool.publish_events("b01".parse().unwrap(), records, &flush()).await.unwrap();
}

async fn all(mut stream: Streaming<api::EventBatch>) -> Vec<api::Event> {
    let mut events = Vec::new();
    while let Some(batch) = stream.message().await.unwrap() {
        assert!(!batch.events.is_empty());
        events.extend(batch.events);
    }
    events
}

async fn export(cluster: &Cluster, filter: api::EventFilter) -> Vec<api::Event> {
    let request = api::ExportEventsRequest { filter: Some(filter), since: None, until: None };
    all(cluster.events().export_events(request).await.unwrap().into_inner()).await
}

fn seconds(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(at.as_secs()).unwrap(), nanos: 0 }
}

#[tokio::test]
async fn an_export_of_many_pages_holds_every_event_once_and_in_order() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now().before(Duration::from_secs(10));
    let records: Vec<Record> = (0..2_300).map(|n| accepted(n, now.after(Duration::from_millis(n)))).collect();
    write(&cluster, &records).await;
    let events = export(&cluster, api::EventFilter::default()).await;
    let recipients: Vec<&str> = events.iter().map(|event| event.recipient.as_str()).collect();
    let expected: Vec<String> = (0..2_300).map(|n| format!("user{n}@example.net")).collect();
    assert_eq!(recipients, expected);
    assert_eq!(events[7].metadata["order"], "7");
}

#[tokio::test]
async fn what_a_takeover_wrote_again_is_exported_once() {
    let cluster = Cluster::start().await;
    let accepted = accepted(1, cluster.spool.server_now().before(Duration::from_secs(1)));
    let delivered = attempted(&accepted, Outcome::Delivered, 250, Move::Finished);
    write(&cluster, &[accepted.clone(), delivered.clone()]).await;
    write(&cluster, &[accepted, delivered]).await;
    let told: Vec<String> =
        export(&cluster, api::EventFilter::default()).await.into_iter().map(|event| event.event).collect();
    assert_eq!(told, ["accepted", "delivered"]);
}

#[tokio::test]
async fn an_export_is_bounded_by_time_and_filter() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now();
    let (early, late) = (accepted(1, now.before(Duration::from_secs(30))), accepted(2, now));
    write(&cluster, &[early.clone(), late.clone(), attempted(&late, Outcome::Bounced, 550, Move::Finished)]).await;
    let only = api::EventFilter { events: vec!["bounced".into()], ..Default::default() };
    let bounced = export(&cluster, only).await;
    assert_eq!((bounced.len(), bounced[0].code, bounced[0].next.as_str()), (1, 550, "finished"));
    let request = api::ExportEventsRequest {
        filter: None,
        since: Some(seconds(now.before(Duration::from_secs(60)))),
        until: Some(seconds(now.before(Duration::from_secs(20)))),
    };
    let first = all(cluster.events().export_events(request).await.unwrap().into_inner()).await;
    assert_eq!(first.iter().map(|event| event.recipient.as_str()).collect::<Vec<_>>(), ["user1@example.net"]);
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_refused() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now();
    let (since, until) = (Some(seconds(now)), Some(seconds(now.before(Duration::from_secs(9)))));
    let request = api::ExportEventsRequest { filter: None, since, until };
    let refusal = cluster.events().export_events(request).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_tail_shows_the_latest() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now().before(Duration::from_secs(1));
    let records: Vec<Record> = (0..20).map(|n| accepted(n, now.after(Duration::from_millis(n)))).collect();
    write(&cluster, &records).await;
    let request = api::TailEventsRequest { limit: 3, ..Default::default() };
    let events = all(cluster.events().tail_events(request).await.unwrap().into_inner()).await;
    let recipients: Vec<&str> = events.iter().map(|event| event.recipient.as_str()).collect();
    assert_eq!(recipients, ["user17@example.net", "user18@example.net", "user19@example.net"]);
}

#[tokio::test]
async fn a_followed_tail_shows_what_comes() {
    let cluster = Cluster::start().await;
    write(&cluster, &[accepted(1, cluster.spool.server_now())]).await;
    let request = api::TailEventsRequest { follow: true, ..Default::default() };
    let mut stream = cluster.events().tail_events(request).await.unwrap().into_inner();
    write(&cluster, &[accepted(2, cluster.spool.server_now())]).await;
    let batch = tokio::time::timeout(PATIENCE, stream.message()).await.expect("an event comes").unwrap().unwrap();
    assert_eq!(batch.events[0].recipient, "user2@example.net");
}
