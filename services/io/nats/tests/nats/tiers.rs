//! The tiers and their promoters.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use postrider_model::{Body, Class, Reply, Tier};
use postrider_nats::{NatsConfig, PromoterEvent, Sharing, Spool};
use postrider_proto::Packet;
use tokio_util::sync::CancellationToken;

use crate::mail::{envelope, moved, shard, transactional};
use crate::server::{Server, eventually};

async fn counts(spool: &Spool) -> Vec<(Option<Tier>, u64)> {
    let mut counts: Vec<_> = spool.depths().await.unwrap().into_iter().map(|depth| (depth.tier, depth.count)).collect();
    counts.sort_unstable();
    counts
}

/// The first tier is over soon, the others are not.
async fn spool(server: &Server) -> Spool {
    let config = NatsConfig { tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0], ..server.config() };
    server.spool_of(&config).await
}

#[tokio::test]
async fn what_is_due_goes_back_to_ready_and_the_rest_stays() {
    let server = Server::start();
    let spool = spool(&server).await;
    for n in 0..20 {
        let tier = if n % 2 == 0 { Tier::M1 } else { Tier::M5 };
        spool.copy_to_tier(&moved(&transactional(n)), tier).await.unwrap();
    }
    assert_eq!(counts(&spool).await, [(Some(Tier::M1), 10), (Some(Tier::M5), 10)]);

    let shutdown = CancellationToken::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let promoters = tokio::spawn({
        let (spool, shutdown, told) = (spool.clone(), shutdown.clone(), Arc::clone(&told));
        async move { spool.run_promoters(shutdown, || 1, |_| false, move |event| told.lock().unwrap().push(event)).await }
    });
    eventually("promotion", async || (counts(&spool).await == [(None, 10), (Some(Tier::M5), 10)]).then_some(())).await;
    shutdown.cancel();
    promoters.await.unwrap();

    let told = told.lock().unwrap().clone();
    let (tier, class) = (Tier::M1, Class::Transactional);
    let promoted = told.iter().filter(|event| **event == PromoterEvent::Promoted { tier, class }).count();
    assert_eq!((told.len(), promoted), (20, 10));
}

#[tokio::test]
async fn a_promoted_envelope_keeps_its_id_and_its_bytes() {
    let server = Server::start();
    let spool = spool(&server).await;
    let packet = moved(&transactional(1));
    spool.copy_to_tier(&packet, Tier::M1).await.unwrap();
    let shutdown = CancellationToken::new();
    let promoters = tokio::spawn({
        let (spool, shutdown) = (spool.clone(), shutdown.clone());
        async move { spool.run_promoters(shutdown, || 1, |_| false, |_| {}).await }
    });
    let mut puller = spool.puller(shard("t00"));
    let leased = loop {
        if let Some(leased) = puller.pull(1, 1 << 20).await.pop() {
            break leased.unwrap();
        }
    };
    assert_eq!(leased.packet, packet);
    shutdown.cancel();
    promoters.await.unwrap();
}

#[tokio::test]
async fn promoters_of_two_processes_promote_everything_once() {
    let server = Server::start();
    let spool = spool(&server).await;
    let other = self::spool(&server).await;
    let shutdown = CancellationToken::new();
    let run = |spool: Spool| {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { spool.run_promoters(shutdown, || 1, |_| false, |_| {}).await })
    };
    let promoters = [run(spool.clone()), run(other)];
    for n in 0..500 {
        spool.copy_to_tier(&moved(&transactional(n)), Tier::M1).await.unwrap();
    }
    eventually("promotion", async || (counts(&spool).await == [(None, 500)]).then_some(())).await;
    shutdown.cancel();
    for promoter in promoters {
        promoter.await.unwrap();
    }
}

