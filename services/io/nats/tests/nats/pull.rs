//! Pulling a shard's mail, and the ends of a lease.

use std::time::Duration;

use postrider_nats::{Handle, Leased, Puller, Spool};

use crate::mail::{shard, transactional};
use crate::server::{Server, eventually};

const BYTES: usize = 8 << 20;

/// Pulls until one packet has come.
async fn one(puller: &mut Puller) -> Leased {
    loop {
        let mut batch = puller.pull(1, BYTES).await;
        if let Some(first) = batch.pop() {
            return first.unwrap();
        }
    }
}

async fn several(puller: &mut Puller, count: usize) -> Vec<Leased> {
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(puller.pull(count - found.len(), BYTES).await.into_iter().map(Result::unwrap));
    }
    found
}

async fn ack(handle: Handle) {
    handle.ack_confirmed(Duration::from_secs(10)).await.unwrap();
}

async fn left(spool: &Spool) -> u64 {
    spool.depths().await.unwrap().iter().map(|depth| depth.count).sum()
}

async fn with_mail(count: u64) -> (Server, Spool, Puller) {
    let server = Server::start();
    let spool = server.spool().await;
    for n in 0..count {
        spool.publish_ready(&transactional(n)).await.unwrap();
    }
    let puller = spool.puller(shard("t00"));
    (server, spool, puller)
}

#[tokio::test]
async fn what_was_published_is_pulled_and_gone_once_acknowledged() {
    let (_server, spool, mut puller) = with_mail(3).await;
    let mut ids = Vec::new();
    for leased in several(&mut puller, 3).await {
        ids.push(leased.packet.id());
        ack(leased.handle).await;
    }
    assert_eq!(ids, (0..3).map(|n| transactional(n).id()).collect::<Vec<_>>());
    assert_eq!(left(&spool).await, 0);
}

