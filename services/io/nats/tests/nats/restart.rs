//! The server dies as by `kill -9` and comes back with the same store.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_model::{EnvelopeId, TenantId, Tier};
use postrider_nats::{ConfigKey, Expected, NatsConfig};
use postrider_proto::config::v1 as wire;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::mail::{moved, shard, transactional};
use crate::server::{PATIENCE, Server, eventually};

#[tokio::test]
async fn nothing_acknowledged_is_lost_or_comes_again_and_clients_go_on() {
    let mut server = Server::start();
    let spool = server.spool().await;
    for n in 0..100 {
        spool.publish_ready(&transactional(n)).await.unwrap();
    }
    let mut puller = spool.puller(shard("t00"));
    let mut held = Vec::new();
    while held.len() < 60 {
        held.extend(puller.pull(60 - held.len(), 8 << 20).await.into_iter().map(Result::unwrap));
    }
    for leased in held.drain(..30) {
        leased.handle.ack_confirmed(Duration::from_secs(10)).await.unwrap();
    }

    server.kill();
    eventually("the loss is known", async || (!spool.connected()).then_some(())).await;
    server.start_again();

    for n in 100..110 {
        spool.publish_ready(&transactional(n)).await.unwrap();
    }
    // Leases of before are acknowledged while their mail comes again: which of the two ends it does not matter.
    let late = tokio::spawn(async move {
        for leased in held {
            leased.handle.ack_confirmed(Duration::from_secs(10)).await.unwrap();
        }
    });
    let expected: BTreeSet<EnvelopeId> = (60..110).map(|n| transactional(n).id()).collect();
    let acknowledged: BTreeSet<EnvelopeId> = (0..30).map(|n| transactional(n).id()).collect();
    let mut found = BTreeSet::new();
    while !found.is_superset(&expected) {
        for leased in puller.pull(100, 8 << 20).await {
            let leased = leased.unwrap();
            assert!(!acknowledged.contains(&leased.packet.id()), "{} came again", leased.packet.id());
            found.insert(leased.packet.id());
            leased.handle.ack_confirmed(Duration::from_secs(10)).await.unwrap();
        }
    }
    late.await.unwrap();
    eventually("READY is empty", async || {
        for leased in puller.pull(100, 8 << 20).await {
            leased.unwrap().handle.ack_confirmed(Duration::from_secs(10)).await.unwrap();
        }
        spool.depths().await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn promoters_go_on() {
    let mut server = Server::start();
    let config = NatsConfig { tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0], ..server.config() };
    let spool = server.spool_of(&config).await;
    let shutdown = CancellationToken::new();
    let promoters = tokio::spawn({
        let (spool, shutdown) = (spool.clone(), shutdown.clone());
        async move { spool.run_promoters(shutdown, || 1, |_| false, |_| {}).await }
    });
    server.kill();
    server.start_again();
    spool.copy_to_tier(&moved(&transactional(1)), Tier::M1).await.unwrap();
    eventually("promotion", async || {
        let depths = spool.depths().await.ok()?;
        depths.iter().any(|depth| depth.tier.is_none()).then_some(())
    })
    .await;
    shutdown.cancel();
    promoters.await.unwrap();
}

#[tokio::test]
async fn the_snapshot_goes_on() {
    let mut server = Server::start();
    let spool = server.spool().await;
    let mut snapshot = spool.watch_snapshot().await;
    server.kill();
    eventually("the loss is known", async || (!spool.connected()).then_some(())).await;
    server.start_again();
    let id: TenantId = "acme".parse().unwrap();
    let value = wire::Tenant { id: id.to_string(), display_name: String::new(), weight: 0 }.encode_to_vec();
    let store = spool.config_store();
    eventually("the write", async || {
        store.put(&ConfigKey::Tenant(id.clone()), value.clone().into(), Expected::Whatever).await.ok()
    })
    .await;
    let begun = tokio::time::Instant::now();
    let seen = snapshot.wait_for(|snapshot| snapshot.tenants.contains_key(&id));
    assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_journal_is_still_there() {
    let mut server = Server::start();
    let spool = server.spool().await;
    let t00 = shard("t00");
    let record = crate::mail::record(1, t00, spool.server_now());
    let sequence = spool.publish_events(t00, &[record], "flush").await.unwrap();
    server.kill();
    server.start_again();
    let mut seen = 0;
    assert_eq!(spool.replay_events(t00, 0, |_, _| seen += 1).await.unwrap(), sequence);
    assert_eq!(seen, 1);
}
