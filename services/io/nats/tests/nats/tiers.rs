//! The tiers and their promoters.

use std::sync::{Arc, Mutex};

use postrider_model::{Class, Tier};
use postrider_nats::{NatsConfig, PromoterEvent, Spool};
use tokio_util::sync::CancellationToken;

use crate::mail::{moved, shard, transactional};
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
        async move { spool.run_promoters(shutdown, |_| false, move |event| told.lock().unwrap().push(event)).await }
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
        async move { spool.run_promoters(shutdown, |_| false, |_| {}).await }
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
        tokio::spawn(async move { spool.run_promoters(shutdown, |_| false, |_| {}).await })
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
