//! The audit: what was accepted has ended or waits, and what is missing is named.

use std::time::Duration;

use postrider_model::{Body, Envelope, EnvelopeState, Move, Outcome, Record, Tier, Timestamp};
use postrider_nats::Place;
use postrider_proto::Packet;
use postrider_proto::control::v1 as api;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::events::{accepted, attempted, retry, write};
use crate::server::PATIENCE;

/// The packet that a record is about, as it lies in a stream at `hop`.
pub fn packet(record: &Record, hop: u32) -> Packet {
    let envelope = Envelope {
        message: record.id.message,
        part: record.id.part,
        tenant: record.tenant.clone(),
        class: record.class,
        campaign: None,
        pool: None,
        sender: record.sender.clone(),
        recipients: record.outcomes.iter().map(|outcome| outcome.recipient.clone()).collect(),
        arrival: record.arrival,
        not_before: None,
        expiry: record.arrival.after(Duration::from_secs(86_400)),
        header_message_id: record.header_message_id.clone(),
        from_domain: None,
        size_bytes: 5,
        eight_bit: false,
        smtputf8: false,
        metadata: Vec::new(),
        state: EnvelopeState {
            hop,
            attempt: hop,
            site: record.site.clone(),
            slice: 0,
            pending: (0..u32::try_from(record.outcomes.len()).unwrap()).collect(),
            last_reply: None,
        },
    };
    Packet::new(envelope, Body::Inline { bytes: bytes::Bytes::from_static(b"hello"), compressed: false })
}

pub async fn audit(cluster: &Cluster) -> api::AuditReport {
    cluster.audit().audit(api::AuditRequest::default()).await.unwrap().into_inner()
}

/// Accepted, ended, waiting, difference and in transit, over all hours.
pub fn sums(report: &api::AuditReport) -> [i64; 5] {
    let mut sums = [0; 5];
    for hour in &report.hours {
        let ended: u64 = hour.ended.iter().map(|ended| ended.count).sum();
        let counts = [hour.accepted, ended, hour.waiting].map(|count| i64::try_from(count).unwrap());
        let row = [counts[0], counts[1], counts[2], hour.difference, i64::try_from(hour.in_transit).unwrap()];
        sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
    }
    sums
}

/// One message delivered, one in READY that is taken, one that nobody has taken, one in a tier.
async fn fill(cluster: &Cluster) -> [Record; 4] {
    fill_at(cluster, cluster.spool.server_now()).await
}

/// The same, accepted at that time.
async fn fill_at(cluster: &Cluster, now: Timestamp) -> [Record; 4] {
    let [done, taken, untaken, later] = [1, 2, 3, 4].map(|n| accepted(n, now));
    let moved = attempted(&later, Outcome::Deferred, 451, retry(now.after(Duration::from_secs(300))));
    write(cluster, &[done.clone(), taken.clone(), later.clone()]).await;
    write(cluster, &[attempted(&done, Outcome::Delivered, 250, Move::Finished), moved]).await;
    cluster.spool.publish_ready(&packet(&taken, 0)).await.unwrap();
    cluster.spool.publish_ready(&packet(&untaken, 0)).await.unwrap();
    cluster.spool.copy_to_tier(&packet(&later, 1), Tier::M5).await.unwrap();
    [done, taken, untaken, later]
}

