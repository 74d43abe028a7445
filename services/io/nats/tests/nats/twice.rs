//! What keeps an envelope from being in two places, and what is in doubt from counting as known.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{AckKind, Context};
use futures_util::{FutureExt, StreamExt};
use postrider_dispatch::shard_state::{Credit, Jam, ShardState};
use postrider_model::{Body, Class, Envelope, EnvelopeState, Tier, Timestamp, WaitReason};
use postrider_nats::{BodyError, NatsConfig, PublishError, Sharing, Spool};
use postrider_proto::Packet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::mail::{envelope, message, moved, shard, transactional};
use crate::server::{Server, eventually};

/// The first tier is over soon, the others are not.
async fn spool(server: &Server) -> Spool {
    let config = NatsConfig { tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0], ..server.config() };
    server.spool_of(&config).await
}

/// An envelope that does not expire while the test runs.
fn lasting(n: u64) -> Envelope {
    Envelope { expiry: Timestamp::from_millis(u64::MAX / 2), ..envelope(n, Class::Transactional, "example.net") }
}

fn packet(n: u64) -> Packet {
    moved(&Packet::new(lasting(n), transactional(n).body().clone()))
}

async fn count(spool: &Spool, tier: Option<Tier>) -> u64 {
    spool.depths().await.unwrap().into_iter().filter(|depth| depth.tier == tier).map(|depth| depth.count).sum()
}

/// What a stream may hold from now on; what it held before.
async fn limit(jetstream: &Context, stream: &str, bytes: i64) -> i64 {
    let mut config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    let before = std::mem::replace(&mut config.max_bytes, bytes);
    jetstream.update_stream(config).await.unwrap();
    before
}

/// The owner of t00 says that example.net is closed for long and lets nothing come, until the handle is dropped.
async fn jammed(server: &Server, spool: &Spool) -> AbortOnDropHandle<()> {
    let owner = self::spool(server).await;
    let jam = Jam {
        site: "example.net".parse().unwrap(),
        tenant: None,
        reason: WaitReason::SiteClosed,
        turn_in: Duration::from_secs(1_000),
        probing: false,
    };
    let state = ShardState { jams: vec![jam], asks_for_credit: true };
    let mut questions = owner.credit_questions(shard("t00")).await.unwrap();
    let telling = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        let none = Credit { granted: 0, turn_in: Duration::from_secs(1_000) };
        loop {
            tokio::select! {
                _ = ticks.tick() => owner.tell_shard_state(shard("t00"), &state).await.unwrap(),
                Some(question) = questions.next() => question.answer_credit(&[none]).await,
            }
        }
    }));
    eventually("the state", async || spool.tier_for(&lasting(1), Tier::H1)).await;
    telling
}

fn promoters(spool: &Spool, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let (spool, stop) = (spool.clone(), stop.clone());
    tokio::spawn(async move { spool.run_promoters(stop, || 1, |_| false, |_| {}).await })
}

#[tokio::test]
async fn a_record_that_has_the_sequence_of_another_is_not_taken_out_for_it() {
    let server = Server::start();
    let spool = server.spool().await;
    spool.publish_ready(&transactional(1)).await.unwrap();
    let mut puller = spool.puller(shard("t00"));
    let before = eventually("mail", async || puller.pull(1, 1 << 20).await.pop()).await.unwrap();
    // As a server that lost the end of its store: the next record gets the same sequence.
    let jetstream = server.jetstream().await;
    jetstream.delete_stream("READY_T").await.unwrap();
    spool.ensure().await.unwrap();
    spool.publish_ready(&transactional(2)).await.unwrap();
    let mut again = spool.puller(shard("t00"));
    let after = eventually("the other", async || again.pull(1, 1 << 20).await.pop()).await.unwrap();
    assert_eq!((before.sequence, after.packet.id()), (after.sequence, transactional(2).id()));
    spool.end_unconfirmed(shard("t00"), &before.handle).await.unwrap();
    assert_eq!(count(&spool, None).await, 1, "the other one is no business of this handle");
    spool.end_unconfirmed(shard("t00"), &after.handle).await.unwrap();
    assert_eq!(count(&spool, None).await, 0);
}

