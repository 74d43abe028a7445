//! What owners say of their shards, and what those do with it who publish.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_dispatch::shard_state::{Credit, CreditLine, Jam, ShardState};
use postrider_model::{Class, Tier, WaitReason};
use postrider_nats::{NatsConfig, Spool};
use tokio_util::sync::CancellationToken;

use crate::mail::{envelope, moved, shard, transactional};
use crate::server::{Server, eventually};

fn jam(turn_in: Duration) -> ShardState {
    let jam = Jam {
        site: "example.net".parse().unwrap(),
        tenant: None,
        reason: WaitReason::SiteClosed,
        turn_in,
        probing: false,
    };
    ShardState { jams: vec![jam], asks_for_credit: true }
}

/// An envelope that does not expire while the test runs.
fn lasting(n: u64) -> postrider_model::Envelope {
    let mut envelope = envelope(n, Class::Transactional, "example.net");
    envelope.expiry = postrider_model::Timestamp::from_millis(u64::MAX / 2);
    envelope
}

fn packet(n: u64) -> postrider_proto::Packet {
    let body = transactional(n).body().clone();
    moved(&postrider_proto::Packet::new(lasting(n), body))
}

#[tokio::test]
async fn who_publishes_hears_which_mail_would_only_wait() {
    let server = Server::start();
    let (owner, ingress) = (server.spool().await, server.spool().await);
    assert_eq!(ingress.tier_for(&lasting(1), Tier::H1), None);
    eventually("the state", async || {
        owner.tell_shard_state(shard("t00"), &jam(Duration::from_secs(1_000))).await.unwrap();
        ingress.tier_for(&lasting(1), Tier::H1)
    })
    .await;
    assert_eq!(ingress.tier_for(&lasting(1), Tier::H1), Some(Tier::M15));
    assert_eq!(ingress.tier_for(&lasting(1), Tier::M5), Some(Tier::M5));
    assert_eq!(ingress.tier_for(&envelope(1, Class::Transactional, "other.example"), Tier::H1), None);
    eventually("calm", async || {
        owner.tell_shard_state(shard("t00"), &ShardState::default()).await.unwrap();
        ingress.tier_for(&lasting(1), Tier::H1).is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_falls_silent_is_soon_not_believed_any_more() {
    let server = Server::start();
    let spool = server.spool().await;
    let told = eventually("the state", async || {
        spool.tell_shard_state(shard("t00"), &jam(Duration::from_secs(1_000))).await.unwrap();
        spool.tier_for(&lasting(1), Tier::H1)
    })
    .await;
    assert_eq!(told, Tier::M15);
    eventually("disbelief", async || spool.tier_for(&lasting(1), Tier::H1).is_none().then_some(())).await;
}

/// The first tier is over at once, the others are not.
async fn spool(server: &Server) -> Spool {
    let config = NatsConfig { tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0], ..server.config() };
    server.spool_of(&config).await
}

/// Waits until what is stored now is, by whatever clock, of a later second than what ran before: so that nobody that was there
/// before can have had it.
async fn later_second(spool: &Spool) {
    let begun = spool.server_now();
    let later = async || (spool.server_now().since(begun).as_secs() > 0).then_some(());
    eventually("a later second", later).await;
}

async fn count(spool: &Spool, tier: Option<Tier>) -> u64 {
    spool.depths().await.unwrap().into_iter().filter(|depth| depth.tier == tier).map(|depth| depth.count).sum()
}

/// An owner that says that its site is jammed, and gives this credit to the first question and to each later one.
async fn owner(spool: Spool, first: Credit, later: Credit, stop: CancellationToken) -> tokio::task::JoinHandle<()> {
    let mut questions = spool.credit_questions(shard("t00")).await.unwrap();
    spool.ensure().await.unwrap();
    tokio::spawn(async move {
        let mut credit = first;
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        while !stop.is_cancelled() {
            tokio::select! {
                _ = ticks.tick() => spool.tell_shard_state(shard("t00"), &jam(Duration::ZERO)).await.unwrap(),
                question = questions.next() => {
                    let Some(question) = question else { return };
                    let lines: Vec<CreditLine> = question.credit_lines().unwrap();
                    assert_eq!(lines.len(), 1, "one site and tenant");
                    question.answer_credit(&[credit]).await;
                    credit = later;
                }
            }
        }
    })
}

#[tokio::test]
async fn what_gets_no_credit_goes_to_a_tier_again_with_its_id() {
    let server = Server::start();
    let (spool, stop) = (spool(&server).await, CancellationToken::new());
    let none = Credit { granted: 0, turn_in: Duration::from_secs(1_000) };
    let owner = owner(self::spool(&server).await, Credit { granted: 7, ..none }, none, stop.clone()).await;
    eventually("the state", async || spool.tier_for(&lasting(1), Tier::H1)).await;
    // They run before the mail is due: else it may have been another's, and goes to READY.
    let promoters = tokio::spawn({
        let (spool, stop) = (spool.clone(), stop.clone());
        async move { spool.run_promoters(stop, || 1, |_| false, |_| {}).await }
    });
    later_second(&spool).await;
    for n in 0..30 {
        spool.copy_to_tier(&packet(n), Tier::M1).await.unwrap();
    }
    eventually("all are placed", async || (count(&spool, Some(Tier::M1)).await == 0).then_some(())).await;
    let (ready, later) = (count(&spool, None).await, count(&spool, Some(Tier::M15)).await);
    assert!(ready <= 7 && ready + later == 30, "{ready} in READY, {later} in the tier");
    let depths = spool.tier_depths(shard("t00"), &"example.net".parse().unwrap()).await.unwrap();
    assert_eq!(depths, [("acme".parse().unwrap(), [0, 0, later, 0, 0])]);
    stop.cancel();
    promoters.await.unwrap();
    owner.abort();
}

#[tokio::test]
async fn the_same_short_tier_takes_an_envelope_again_and_again_and_loses_none() {
    let server = Server::start();
    let (spool, stop) = (spool(&server).await, CancellationToken::new());
    let none = Credit { granted: 0, turn_in: Duration::ZERO };
    let owner = owner(self::spool(&server).await, none, none, stop.clone()).await;
    eventually("the state", async || spool.tier_for(&lasting(1), Tier::H1)).await;
    for n in 0..20 {
        spool.copy_to_tier(&packet(n), Tier::M1).await.unwrap();
    }
    let delayed = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let promoters = tokio::spawn({
        let (spool, stop, delayed) = (spool.clone(), stop.clone(), delayed.clone());
        let count = move |event| {
            if let postrider_nats::PromoterEvent::Delayed { .. } = event {
                delayed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        async move { spool.run_promoters(stop, || 1, |_| false, count).await }
    });
    let enough = async || (delayed.load(std::sync::atomic::Ordering::Relaxed) > 60).then_some(());
    eventually("several rounds", enough).await;
    // Nobody answers any more, and nobody says that the site is closed: it goes by READY as ever.
    owner.abort();
    let mut puller = spool.puller(shard("t00"));
    let mut seen = BTreeSet::new();
    eventually("all come", async || {
        for leased in puller.pull(100, 1 << 20).await {
            let leased = leased.unwrap();
            assert!(seen.insert(leased.packet.id().to_string()), "twice: {}", leased.packet.id());
            leased.handle.ack_confirmed(Duration::from_secs(5)).await.unwrap();
        }
        (seen.len() == 20).then_some(())
    })
    .await;
    stop.cancel();
    promoters.await.unwrap();
}

#[tokio::test]
async fn what_may_have_been_split_before_goes_to_ready_and_to_no_tier() {
    let server = Server::start();
    let (spool, stop) = (spool(&server).await, CancellationToken::new());
    let none = Credit { granted: 0, turn_in: Duration::ZERO };
    let owner = owner(self::spool(&server).await, none, none, stop.clone()).await;
    let publish = async |n: u64| {
        let body = spool.place_body("hello".into(), postrider_nats::Sharing::Shared).await.unwrap();
        let part = |number: u32, site: &str| {
            let site = site.parse().unwrap();
            let state = postrider_model::EnvelopeState { site, ..lasting(n).state };
            postrider_proto::Packet::new(postrider_model::Envelope { part: number, state, ..lasting(n) }, body.clone())
        };
        let parts = [part(0, "example.net"), part(1, "other.example"), part(2, "example.net")];
        spool.publish_intake(&lasting(n).message, Class::Transactional, &parts).await.unwrap();
    };
    let split = async || {
        let once = CancellationToken::new();
        let tell = |event| {
            if let postrider_nats::SplitterEvent::Split { .. } = event {
                once.cancel();
            }
        };
        spool.run_splitter(once.clone(), tell).await;
    };
    eventually("the state", async || spool.tier_for(&lasting(1), Tier::H1)).await;
    tokio::join!(split(), async {
        later_second(&spool).await;
        publish(1).await;
    });
    assert_eq!((count(&spool, None).await, count(&spool, Some(Tier::M1)).await), (1, 2), "a new one");

    // A splitter had it that may have got as far as READY before its site was closed.
    publish(2).await;
    let intake = server.jetstream().await.get_stream("INTAKE").await.unwrap();
    let died: async_nats::jetstream::consumer::PullConsumer = intake.get_consumer("split-t").await.unwrap();
    let pulled = died.fetch().max_messages(1).messages().await.unwrap();
    let message = futures_util::StreamExt::next(&mut std::pin::pin!(pulled)).await.unwrap().unwrap();
    message.ack_with(async_nats::jetstream::AckKind::Nak(None)).await.unwrap();
    split().await;
    assert_eq!((count(&spool, None).await, count(&spool, Some(Tier::M1)).await), (4, 2), "a repeat");
    stop.cancel();
    owner.await.unwrap();
}

#[tokio::test]
async fn what_should_wait_in_a_tier_that_is_full_waits_where_it_is() {
    let server = Server::start();
    let config = NatsConfig {
        tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0],
        storage_bytes: 32 << 20,
        ..server.config()
    };
    let (spool, stop) = (server.spool_of(&config).await, CancellationToken::new());
    let large = postrider_model::Body::Inline { bytes: vec![b'x'; 5_000].into(), compressed: false };
    for n in 1_000.. {
        let filling = moved(&postrider_proto::Packet::new(lasting(n), large.clone()));
        if spool.copy_to_tier(&filling, Tier::M15).await.is_err() {
            break;
        }
    }
    eventually("a full tier", async || (spool.full_tiers() == [false, false, true, false, false]).then_some(())).await;
    let there = count(&spool, Some(Tier::M15)).await;
    let none = Credit { granted: 0, turn_in: Duration::from_secs(1_000) };
    let owner = owner(server.spool_of(&config).await, none, none, stop.clone()).await;
    eventually("the state", async || spool.tier_for(&lasting(1), Tier::H1)).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let promoters = tokio::spawn({
        let (spool, stop) = (spool.clone(), stop.clone());
        async move { spool.run_promoters(stop, || 1, |_| false, move |event| tell.send(event).unwrap()).await }
    });
    later_second(&spool).await;
    for n in 0..20 {
        spool.copy_to_tier(&packet(n), Tier::M1).await.unwrap();
    }
    for _ in 0..60 {
        let event = tokio::time::timeout(crate::server::PATIENCE, told.recv()).await.unwrap().unwrap();
        let delayed = postrider_nats::PromoterEvent::Delayed { tier: Tier::M1, class: Class::Transactional };
        assert_eq!(event, delayed, "round by round");
    }
    assert_eq!(count(&spool, Some(Tier::M15)).await, there);
    stop.cancel();
    promoters.await.unwrap();
    owner.abort();
}
