//! An envelope that lies in READY twice: the service takes one of the two, and ends the other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

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
use std::time::Duration;

use postrider_delivery::{Collaborators, Delivery, DeliveryConfig};
use postrider_model::{
    Body, Class, Envelope, EnvelopeState, MessageId, ReversePath, Route, Snapshot, TenantId, Timestamp,
};
use postrider_nats::{Member, Spool};
use postrider_net::DnsConfig;
use postrider_proto::Packet;
use postrider_runtime::{ClusterKey, Readiness, clock};
use prometheus::Registry;
use server::{Server, eventually};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn packet() -> Packet {
    let tenant: TenantId = "acme".parse().unwrap();
    let envelope = Envelope {
        message: MessageId::new(clock::now(), [7; 10]),
        part: 0,
        tenant,
        class: Class::Transactional,
        campaign: None,
        pool: None,
        sender: ReversePath::Null,
        recipients: vec!["user@example.net".parse().unwrap()],
        arrival: clock::now(),
        not_before: None,
        expiry: clock::now().after(Duration::from_secs(100_000)),
        header_message_id: String::new(),
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
    Packet::new(envelope, Body::Inline { bytes: "hello".into(), compressed: false })
}

/// A delivery service that sends everything to one exchanger; its end is in the answer.
async fn delivery(spool: &Spool, exchanger: &str, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let route = Route { domain: None, next_hops: vec![exchanger.parse().unwrap()], origin: "operator".to_owned() };
    let snapshot = Snapshot { default_route: Some(route), ..Snapshot::default() };
    let (keep, snapshot) = watch::channel(Arc::new(snapshot));
    let member = Member {
        id: "one".parse().unwrap(),
        roles: vec!["delivery".to_owned()],
        version: "0.1.0".to_owned(),
        config_revision: 0,
        started: Timestamp::default(),
    };
    let membership = spool.join(member.clone(), snapshot.clone());
    let with = Collaborators {
        spool: spool.clone(),
        snapshot,
        cluster_key: Arc::new(ClusterKey::from_bytes([7; 32])),
        registry: Registry::new(),
        readiness: Readiness::new(),
        member: member.id,
        ehlo_name: "out.example".parse().unwrap(),
        standing: membership.standing(),
    };
    let dns = DnsConfig { servers: Some(vec!["127.0.0.1:9".parse().unwrap()]), ..DnsConfig::default() };
    let config = DeliveryConfig { dns, promote: false, drain_secs: 1, ..DeliveryConfig::default() };
    let (delivery, stop) = (Delivery::build(config, with).unwrap(), stop.clone());
    tokio::spawn(async move {
        delivery.run(stop).await.unwrap();
        membership.leave().await;
        drop(keep);
    })
}

#[tokio::test]
async fn of_two_copies_of_an_envelope_that_is_held_one_is_ended() {
    let server = Server::start();
    let spool = server.spool().await;
    let packet = packet();
    spool.publish_ready(&packet).await.unwrap();
    // The same once more, as when the window in which a server knows ids is over.
    let jetstream = server.jetstream().await;
    jetstream.publish("ready.t00.example_net.acme", packet.encode()).await.unwrap().await.unwrap();
    let count = async || jetstream.get_stream("READY_T").await.unwrap().cached_info().state.messages;
    assert_eq!(count().await, 2);
    // An exchanger that takes connections and says nothing.
    let exchanger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let delivery = delivery(&spool, &exchanger.local_addr().unwrap().to_string(), &stop).await;
    let _connection = exchanger.accept().await.unwrap();
    eventually("one copy", async || (count().await == 1).then_some(())).await;
    stop.cancel();
    delivery.await.unwrap();
    assert_eq!(count().await, 1, "the one that was held is left to the next owner");
}
