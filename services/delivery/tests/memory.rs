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
use postrider_model::{
    Body, Class, Envelope, EnvelopeState, MessageId, Reply, ReversePath, ShardId, ShardLayout, SiteName, Timestamp,
};
use postrider_nats::Spool;
use postrider_net::Plan;
use postrider_proto::Packet;
use server::Server;
use tikv_jemalloc_ctl::{epoch, stats};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WAITING: u64 = 12_000;

/// The most bytes of one envelope that waits.
const MOST: usize = 512;

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

fn site(number: u64) -> String {
    format!("mail-provider-{number}.example")
}

async fn filled(server: &Server, sites: u64) -> Spool {
    let spool = Spool::open(&server.config(), "test", ShardLayout::SINGLE).await.unwrap();
    let packets: Vec<Packet> = (0..WAITING).map(|number| packet(number, &site(number % sites))).collect();
    let published: Vec<_> = packets.iter().map(|packet| spool.publish_ready(packet)).collect();
    stream::iter(published).buffer_unordered(100).try_collect::<Vec<_>>().await.unwrap();
    spool
}

/// Bytes that each envelope takes once all of them wait without their bodies.
async fn bytes_each(sites: u64) -> usize {
    let server = Server::start();
    let spool = filled(&server, sites).await;
    let plans: Vec<(Arc<Plan>, SiteName)> = (0..sites)
        .map(|number| (Arc::new(Plan::new(site(number).into(), Vec::new())), site(number).parse().unwrap()))
        .collect();
    let now = Timestamp::from_millis(1_763_786_500_000);
    let mut pullers = Vec::new();
    let mut dispatcher = Dispatcher::new(DispatcherConfig { body_bytes: 0, ..DispatcherConfig::default() }, 1);
    for index in 0..spool.layout().bulk {
        let shard = ShardId { class: Class::Bulk, index };
        dispatcher.handle(Fact::ShardTaken(shard), now);
        pullers.push((shard, spool.puller(shard)));
    }
    let before = allocated();
    let mut holdings = Holdings::new();
    let mut arrived = 0;
    while arrived < WAITING {
        for (shard, puller) in &mut pullers {
            for leased in puller.pull(1_000, 8 << 20).await {
                let leased = leased.unwrap();
                let number: u64 = leased.packet.envelope().metadata[0].1.parse().unwrap();
                let (plan, site) = &plans[usize::try_from(number % sites).unwrap()];
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

#[tokio::test]
async fn a_waiting_envelope_takes_at_most_512_bytes() {
    let each = bytes_each(20).await;
    assert!(each <= MOST, "{each} bytes");
}
