//! Settles against a real nats-server that forgets, is full, or answers late.

// Only a part of the harness is needed here.
#[allow(dead_code, clippy::panic, reason = "the harness of another package's tests")]
#[path = "../../../io/nats/tests/nats/server.rs"]
mod server;

use postrider_dispatch::settle::{BodyState, SettlePlan};
use postrider_model::{
    Class, Envelope, EnvelopeState, MessageId, Outcome, RecipientOutcome, Record, ReversePath, Tier,
};
use postrider_nats::{Leased, NatsConfig};
use prometheus::{Histogram, HistogramOpts};
use tokio_util::task::AbortOnDropHandle;

use self::server::{Server, eventually};
use super::*;

fn shard() -> ShardId {
    "t00".parse().unwrap()
}

fn packet(number: u8, body: Body) -> Packet {
    let envelope = Envelope {
        message: MessageId::new(clock::now(), [number; 10]),
        part: 0,
        tenant: "acme".parse().unwrap(),
        class: Class::Transactional,
        campaign: None,
        pool: None,
        sender: ReversePath::Null,
        recipients: vec!["user@example.net".parse().unwrap()],
        arrival: clock::now(),
        not_before: None,
        expiry: clock::now().after(Duration::from_secs(100_000)),
        header_message_id: "1@acme.example".into(),
        from_domain: None,
        size_bytes: 5,
        eight_bit: false,
        smtputf8: false,
        metadata: Vec::new(),
        state: EnvelopeState {
            hop: 0,
            attempt: 0,
            site: "example.net".parse().unwrap(),
            slice: 0,
            pending: vec![0],
            last_reply: None,
        },
    };
    Packet::new(envelope, body)
}

fn hello() -> Body {
    Body::Inline { bytes: "hello".into(), compressed: false }
}

fn record(packet: &Packet, outcome: Outcome, next: &Move) -> Record {
    let envelope = packet.envelope();
    let recipient = envelope.recipients[0].clone();
    Record {
        id: packet.id(),
        at: clock::now(),
        shard: shard(),
        tenant: envelope.tenant.clone(),
        class: envelope.class,
        campaign: None,
        pool: None,
        site: envelope.state.site.clone(),
        sender: envelope.sender.clone(),
        header_message_id: envelope.header_message_id.clone(),
        arrival: envelope.arrival,
        size_bytes: 5,
        body: None,
        metadata: Vec::new(),
        attempt: None,
        outcomes: vec![RecipientOutcome { index: 0, recipient, outcome, reply: None }],
        next: Some(next.clone()),
    }
}

/// Settles of a shard whose member renews for as long as they are there.
struct Shard {
    settlements: Settlements,
    _renewing: AbortOnDropHandle<()>,
}

impl Shard {
    fn of(spool: &Spool) -> Self {
        let (fence, lost) = (SharedFence::default(), CancellationToken::new());
        let publish = Histogram::with_opts(HistogramOpts::new("publish", "as in the service")).unwrap();
        let journal = Journal::begin(spool.clone(), shard(), 0, fence.clone(), publish, lost.clone());
        fence.renewed_at(Instant::now());
        let renewed = fence.clone();
        let renewing = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                renewed.renewed_at(Instant::now());
            }
        }));
        let (done, releasing) = (Arc::default(), CancellationToken::new());
        let (spool, complaints) = (spool.clone(), Arc::default());
        let settlements = Settlements { shard: shard(), spool, journal, done, fence, complaints, releasing, lost };
        Self { settlements, _renewing: renewing }
    }

    async fn settle(&self, leased: Leased, outcome: Outcome, next: Move) {
        let Leased { packet, handle, .. } = leased;
        let record = Some(record(&packet, outcome, &next));
        let plan = SettlePlan { id: packet.id(), record, body: BodyState::from(packet.body()), next };
        self.settlements.settle(Settle::new(plan), handle, packet).await.unwrap();
    }
}

async fn pull(spool: &Spool) -> Leased {
    let mut puller = spool.puller(shard());
    eventually("mail", async || puller.pull(1, 1 << 20).await.pop()).await.unwrap()
}

/// As after a restart of a single server, which keeps no consumers: the one of before is made anew.
async fn forget_consumer(server: &Server, spool: &Spool) {
    let ready = server.jetstream().await.get_stream("READY_T").await.unwrap();
    ready.delete_consumer("ready-t00").await.unwrap();
    spool.ensure().await.unwrap();
}