#[tokio::test]
async fn the_head_of_a_tier_is_the_one_that_waits_longest() {
    let server = Server::start();
    let spool = spool(&server).await;
    assert_eq!(spool.tier_head(Tier::M5, Class::Transactional).await.unwrap(), None);
    let before = spool.server_now();
    spool.copy_to_tier(&moved(&transactional(1)), Tier::M5).await.unwrap();
    let head = spool.tier_head(Tier::M5, Class::Transactional).await.unwrap().unwrap();
    spool.copy_to_tier(&moved(&transactional(2)), Tier::M5).await.unwrap();
    assert_eq!(spool.tier_head(Tier::M5, Class::Transactional).await.unwrap(), Some(head));
    assert_eq!(spool.tier_head(Tier::M5, Class::Bulk).await.unwrap(), None);
    assert!(head.as_millis().abs_diff(before.as_millis()) < 2_000);
}

/// An envelope as a deferred one is: its body in BODY, the last reply at its side.
async fn deferred(spool: &Spool, n: u64, body: &Body) -> bool {
    let mut envelope = envelope(n, Class::Bulk, "closed.example");
    envelope.sender = "bounce-7f3a@news.acme.example".parse().unwrap();
    envelope.campaign = Some("autumn".parse().unwrap());
    envelope.from_domain = Some("news.acme.example".parse().unwrap());
    envelope.header_message_id = format!("20251122.{n:08}.7c1f9a3e5b2d4860@mailer-07.news.acme.example");
    envelope.metadata = vec![("customer".to_owned(), format!("{n:08}"))];
    let text = "The user you are trying to contact is receiving mail at a rate that prevents additional messages from being \
                delivered. Please resend your message at a later time.";
    envelope.state.last_reply = Some(Reply::new(450, "4.2.1".parse().ok(), text));
    spool.copy_to_tier(&moved(&Packet::new(envelope, body.clone())), Tier::H1).await.is_ok()
}

#[tokio::test]
async fn a_single_full_tier_refuses_no_mail_but_all_that_stand_in_for_each_other_do() {
    const DAY: Duration = Duration::from_secs(86_400);
    /// A 256th of the default.
    const STORAGE: u64 = 32 << 20;
    let server = Server::start();
    let spool = server.spool_of(&NatsConfig { storage_bytes: STORAGE, ..server.config() }).await;
    let body = spool.store_body(Bytes::from_static(b"hello"), Sharing::Shared).await.unwrap();
    // What an hour's tier holds of envelopes as they are.
    let fill = stream::iter(0..10_000).map(|n| deferred(&spool, n, &body)).buffer_unordered(64);
    let held = fill.filter(|stored| std::future::ready(*stored)).count().await;
    eventually("a full tier", async || (spool.full_tiers() == [false, false, false, true, false]).then_some(())).await;
    assert!(spool.fullness_for(DAY) < 0.1, "{}", spool.fullness_for(DAY));
    // README.md says how many fit into the storage of a first start.
    let in_default = held * 256;
    assert!((700_000..900_000).contains(&in_default), "{in_default} of {} bytes", (STORAGE / 20) / held as u64);

    let large = Body::Inline { bytes: vec![b'x'; 20_000].into(), compressed: false };
    let fill = async |tier: Tier| {
        let packet = |n| moved(&Packet::new(envelope(n, Class::Bulk, "closed.example"), large.clone()));
        for n in 0.. {
            if spool.copy_to_tier(&packet(n), tier).await.is_err() {
                break;
            }
        }
    };
    fill(Tier::M15).await;
    eventually("two full tiers", async || spool.full_tiers()[Tier::M15.index()].then_some(())).await;
    assert!(spool.fullness_for(DAY) < 0.1, "that of five minutes is left");
    fill(Tier::M5).await;
    eventually("a refusal", async || (spool.fullness_for(DAY) >= Spool::FULL).then_some(())).await;
    // What was accepted before is moved still.
    spool.copy_to_tier(&moved(&transactional(1)), Tier::M1).await.unwrap();
}