/// Deletes a message from its stream by sequence, behind the system's back.
async fn tamper(cluster: &Cluster, record: &Record) {
    let mut places = Vec::new();
    cluster
        .spool
        .scan_waiting(false, |found| {
            if found.outline.message == record.id.message {
                places.push((found.place, found.sequence));
            }
        })
        .await
        .unwrap();
    let (place, sequence) = places[0];
    let stream = match place {
        Place::Tier(tier) => format!("RETRY_{tier}"),
        _ => "READY_B0".to_owned(),
    };
    let client = async_nats::connect(cluster.server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    assert!(context.get_stream(stream).await.unwrap().delete_message(sequence).await.unwrap());
}

#[tokio::test]
async fn accepted_is_ended_plus_waiting() {
    let cluster = Cluster::start().await;
    fill(&cluster).await;
    let report = audit(&cluster).await;
    assert_eq!(sums(&report), [3, 1, 2, 0, 1], "{report:?}");
    assert!(report.missing.is_empty() && report.notes.is_empty(), "{report:?}");
}

#[tokio::test]
async fn a_message_deleted_from_a_tier_or_from_ready_is_named() {
    let cluster = Cluster::start().await;
    let [_, taken, _, later] = fill(&cluster).await;
    for (gone, count) in [(&later, 1), (&taken, 2)] {
        tamper(&cluster, gone).await;
        let report = audit(&cluster).await;
        assert_eq!(sums(&report), [3, 1, 2 - count, count, 1], "{report:?}");
        let named: Vec<&str> = report.missing.iter().map(|it| it.message_id.as_str()).collect();
        assert!(named.contains(&gone.id.message.to_string().as_str()), "{named:?}");
        assert_eq!(report.missing_parts, u64::try_from(count).unwrap());
    }
}

#[tokio::test]
async fn a_repeated_record_is_counted_once_whoever_counts() {
    let cluster = Cluster::start().await;
    let [done, ..] = fill(&cluster).await;
    assert_eq!(sums(&audit(&cluster).await), [3, 1, 2, 0, 1]);
    let repeat = [done.clone(), attempted(&done, Outcome::Delivered, 250, Move::Finished)];
    write(&cluster, &repeat).await;
    // Another control process, that has seen nothing but the bucket, and then the first one again.
    let other = cluster.another().await;
    write(&cluster, &repeat).await;
    for client in [other, cluster.audit()] {
        let report = { client }.audit(api::AuditRequest::default()).await.unwrap().into_inner();
        assert_eq!(sums(&report), [3, 1, 2, 0, 1], "{report:?}");
    }
}

#[tokio::test]
async fn sums_outlive_the_events() {
    let cluster = Cluster::start().await;
    fill(&cluster).await;
    assert_eq!(sums(&audit(&cluster).await), [3, 1, 2, 0, 1]);
    let client = async_nats::connect(cluster.server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.get_stream("EVENTS_0").await.unwrap().purge().await.unwrap();
    let mut other = cluster.another().await;
    let report = other.audit(api::AuditRequest::default()).await.unwrap().into_inner();
    assert_eq!(sums(&report), [3, 1, 2, 0, 1], "{report:?}");
    assert!(report.hours.iter().all(|hour| !hour.named), "{report:?}");
}

#[tokio::test]
async fn an_audit_that_nobody_asked_for_sets_the_metric() {
    let cluster = Cluster::start().await;
    let [_, _, _, later] = fill(&cluster).await;
    tamper(&cluster, &later).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let families = cluster.registry.gather();
        let family = families.iter().find(|family| family.name() == "postrider_audit_difference_recipients").unwrap();
        if family.get_metric()[0].get_gauge().get_value() >= 1.0 {
            break;
        }
        assert!(Instant::now() < deadline, "the metric stayed 0");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The keys of the bucket that hold sums.
async fn sum_keys(cluster: &Cluster) -> Vec<String> {
    let entries = cluster.spool.audit_store().list().await.unwrap();
    let mut keys: Vec<String> = entries.into_iter().map(|entry| entry.key).collect();
    keys.retain(|key| key.starts_with("sums.") || key.starts_with("days."));
    keys.sort();
    keys
}

#[tokio::test]
async fn old_hours_become_days_and_whatever_happens_to_their_mail_still_counts() {
    let cluster = Cluster::start().await;
    let day = Duration::from_secs(86_400);
    let today = cluster.spool.server_now();
    let noon = Timestamp::from_millis((today.as_secs() / 86_400 - 20) * 86_400_000 + 43_200_000);
    let [_, _, _, later] = fill_at(&cluster, noon).await;
    let (next_hour, recent) = (accepted(7, noon.after(Duration::from_secs(3_600))), accepted(8, today));
    let ended = |record| attempted(record, Outcome::Delivered, 250, Move::Finished);
    write(&cluster, &[next_hour.clone(), recent.clone(), ended(&next_hour), ended(&recent)]).await;
    let deadline = Instant::now() + PATIENCE;
    let days = |report: &api::AuditReport| report.hours.iter().filter(|hour| hour.hours == 24).count();
    let report = loop {
        let report = audit(&cluster).await;
        assert_eq!(sums(&report), [5, 3, 2, 0, 1], "{report:?}");
        if days(&report) == 1 {
            break report;
        }
        assert!(Instant::now() < deadline, "{report:?}");
    };
    assert_eq!(report.hours.len(), 2, "a day, and an hour of today: {report:?}");
    let number = noon.as_secs() / 86_400;
    let hour = today.as_secs() / 3_600;
    assert_eq!(sum_keys(&cluster).await, [format!("days.0.{number}"), format!("sums.0.{hour}")]);
    // What has waited all the time ends, and another process, that has seen nothing but the bucket, knows as much.
    tamper(&cluster, &later).await;
    let mut end = ended(&later);
    end.id.hop = 1;
    write(&cluster, &[end]).await;
    assert_eq!(sums(&audit(&cluster).await), [5, 4, 1, 0, 1]);
    let request = api::AuditRequest::default();
    let theirs = cluster.another().await.audit(request).await.unwrap().into_inner();
    assert_eq!((sums(&theirs), days(&theirs)), ([5, 4, 1, 0, 1], 1), "{theirs:?}");
    // Asked for by its time.
    let since = Some(prost_types::Timestamp { seconds: i64::try_from(noon.after(day).as_secs()).unwrap(), nanos: 0 });
    let newer = cluster.audit().audit(api::AuditRequest { since, ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((newer.hours.len(), newer.hours[0].hours), (1, 1), "{newer:?}");
}
