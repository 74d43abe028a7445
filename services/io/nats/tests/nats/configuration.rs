//! The `config` bucket and the snapshot compiled from it.

use std::time::Duration;

use bytes::Bytes;
use postrider_model::TenantId;
use postrider_nats::{BucketError, ConfigKey, Expected, Spool};
use postrider_proto::config::v1 as wire;
use prost::Message;

use crate::server::{PATIENCE, Server};

fn tenant(id: &str) -> (ConfigKey, Bytes) {
    let value = wire::Tenant { id: id.to_owned(), display_name: "A tenant".to_owned(), weight: 0 };
    (ConfigKey::Tenant(id.parse().unwrap()), value.encode_to_vec().into())
}

async fn put(spool: &Spool, id: &str) -> u64 {
    let (key, value) = tenant(id);
    spool.config_store().put(&key, value, Expected::Whatever).await.unwrap()
}

#[tokio::test]
async fn a_value_is_written_only_over_the_revision_that_was_read() {
    let server = Server::start();
    let store = server.spool().await.config_store();
    let (key, value) = tenant("acme");
    let first = store.put(&key, value.clone(), Expected::Absent).await.unwrap();
    let second = store.put(&key, value.clone(), Expected::Revision(first)).await.unwrap();
    for stale in [Expected::Absent, Expected::Revision(first)] {
        let refused = store.put(&key, value.clone(), stale).await;
        assert!(matches!(refused, Err(BucketError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!(store.get(&key).await.unwrap().unwrap().revision, second);
}

#[tokio::test]
async fn a_deleted_key_is_absent_and_may_be_made_anew() {
    let server = Server::start();
    let store = server.spool().await.config_store();
    let (key, value) = tenant("acme");
    let revision = store.put(&key, value.clone(), Expected::Absent).await.unwrap();
    store.delete(&key, Expected::Revision(revision)).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    store.put(&key, value, Expected::Absent).await.unwrap();
}

#[tokio::test]
async fn of_two_writers_one_loses() {
    let server = Server::start();
    let (a, b) = (server.spool().await.config_store(), server.spool().await.config_store());
    let (key, value) = tenant("acme");
    let (x, y) =
        tokio::join!(a.put(&key, value.clone(), Expected::Absent), b.put(&key, value.clone(), Expected::Absent));
    assert_eq!([&x, &y].iter().filter(|written| written.is_ok()).count(), 1);
}

#[tokio::test]
async fn the_list_holds_every_key_with_its_value() {
    let server = Server::start();
    let spool = server.spool().await;
    let store = spool.config_store();
    put(&spool, "a").await;
    put(&spool, "b").await;
    let route = wire::Route { domain: "*".to_owned(), next_hops: vec!["127.0.0.1:25".to_owned()], origin: "up".into() };
    store.put(&ConfigKey::Route(None), route.encode_to_vec().into(), Expected::Absent).await.unwrap();
    store.delete(&tenant("a").0, Expected::Whatever).await.unwrap();
    let keys: Vec<String> = store.list().await.unwrap().iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(keys, ["layout", "tenant.b", "route.=2a"]);
}

#[tokio::test]
async fn a_change_is_in_the_snapshot_at_once() {
    let server = Server::start();
    let spool = server.spool().await;
    put(&spool, "early").await;
    let mut snapshot = spool.watch_snapshot().await;
    let id: TenantId = "early".parse().unwrap();
    assert!(snapshot.borrow_and_update().tenants.contains_key(&id));

    let begun = tokio::time::Instant::now();
    let revision = put(&spool, "late").await;
    tokio::time::timeout(PATIENCE, snapshot.wait_for(|s| s.revision >= revision)).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(snapshot.borrow_and_update().tenants.len(), 2);

    let revision = spool.config_store().delete(&tenant("early").0, Expected::Whatever).await.unwrap();
    tokio::time::timeout(PATIENCE, snapshot.wait_for(|s| s.revision >= revision)).await.unwrap().unwrap();
    assert!(!snapshot.borrow_and_update().tenants.contains_key(&id));
}

#[tokio::test]
async fn a_value_that_cannot_be_read_does_not_stop_the_others() {
    let server = Server::start();
    let spool = server.spool().await;
    let (key, _) = tenant("broken");
    spool.config_store().put(&key, Bytes::from_static(b"\xff\xff"), Expected::Absent).await.unwrap();
    put(&spool, "acme").await;
    let mut snapshot = spool.watch_snapshot().await;
    assert_eq!(snapshot.borrow_and_update().tenants.len(), 1);
}