async fn is_settled(shard: &Shard) {
    eventually("the end of the settle", async || (shard.settlements.journal.tracker().unfinished() == 0).then_some(()))
        .await;
    assert!(shard.settlements.journal.tracker().through() > 0);
}

#[tokio::test]
async fn an_acknowledgement_that_was_heard_and_not_confirmed_is_not_asked_for_for_ever() {
    let server = Server::start();
    let spool = server.spool_of(&NatsConfig { publish_budget_secs: 1, ..server.config() }).await;
    let shard = Shard::of(&spool);
    let body = spool.store_body("hello".into(), postrider_nats::Sharing::Own).await.unwrap();
    // What lies before it keeps the new consumer from having come so far.
    spool.publish_ready(&packet(2, hello())).await.unwrap();
    spool.publish_ready(&packet(1, body)).await.unwrap();
    let _before = pull(&spool).await;
    let leased = pull(&spool).await;
    leased.handle.confirm_ack(Duration::from_secs(10)).await.unwrap();
    forget_consumer(&server, &spool).await;
    shard.settle(leased, Outcome::Delivered, Move::Finished).await;
    is_settled(&shard).await;
    let bodies = server.jetstream().await.get_stream("BODY_0").await.unwrap();
    assert_eq!(bodies.cached_info().state.messages, 0, "its body goes with it");
}

#[tokio::test]
async fn what_was_handed_out_by_a_consumer_that_is_gone_ends_by_its_sequence() {
    let server = Server::start();
    let spool = server.spool_of(&NatsConfig { publish_budget_secs: 1, ..server.config() }).await;
    let shard = Shard::of(&spool);
    spool.publish_ready(&packet(1, hello())).await.unwrap();
    spool.publish_ready(&packet(2, hello())).await.unwrap();
    let leased = pull(&spool).await;
    let first = leased.packet.id();
    forget_consumer(&server, &spool).await;
    shard.settle(leased, Outcome::Delivered, Move::Finished).await;
    is_settled(&shard).await;
    let left = pull(&spool).await;
    assert_ne!(left.packet.id(), first, "only the other one is left");
    assert_eq!(spool.depths().await.unwrap().iter().map(|depth| depth.count).sum::<u64>(), 1);
}

#[tokio::test]
async fn what_comes_again_while_its_end_is_not_confirmed_is_not_copied_once_more() {
    let server = Server::start();
    let spool = server.spool_of(&NatsConfig { publish_budget_secs: 1, ..server.config() }).await;
    let shard = Shard::of(&spool);
    spool.publish_ready(&packet(1, hello())).await.unwrap();
    let leased = pull(&spool).await;
    let id = leased.packet.id();
    forget_consumer(&server, &spool).await;
    let next = Move::Tier {
        tier: Tier::M5,
        reason: postrider_model::WaitReason::Retry,
        until: clock::now(),
        attempt: 1,
        pending: vec![0],
        last_reply: None,
    };
    shard.settle(leased, Outcome::Deferred, next).await;
    // Its end goes on beside, and has not begun yet: nothing was waited for since.
    assert_eq!(shard.settlements.journal.tracker().unfinished(), 1);
    let again = shard.settlements.done_set().repeat(id, BodyState::Stored { shared: false }).unwrap();
    assert_eq!(again.step(), SettleStep::AckOld);
    is_settled(&shard).await;
    let depths = spool.depths().await.unwrap();
    assert_eq!(depths.iter().map(|depth| (depth.tier, depth.count)).collect::<Vec<_>>(), [(Some(Tier::M5), 1)]);
}

