//! Bodies that several parts share, in BODY, until the last part has ended.

use std::time::Duration;

use postrider_model::{Body, BodyRef, Move, Outcome, Record, Timestamp};
use postrider_nats::Sharing;
use postrider_proto::control::v1 as api;
use tokio::time::Instant;

use crate::audit::packet;
use crate::cluster::Cluster;
use crate::events::{accepted, attempted, write};
use crate::server::PATIENCE;

/// A body that so many parts share.
async fn body(cluster: &Cluster, parts: u32) -> BodyRef {
    let bytes = format!("a body of {parts} parts, {:?}", Instant::now()).into();
    let stored = cluster.spool.put_body(bytes, false, Sharing::Shared).await.unwrap();
    BodyRef { parts, ..stored }
}

/// A part of the `n`th message, as it was accepted.
fn part(n: u64, part: u32, at: Timestamp) -> Record {
    let mut record = accepted(n, at);
    record.id.part = part;
    record
}

/// What delivery writes when a part with this body ends.
fn ended(part: &Record, body: &BodyRef) -> Record {
    Record { body: Some(body.clone()), ..attempted(part, Outcome::Delivered, 250, Move::Finished) }
}

async fn until_held(cluster: &Cluster, chunks: u64) {
    let deadline = Instant::now() + PATIENCE;
    while cluster.spool.bodies_held().await.unwrap().0 != chunks {
        assert!(Instant::now() < deadline, "{:?} are held", cluster.spool.bodies_held().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_shared_body_is_deleted_when_its_last_part_has_ended_and_no_sooner() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now();
    let (whole, dead, later) = (body(&cluster, 2).await, body(&cluster, 2).await, body(&cluster, 1).await);
    assert_eq!(cluster.spool.bodies_held().await.unwrap().0, 3);
    // Of the second message one part ends and the other is buried; the end of the first is told twice.
    let buried = part(2, 1, now);
    let dies = attempted(&buried, Outcome::Dead, 0, Move::Dead { reason: "body-lost".into() });
    write(&cluster, &[ended(&part(1, 0, now), &whole), ended(&part(2, 0, now), &dead), dies]).await;
    write(&cluster, &[ended(&part(2, 0, now), &dead), ended(&part(1, 1, now), &whole)]).await;
    let letter = packet(&buried, 0).with_body(Body::Stored(dead.clone()));
    cluster.spool.bury("body-lost", &buried.id.to_string(), "for a while", letter.encode()).await.unwrap();
    until_held(&cluster, 2).await;
    // What was written after that has been read when this one goes.
    write(&cluster, &[ended(&part(3, 0, now), &later)]).await;
    until_held(&cluster, 1).await;
    assert_eq!(cluster.counted("postrider_bodies_shared_deleted_total").as_deref(), Some("2"));
    assert_eq!(cluster.counted("postrider_bodies_shared_open").as_deref(), Some("1"));
    // Back from the dead letters it still has its body, and ends.
    let all = api::ChangeDeadLettersRequest { all: true, ..Default::default() };
    assert_eq!(cluster.dead_letters().requeue_dead_letters(all).await.unwrap().into_inner().changed, 1);
    cluster.spool.read_body(&Body::Stored(dead.clone())).await.expect("the body is there");
    let mut again = ended(&buried, &dead);
    again.id.hop = 1;
    write(&cluster, &[again]).await;
    until_held(&cluster, 0).await;
}