#[tokio::test]
async fn what_another_promoter_had_when_it_was_due_goes_to_ready_and_to_no_tier() {
    let server = Server::start();
    let (spool, stop) = (spool(&server).await, CancellationToken::new());
    let _owner = jammed(&server, &spool).await;
    let jetstream = server.jetstream().await;
    let died: PullConsumer =
        jetstream.get_stream("RETRY_1m").await.unwrap().get_consumer("promote-1m-t").await.unwrap();
    spool.copy_to_tier(&packet(1), Tier::M1).await.unwrap();
    let due = spool.server_now().after(spool.tier_delays().of(Tier::M1));
    eventually("it is due", async || (spool.server_now() > due).then_some(())).await;
    let mut pulled = died.fetch().max_messages(1).messages().await.unwrap();
    pulled.next().await.unwrap().unwrap().ack_with(AckKind::Nak(None)).await.unwrap();
    let promoters = promoters(&spool, &stop);
    eventually("its place", async || (count(&spool, Some(Tier::M1)).await == 0).then_some(())).await;
    assert_eq!((count(&spool, None).await, count(&spool, Some(Tier::M15)).await), (1, 0));
    stop.cancel();
    promoters.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_full_after_a_try_without_an_answer_leaves_it_in_doubt() {
    let server = Server::start();
    let spool = server.spool().await;
    let jetstream = server.jetstream().await;
    let mut ready = jetstream.get_stream("READY_T").await.unwrap().cached_info().config.clone();
    ready.max_bytes = 1;
    jetstream.delete_stream("READY_T").await.unwrap();
    // Somebody takes the first try, and says nothing that is an acknowledgement.
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut tries = client.subscribe("ready.t00.>").await.unwrap();
    client.flush().await.unwrap();
    let publishing = tokio::spawn(async move { spool.publish_ready(&transactional(1)).await });
    let first = tries.next().await.unwrap();
    drop(tries);
    client.publish(first.reply.unwrap(), "?".into()).await.unwrap();
    jetstream.create_stream(ready).await.unwrap();
    let error = publishing.await.unwrap().unwrap_err();
    assert!(matches!(error, PublishError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("full"), "{error}");
}

#[tokio::test]
async fn of_a_message_that_ready_does_not_take_no_part_is_in_a_tier_before() {
    let server = Server::start();
    let (spool, stop) = (spool(&server).await, CancellationToken::new());
    let _owner = jammed(&server, &spool).await;
    let body = spool.place_body("hello".into(), Sharing::Shared).await.unwrap();
    let part = |number: u32| {
        let site = if number == 0 { "example.net" } else { "other.example" };
        let state = EnvelopeState { site: site.parse().unwrap(), ..lasting(1).state };
        Packet::new(Envelope { part: number, state, ..lasting(1) }, body.clone())
    };
    // More than are published side by side.
    let parts: Vec<Packet> = (0..=100).map(part).collect();
    let jetstream = server.jetstream().await;
    let room = limit(&jetstream, "READY_T", 1).await;
    let splitter = AbortOnDropHandle::new(tokio::spawn({
        let (spool, stop) = (spool.clone(), stop.clone());
        async move { spool.run_splitter(stop, |_| {}).await }
    }));
    // What may have been another's goes to READY, all of it.
    let begun = spool.server_now();
    eventually("a later second", async || (spool.server_now().since(begun).as_secs() > 0).then_some(())).await;
    spool.publish_intake(&message(1), Class::Transactional, &parts).await.unwrap();
    let intake = jetstream.get_stream("INTAKE").await.unwrap();
    eventually("a try that is over", async || {
        let mut consumer: PullConsumer = intake.get_consumer("split-t").await.unwrap();
        let info = consumer.info().await.unwrap();
        (info.num_redelivered > 0).then_some(())
    })
    .await;
    assert_eq!(count(&spool, Some(Tier::M15)).await, 0);
    limit(&jetstream, "READY_T", room).await;
    eventually("all parts", async || (count(&spool, None).await >= 101).then_some(())).await;
    eventually("INTAKE is empty", async || {
        (jetstream.get_stream("INTAKE").await.unwrap().cached_info().state.messages == 0).then_some(())
    })
    .await;
    let tiers: u64 = spool.depths().await.unwrap().iter().filter(|d| d.tier.is_some()).map(|d| d.count).sum();
    assert_eq!((count(&spool, None).await, tiers), (101, 0));
    stop.cancel();
    splitter.await.unwrap();
}

#[tokio::test]
async fn a_chunk_that_the_leader_does_not_know_is_asked_for_again_before_it_counts_as_gone() {
    let server = Server::start();
    let spool = server.spool().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut asked = client.subscribe("$JS.API.STREAM.MSG.GET.BODY_0").await.unwrap();
    client.flush().await.unwrap();
    let mut late = spool.put_body("x".into(), false, Sharing::Own).await.unwrap();
    late.sequences[0] += 1;
    let error = spool.read_body(&Body::Stored(late)).await.unwrap_err();
    assert!(matches!(error, BodyError::Gone { .. }), "{error}");
    // What was asked before this came to us before its answer.
    client.flush().await.unwrap();
    let times = std::iter::from_fn(|| asked.next().now_or_never().flatten()).count();
    assert!(times > 1, "asked {times} times");
}

#[tokio::test]
async fn promoters_that_began_with_nothing_to_do_go_on_when_a_full_ready_has_room() {
    let server = Server::start();
    let (spool, stop) = (spool(&server).await, CancellationToken::new());
    let jetstream = server.jetstream().await;
    let room = limit(&jetstream, "READY_T", 1).await;
    let promoters = promoters(&spool, &stop);
    for n in 0..300 {
        spool.copy_to_tier(&packet(n), Tier::M1).await.unwrap();
    }
    let mut consumer: PullConsumer =
        jetstream.get_stream("RETRY_1m").await.unwrap().get_consumer("promote-1m-t").await.unwrap();
    eventually("a second refusal", async || (consumer.info().await.unwrap().num_redelivered > 0).then_some(())).await;
    assert_eq!(count(&spool, None).await, 0);
    limit(&jetstream, "READY_T", room).await;
    eventually("all in READY", async || (count(&spool, None).await == 300).then_some(())).await;
    eventually("the end", async || (count(&spool, Some(Tier::M1)).await == 0).then_some(())).await;
    stop.cancel();
    promoters.await.unwrap();
}