#[tokio::test]
async fn a_move_that_no_stream_takes_leaves_memory_and_holds_up_no_other_settle() {
    let server = Server::start();
    let spool = server.spool_of(&NatsConfig { storage_bytes: 32 << 20, ..server.config() }).await;
    let shard = Shard::of(&spool);
    let large = Body::Inline { bytes: vec![b'x'; 100_000].into(), compressed: false };
    for body in [large, hello()] {
        let mut numbers = (0..=u8::MAX).cycle();
        while spool.copy_to_tier(&packet(numbers.next().unwrap(), body.clone()), Tier::M1).await.is_ok() {}
    }
    spool.publish_ready(&packet(200, hello())).await.unwrap();
    spool.publish_ready(&packet(201, hello())).await.unwrap();
    let (deferred, delivered) = (pull(&spool).await, pull(&spool).await);
    let next = Move::Tier {
        tier: Tier::M1,
        reason: postrider_model::WaitReason::Retry,
        until: clock::now(),
        attempt: 1,
        pending: vec![0],
        last_reply: None,
    };
    let (left, has_left) = tokio::sync::oneshot::channel();
    let moving = tokio::spawn({
        let settlements = shard.settlements.clone();
        let Leased { packet, handle, .. } = deferred;
        let record = Some(record(&packet, Outcome::Deferred, &next));
        let plan = SettlePlan { id: packet.id(), record, body: BodyState::from(packet.body()), next };
        async move { settlements.settle_telling(Settle::new(plan), handle, packet, || left.send(()).unwrap()).await }
    });
    has_left.await.unwrap();
    shard.settle(delivered, Outcome::Delivered, Move::Finished).await;
    assert_eq!(shard.settlements.journal.tracker().unfinished(), 1);
    server.jetstream().await.get_stream("RETRY_1m").await.unwrap().purge().await.unwrap();
    moving.await.unwrap().unwrap();
    is_settled(&shard).await;
    let waiting = spool.depths().await.unwrap();
    assert_eq!(waiting.iter().map(|depth| (depth.tier, depth.count)).collect::<Vec<_>>(), [(Some(Tier::M1), 1)]);
}

#[tokio::test]
async fn what_a_full_hold_does_not_take_holds_up_no_release_and_is_the_next_owners() {
    let server = Server::start();
    let spool = server.spool_of(&NatsConfig { storage_bytes: 32 << 20, ..server.config() }).await;
    let shard = Shard::of(&spool);
    let large = Body::Inline { bytes: vec![b'x'; 100_000].into(), compressed: false };
    for body in [large, hello()] {
        let mut numbers = (0..=u8::MAX).cycle();
        while spool.copy_to_hold(&packet(numbers.next().unwrap(), body.clone())).await.is_ok() {}
    }
    spool.publish_ready(&packet(200, hello())).await.unwrap();
    let Leased { packet, handle, .. } = pull(&spool).await;
    let next = Move::Hold { rule: "rule".parse().unwrap() };
    let record = Some(record(&packet, Outcome::Suspended, &next));
    let plan = SettlePlan { id: packet.id(), record, body: BodyState::from(packet.body()), next };
    let (waiting, waits) = tokio::sync::oneshot::channel();
    let (moving, id) = (shard.settlements.clone(), packet.id());
    let moving = tokio::spawn(async move {
        moving.settle_telling(Settle::new(plan), handle, packet, || waiting.send(()).unwrap()).await
    });
    waits.await.unwrap();
    shard.settlements.releasing.cancel();
    assert_eq!(moving.await.unwrap(), Err(Unfinished::Left));
    assert_eq!(shard.settlements.journal.tracker().through(), 0, "the lease says that it is not settled");

    let after = Shard::of(&spool);
    let mut puller = spool.puller(self::shard());
    puller.reset().await.unwrap();
    let leased = eventually("mail", async || puller.pull(1, 1 << 20).await.pop()).await.unwrap();
    let mut recorded = Vec::new();
    spool.replay_events(self::shard(), 0, |_, replayed| recorded.push((replayed.hop, replayed.next))).await.unwrap();
    let [(hop, postrider_nats::Next::Move(next))] = &recorded[..] else { panic!("{recorded:?}") };
    assert_eq!((*hop, leased.packet.id()), (id, id));
    server.jetstream().await.get_stream("HOLD").await.unwrap().purge().await.unwrap();
    let settle = Settle::again(id, BodyState::from(leased.packet.body()), next.clone());
    after.settlements.settle(settle, leased.handle, leased.packet).await.unwrap();
    let held = spool.depths().await.unwrap();
    assert_eq!(held.iter().map(|depth| depth.count).sum::<u64>(), 0, "in READY and the tiers is none left");
    assert_eq!(spool.place_state(postrider_nats::Place::Hold).await.unwrap().messages, 1);
}
