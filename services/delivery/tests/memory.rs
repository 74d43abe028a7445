//! What a waiting envelope takes in memory: the dispatcher's part and the shell's, with everything that holds them, as the
//! allocator counts it. The envelopes come from a real nats-server, so that memory shared with what was received counts too.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: what fails, and by how much, is to be seen")]

// Only a part of the harness is needed here.
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the harness of another package's tests"
)]
#[path = "../../io/nats/tests/nats/server.rs"]
mod server;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_delivery::held::{Held, Holdings};
use postrider_dispatch::dispatcher::{Action, Dispatcher, DispatcherConfig, Fact, Ticket};
use postrider_dispatch::settle::DoneSet;
use postrider_model::{
    Body, Class, Envelope, EnvelopeId, EnvelopeState, MessageId, Move, Reply, ReversePath, ShardId, ShardLayout,
    SiteName, Timestamp,
};
use postrider_nats::Spool;
use postrider_net::ExchangePlan;
use postrider_proto::Packet;
use server::Server;
use tikv_jemalloc_ctl::{epoch, stats};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The most bytes of one envelope that waits.
const MOST: usize = 512;

/// The most that its site takes beside it, if it is the only one there.
const LONE: usize = 2_048;

fn allocated() -> usize {
    epoch::advance().unwrap();
    stats::allocated::read().unwrap()
}

/// As mail is: names, an id, a campaign, two words of the tenant's own, and a refusal of a large provider.
fn packet(number: u64, site: &str) -> Packet {
    let mut random = [0u8; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let refusal = "try again later, closing connection, the user you are trying to contact is receiving mail at a rate that \
                   prevents additional messages from being delivered 4a7c15f39cc0-2f1";
    let envelope = Envelope {
        message: MessageId::new(Timestamp::from_millis(1_763_786_400_000 + number), random),
        part: 0,
        tenant: format!("customer-{}", number % 50).parse().unwrap(),
        class: Class::Bulk,
        campaign: Some("newsletter-2026-11-autumn".parse().unwrap()),
        pool: Some("shared-eu-1".parse().unwrap()),
        sender: ReversePath::Mailbox(format!("bounce-{number}@mail.customer.example").parse().unwrap()),
        recipients: vec![format!("firstname.lastname.{number}@{site}").parse().unwrap()],
        arrival: Timestamp::from_millis(1_763_786_400_000),
        not_before: None,
        expiry: Timestamp::from_millis(1_764_132_000_000),
        header_message_id: format!("0193583{number:08}.4a7c15@mail.customer.example"),
        from_domain: Some("customer.example".parse().unwrap()),
        size_bytes: 15_000,
        eight_bit: true,
        smtputf8: false,
        metadata: vec![("order".into(), format!("{number}")), ("segment".into(), "returning-customers".into())],
        state: EnvelopeState {
            hop: 1,
            attempt: 1,
            site: site.parse().unwrap(),
            slice: 0,
            pending: vec![0],
            last_reply: Some(Reply::new(421, "4.7.28".parse().ok(), refusal)),
        },
    };
    Packet::new(envelope, Body::Inline { bytes: Bytes::from(vec![b'x'; 2_000]), compressed: false })
}

fn at(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn site(number: u64) -> String {
    format!("mail-provider-{number}.example")
}

async fn filled(server: &Server, waiting: u64, sites: u64) -> Spool {
    let spool = Spool::open(&server.config(), "test", ShardLayout::SINGLE).await.unwrap();
    let packets: Vec<Packet> = (0..waiting).map(|number| packet(number, &site(number % sites))).collect();
    let published: Vec<_> = packets.iter().map(|packet| spool.publish_ready(packet)).collect();
    stream::iter(published).buffer_unordered(100).try_collect::<Vec<_>>().await.unwrap();
    spool
}

/// Bytes that each envelope takes once so many wait without their bodies.
async fn bytes_each(waiting: u64, sites: u64) -> usize {
    let server = Server::start();
    let spool = filled(&server, waiting, sites).await;
    let plans: Vec<(Arc<ExchangePlan>, SiteName)> = (0..sites)
        .map(|number| (Arc::new(ExchangePlan::new(site(number).into(), Vec::new())), site(number).parse().unwrap()))
        .collect();
    let now = Timestamp::from_millis(1_763_786_500_000);
    let mut dispatcher = Dispatcher::new(DispatcherConfig { body_bytes: 0, ..DispatcherConfig::default() }, 1);
    let layout = spool.layout();
    let mut pullers: Vec<_> = (0..layout.bulk)
        .map(|index| {
            let shard = ShardId { class: Class::Bulk, index };
            dispatcher.handle(Fact::ShardTaken(shard), now);
            let there =
                (0..waiting).filter(|number| layout.shard_of(Class::Bulk, &plans[at(number % sites)].1, 0) == shard);
            (shard, spool.puller(shard), there.count())
        })
        .collect();
    let before = allocated();
    let mut holdings = Holdings::new();
    let mut arrived = 0;
    for (shard, puller, left) in &mut pullers {
        while *left > 0 {
            for leased in puller.pull(100, 1 << 20).await {
                *left -= 1;
                let leased = leased.unwrap();
                let number: u64 = leased.packet.envelope().metadata[0].1.parse().unwrap();
                let (plan, site) = &plans[at(number % sites)];
                let held = Held::new(leased, *shard, Some(Arc::clone(plan)), site.clone());
                let ticket = Ticket(arrived);
                arrived += 1;
                let entry = held.entry(ticket, None).unwrap();
                holdings.insert(ticket, Box::new(held));
                dispatcher.handle(Fact::Arrived(entry), now);
                while let Some(action) = dispatcher.poll() {
                    if let Action::DropBody(ticket) = action {
                        holdings.get_mut(&ticket).unwrap().loaded = None;
                    }
                }
            }
        }
    }
    drop(pullers);
    let whole = holdings.values().filter(|held| held.loaded.is_some()).count();
    assert!(whole < 10, "{whole} are still whole");
    let each = allocated().saturating_sub(before) / holdings.len();
    println!("{} envelopes to {sites} sites: {each} bytes each", holdings.len());
    each
}

/// What is allocated is counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn a_lone_site_takes_little_more() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let each = bytes_each(6_000, 6_000).await;
    assert!(each <= MOST + LONE, "{each} bytes");
}

#[tokio::test]
async fn a_settled_hop_takes_at_most_40_bytes() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let before = allocated();
    let mut done = DoneSet::new();
    let (seconds, each_second) = (900u64, 300u64);
    for number in 0..seconds * each_second {
        let mut random = [0u8; 10];
        random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let now = Timestamp::from_millis(1_763_786_400_000 + 1_000 * number / each_second);
        let id = EnvelopeId { message: MessageId::new(now, random), part: 0, hop: 0 };
        done.recorded(id, Move::Finished);
        done.finished(id, now);
        if number % each_second == 0 {
            done.sweep(now);
        }
    }
    assert!((600 * each_second..=700 * each_second).contains(&u64::try_from(done.len()).unwrap()));
    let each = allocated().saturating_sub(before) / done.len();
    println!("{} settled: {each} bytes each", done.len());
    assert!(each <= 40, "{each} bytes");
}

#[tokio::test]
async fn a_waiting_envelope_takes_at_most_512_bytes() {
    // So many that buffers of the connection, counted too, weigh little.
    let _alone = ONE_AT_A_TIME.lock().await;
    let each = bytes_each(40_000, 20).await;
    assert!(each <= MOST, "{each} bytes");
}
