//! The journal: replay for a new owner, scans and tails for people.

use std::time::Duration;

use postrider_model::{Record, ShardLayout, Timestamp};
use postrider_nats::{Next, Replayed, ScanFrom, Spool};
use postrider_proto::event::v1 as wire;
use prost::Message;

use crate::mail::{message, record, shard};
use crate::server::{PATIENCE, Server};

/// A name for a flush that no other has.
fn flush() -> String {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string()
}

async fn write(spool: &Spool, shard_name: &str, numbers: std::ops::Range<u64>) -> u64 {
    let shard = shard(shard_name);
    let now = spool.server_now();
    let records: Vec<Record> = numbers.map(|n| record(n, shard, now)).collect();
    spool.publish_events(shard, &records, &flush()).await.unwrap()
}

async fn replay(spool: &Spool, shard_name: &str, from: u64) -> (Vec<u64>, u64) {
    let mut seen = Vec::new();
    let base = message(0).timestamp().as_millis();
    let see = |_, record: Replayed| seen.push(record.hop.message.timestamp().as_millis() - base);
    let through = spool.replay_events(shard(shard_name), from, see).await.unwrap();
    (seen, through)
}

#[tokio::test]
async fn a_replay_sees_what_was_written_behind_a_sequence() {
    let server = Server::start();
    let spool = server.spool().await;
    let first = write(&spool, "b00", 0..3).await;
    write(&spool, "b01", 100..105).await;
    let second = write(&spool, "b00", 3..5).await;
    assert_eq!(replay(&spool, "b00", 0).await, (vec![0, 1, 2, 3, 4], second));
    assert_eq!(replay(&spool, "b00", first).await, (vec![3, 4], second));
    assert_eq!(replay(&spool, "b00", second).await, (vec![], second));
    assert_eq!(replay(&spool, "b02", 0).await, (vec![], 0));
}

#[tokio::test]
async fn many_records_are_cut_into_several_messages_and_all_replayed() {
    let server = Server::start();
    let spool = server.spool().await;
    let first = write(&spool, "t00", 0..1_200).await;
    assert_eq!(first, 1);
    for _ in 0..300 {
        write(&spool, "t00", 5_000..5_001).await;
    }
    let (seen, through) = replay(&spool, "t00", 0).await;
    assert_eq!((seen.len(), through), (1_500, 303));
}

#[tokio::test]
async fn a_scan_finds_the_records_of_a_message_in_all_streams() {
    let server = Server::start();
    let spool = Spool::open(&server.config(), "test", ShardLayout::CLUSTER).await.unwrap();
    let before = spool.server_now();
    write(&spool, "b00", 0..400).await;
    write(&spool, "b01", 7..8).await;
    write(&spool, "b02", 400..800).await;
    let scan = spool.scan_events(before, spool.server_now().after(Duration::from_secs(1)), &[message(7)]);
    let found = scan.collect(10).await.unwrap();
    let shards: Vec<String> = found.iter().map(|record| record.shard.to_string()).collect();
    assert_eq!(shards, ["b00", "b01"]);
    assert!(found.iter().all(|record| record.id.message == message(7)));
}

#[tokio::test]
async fn a_record_whose_move_only_a_newer_build_can_read_is_a_record_all_the_same() {
    let server = Server::start();
    let spool = server.spool().await;
    let t00 = shard("t00");
    let mut newer = wire::Record::from(&record(1, t00, spool.server_now()));
    let tier = wire::ToTier { tier: "3d".to_owned(), reason: "retry".to_owned(), ..wire::ToTier::default() };
    newer.next = Some(wire::Move { to: Some(wire::r#move::To::Tier(tier)) });
    let batch = wire::Batch { records: vec![newer], ..wire::Batch::default() };
    server.jetstream().await.publish("event.t00", batch.encode_to_vec().into()).await.unwrap().await.unwrap();
    let mut seen = Vec::new();
    spool.replay_events(t00, 0, |_, record: Replayed| seen.push((record.hop.message, record.next))).await.unwrap();
    assert_eq!(seen, [(message(1), Next::ForNewer)]);
}

#[tokio::test]
async fn a_scan_keeps_to_its_time_and_its_order() {
    let server = Server::start();
    let spool = Spool::open(&server.config(), "test", ShardLayout::CLUSTER).await.unwrap();
    let now = spool.server_now();
    let at = |seconds: u64| now.before(Duration::from_secs(50)).after(Duration::from_secs(seconds));
    for (shard_name, seconds) in [("b00", 10), ("b01", 20), ("b00", 30), ("b01", 40)] {
        let shard = shard(shard_name);
        spool.publish_events(shard, &[record(seconds, shard, at(seconds))], &flush()).await.unwrap();
    }
    let records = spool.scan_events(at(15), at(35), &[]).collect(10).await.unwrap();
    assert_eq!(records.iter().map(|record| record.at).collect::<Vec<_>>(), [at(20), at(30)]);
    // Nothing was stored that early.
    assert!(spool.scan_events(Timestamp::default(), at(5), &[]).collect(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_tail_sees_what_happens_next() {
    let server = Server::start();
    let spool = server.spool().await;
    write(&spool, "b00", 0..5).await;
    let mut tail = spool.tail_events(ScanFrom::Now).await.unwrap();
    write(&spool, "b01", 5..6).await;
    write(&spool, "t00", 6..7).await;
    for n in [5, 6] {
        let record = tokio::time::timeout(PATIENCE, tail.next()).await.unwrap().unwrap();
        assert_eq!(record.id.message, message(n));
    }
}
