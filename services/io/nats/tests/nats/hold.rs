//! HOLD, and looking through places of the queue.

use postrider_model::{Class, MessageId, RuleFilter, Tier};
use postrider_nats::{Found, NatsConfig, Place, PlaceScan, Spool};
use postrider_proto::Packet;

use crate::mail::{body, envelope, moved, shard, transactional};
use crate::server::{Server, eventually};
use tokio_util::sync::CancellationToken;

async fn all(mut scan: PlaceScan) -> Vec<Found> {
    let mut found = Vec::new();
    while let Some(chunk) = scan.next().await.unwrap() {
        found.extend(chunk);
    }
    found
}

fn messages(found: &[Found]) -> Vec<MessageId> {
    found.iter().map(|found| found.packet.envelope().message).collect()
}

async fn in_ready(spool: &Spool) -> u64 {
    spool.place_state(Place::Ready).await.unwrap().messages
}

fn bulk(n: u64, tenant: &str, site: &str) -> Packet {
    let mut envelope = envelope(n, Class::Bulk, site);
    envelope.tenant = tenant.parse().unwrap();
    moved(&Packet::new(envelope, body("hello")))
}

#[tokio::test]
async fn what_is_suspended_is_counted_and_found_in_its_order() {
    let server = Server::start();
    let spool = server.spool().await;
    assert_eq!(all(spool.scan_hold(0)).await.len(), 0);
    let packets: Vec<Packet> = (0..600).map(|n| moved(&transactional(n))).collect();
    for packet in &packets {
        spool.copy_to_hold(packet).await.unwrap();
    }
    // A settle that is done again makes no second one.
    spool.copy_to_hold(&packets[599]).await.unwrap();
    let depths = spool.held_depths().await.unwrap();
    assert_eq!((depths.len(), depths[0].count, depths[0].class), (1, 600, Class::Transactional));
    let found = all(spool.scan_hold(0)).await;
    let expected: Vec<MessageId> = packets.iter().map(|packet| packet.envelope().message).collect();
    assert_eq!(messages(&found), expected);
    let rest = all(spool.scan_hold(found[589].sequence)).await;
    assert_eq!(messages(&rest), expected[590..]);
}

#[tokio::test]
async fn what_leaves_hold_is_in_ready_with_its_id_and_its_bytes() {
    let server = Server::start();
    let spool = server.spool().await;
    let packet = moved(&transactional(1));
    spool.copy_to_hold(&packet).await.unwrap();
    let found = all(spool.scan_hold(0)).await;
    spool.bring_to_ready(&found[0]).await.unwrap();
    // Another that looked at the same time does the same.
    spool.bring_to_ready(&found[0]).await.unwrap();
    assert_eq!((in_ready(&spool).await, spool.place_state(Place::Hold).await.unwrap().messages), (1, 0));
    let mut puller = spool.puller(shard("t00"));
    let leased = eventually("the packet", async || puller.pull(1, 1 << 20).await.pop()).await.unwrap();
    assert_eq!(leased.packet, packet);
}

#[tokio::test]
async fn a_crash_between_publish_and_delete_makes_no_second_one() {
    let server = Server::start();
    let spool = server.spool().await;
    let packet = moved(&transactional(1));
    spool.copy_to_tier(&packet, Tier::H1).await.unwrap();
    // Published, and dead before the deletion.
    spool.publish_ready(&packet).await.unwrap();
    let found = all(spool.scan_place(Place::Tier(Tier::H1), &RuleFilter::default())).await;
    spool.bring_to_ready(&found[0]).await.unwrap();
    assert_eq!((in_ready(&spool).await, spool.place_state(Place::Tier(Tier::H1)).await.unwrap().messages), (1, 0));
}

#[tokio::test]
async fn a_promoter_at_the_same_time_makes_no_second_one() {
    let server = Server::start();
    let config = NatsConfig { tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0], ..server.config() };
    let spool = server.spool_of(&config).await;
    for n in 0..400 {
        spool.copy_to_tier(&moved(&transactional(n)), Tier::M1).await.unwrap();
    }
    let found = all(spool.scan_place(Place::Tier(Tier::M1), &RuleFilter::default())).await;
    assert_eq!(found.len(), 400);
    let shutdown = CancellationToken::new();
    let promoters = tokio::spawn({
        let (spool, shutdown) = (spool.clone(), shutdown.clone());
        async move { spool.run_promoters(shutdown, || 1, |_| false, |_| {}).await }
    });
    // All of these are due too: whoever is first, the id shows the other.
    for found in &found {
        spool.bring_to_ready(found).await.unwrap();
    }
    let left = async || spool.place_state(Place::Tier(Tier::M1)).await.unwrap().messages;
    eventually("an empty tier", async || (left().await == 0).then_some(())).await;
    shutdown.cancel();
    promoters.await.unwrap();
    assert_eq!(in_ready(&spool).await, 400);
}

#[tokio::test]
async fn a_scan_reads_no_more_than_its_filter_may_match() {
    let server = Server::start();
    let spool = server.spool().await;
    for (n, (tenant, site)) in
        [("acme", "example.net"), ("acme", "example.org"), ("other", "example.net")].into_iter().enumerate()
    {
        let n = u64::try_from(n).unwrap();
        spool.copy_to_tier(&bulk(n, tenant, site), Tier::M5).await.unwrap();
        spool.copy_to_hold(&bulk(10 + n, tenant, site)).await.unwrap();
    }
    spool.copy_to_tier(&moved(&transactional(7)), Tier::M5).await.unwrap();
    let count = async |filter: &RuleFilter| {
        let tier = all(spool.scan_place(Place::Tier(Tier::M5), filter)).await.len();
        (tier, all(spool.scan_place(Place::Hold, filter)).await.len())
    };
    let any = RuleFilter::default();
    assert_eq!(count(&any).await, (4, 3));
    assert_eq!(count(&RuleFilter { tenant: Some("other".parse().unwrap()), ..any.clone() }).await, (1, 1));
    assert_eq!(count(&RuleFilter { site: Some("example.net".parse().unwrap()), ..any.clone() }).await, (3, 2));
    assert_eq!(count(&RuleFilter { class: Some(Class::Bulk), ..any.clone() }).await, (3, 3));
    // The ids of these are from long ago: all that was stored since may be it.
    assert_eq!(count(&RuleFilter { message: Some(crate::mail::message(0)), ..any }).await, (4, 3));
}