#[tokio::test]
async fn mail_wakes_an_open_pull_at_once() {
    let (_server, spool, mut puller) = with_mail(0).await;
    // Nothing is there: the request of this pull stays open at the server while it is dropped here.
    tokio::select! {
        biased;
        batch = puller.pull(100, BYTES) => panic!("{batch:?}"),
        () = tokio::task::yield_now() => {}
    }
    let begun = tokio::time::Instant::now();
    spool.publish_ready(&transactional(1)).await.unwrap();
    ack(one(&mut puller).await.handle).await;
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn no_more_is_pulled_than_there_is_room_for() {
    let (server, _spool, mut puller) = with_mail(20).await;
    let held = several(&mut puller, 5).await;
    assert!(puller.pull(0, BYTES).await.is_empty());
    let stream = server.jetstream().await.get_stream("READY_T").await.unwrap();
    assert_eq!(stream.consumer_info("ready-t00").await.unwrap().num_ack_pending, 5);
    drop(held);
}

#[tokio::test]
async fn what_is_handed_back_comes_again() {
    let (_server, _spool, mut puller) = with_mail(1).await;
    one(&mut puller).await.handle.hand_back().await;
    assert_eq!(one(&mut puller).await.packet, transactional(0));
}

#[tokio::test]
async fn a_second_acknowledgement_does_no_harm() {
    let (_server, spool, mut puller) = with_mail(2).await;
    let first = one(&mut puller).await;
    spool.reset_consumer(shard("t00")).await.unwrap();
    let again = one(&mut puller).await;
    assert_eq!(first.packet.id(), again.packet.id());
    ack(again.handle).await;
    ack(first.handle).await;
    let next = one(&mut puller).await;
    assert_ne!(next.packet.id(), first.packet.id());
}

#[tokio::test]
async fn a_reset_brings_all_unacknowledged_mail_again_at_once() {
    let (_server, spool, mut dead) = with_mail(50).await;
    let mut held = several(&mut dead, 50).await;
    for leased in held.drain(..10) {
        ack(leased.handle).await;
    }
    drop((held, dead));
    let begun = tokio::time::Instant::now();
    spool.reset_consumer(shard("t00")).await.unwrap();
    let again = several(&mut spool.puller(shard("t00")), 40).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let expected: Vec<_> = (10..50).map(|n| transactional(n).id()).collect();
    assert_eq!(again.iter().map(|leased| leased.packet.id()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn mail_that_went_to_the_last_owner_after_the_reset_is_missed_and_comes_at_the_next() {
    let (_server, spool, mut last) = with_mail(0).await;
    let mut next = spool.puller(shard("t00"));
    // A request of the last owner is still open when the next begins.
    assert!(tokio::time::timeout(Duration::from_millis(200), last.pull(2, BYTES)).await.is_err());
    next.reset().await.unwrap();
    for n in 0..3 {
        spool.publish_ready(&transactional(n)).await.unwrap();
    }
    assert_eq!(one(&mut next).await.packet, transactional(2));
    assert!(!next.has_no_gap() && next.take_missed());
    next.reset().await.unwrap();
    let again = several(&mut next, 3).await;
    assert_eq!(again.iter().map(|leased| leased.packet.clone()).collect::<Vec<_>>(), [0, 1, 2].map(transactional));
    assert!(next.has_no_gap() && !next.take_missed());
    while !next.is_exhausted() {
        assert!(next.pull(10, BYTES).await.is_empty());
    }
    assert!(next.has_all().await.unwrap());
}

#[tokio::test]
async fn mail_that_went_to_the_last_owner_is_missed_even_if_nothing_else_comes() {
    let (_server, spool, mut last) = with_mail(0).await;
    let mut next = spool.puller(shard("t00"));
    assert!(tokio::time::timeout(Duration::from_millis(200), last.pull(2, BYTES)).await.is_err());
    next.reset().await.unwrap();
    spool.publish_ready(&transactional(0)).await.unwrap();
    while !next.is_exhausted() {
        assert!(next.pull(10, BYTES).await.is_empty());
    }
    assert!(!next.has_all().await.unwrap());
    assert!(next.take_missed());
}

#[tokio::test]
async fn a_puller_that_stops_leaves_nothing_behind() {
    let (server, spool, mut puller) = with_mail(3).await;
    let kept = one(&mut puller).await;
    // Opens a request for more than is looked at.
    tokio::select! {
        biased;
        batch = puller.pull(100, BYTES) => panic!("{batch:?}"),
        () = tokio::task::yield_now() => {}
    }
    let begun = tokio::time::Instant::now();
    puller.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let stream = server.jetstream().await.get_stream("READY_T").await.unwrap();
    eventually("only the kept one is pending", async || {
        let info = stream.consumer_info("ready-t00").await.unwrap();
        (info.num_ack_pending - info.num_redelivered == 1 || info.num_ack_pending == 1).then_some(())
    })
    .await;
    let next = several(&mut spool.puller(shard("t00")), 2).await;
    assert!(next.iter().all(|leased| leased.packet.id() != kept.packet.id()));
}

#[tokio::test]
async fn a_record_that_is_no_packet_is_buried() {
    let (server, spool, mut puller) = with_mail(0).await;
    let jetstream = server.jetstream().await;
    jetstream.publish("ready.t00.example_net.acme", "no packet".into()).await.unwrap().await.unwrap();
    let undecodable = loop {
        if let Some(pulled) = puller.pull(10, BYTES).await.pop() {
            break pulled.unwrap_err();
        }
    };
    spool.bury_undecodable(undecodable).await;
    assert_eq!(spool.dead_count().await.unwrap(), 1);
    let dead = jetstream.get_stream("DEAD").await.unwrap();
    let letter = dead.get_last_raw_message_by_subject("dead.undecodable").await.unwrap();
    assert_eq!(letter.payload, "no packet");
    assert_eq!(left(&spool).await, 0);
}

#[tokio::test]
async fn a_record_for_a_newer_build_is_left_where_it_is() {
    let (server, spool, mut puller) = with_mail(0).await;
    let jetstream = server.jetstream().await;
    // min_reader 99
    jetstream.publish("ready.t00.example_net.acme", vec![8, 99].into()).await.unwrap().await.unwrap();
    let stream = jetstream.get_stream("READY_T").await.unwrap();
    loop {
        assert!(puller.pull(10, BYTES).await.is_empty());
        if stream.consumer_info("ready-t00").await.unwrap().delivered.consumer_sequence > 0 {
            break;
        }
    }
    assert_eq!(left(&spool).await, 1);
}

#[tokio::test]
async fn a_consumer_that_vanished_is_made_again_by_who_pulls() {
    let (server, _spool, mut puller) = with_mail(1).await;
    let stream = server.jetstream().await.get_stream("READY_T").await.unwrap();
    stream.delete_consumer("ready-t00").await.unwrap();
    assert_eq!(one(&mut puller).await.packet, transactional(0));
}

#[tokio::test]
async fn the_end_of_the_mail_is_told_from_an_answer_that_did_not_come() {
    let (mut server, _spool, mut puller) = with_mail(2).await;
    let both = several(&mut puller, 2).await;
    assert!(!puller.is_exhausted(), "nobody has said that there is no more");
    while !puller.is_exhausted() {
        assert!(puller.pull(10, BYTES).await.is_empty());
    }
    drop(both);
    server.kill();
    // Whatever was still open at the server may have ended well; what is asked from now on has no answer.
    eventually("a pull without an answer", async || {
        (puller.pull(10, BYTES).await.is_empty() && !puller.is_exhausted()).then_some(())
    })
    .await;
}
