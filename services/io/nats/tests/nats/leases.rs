//! Members and owners of shards.

use std::sync::Arc;
use std::time::Duration;

use postrider_dispatch::ownership::MEMBER_TTL;
use postrider_model::{MemberId, Timestamp};
use postrider_nats::{BucketError, Expected, Member, Members, ShardLease};
use tokio::sync::watch;

use crate::mail::shard;
use crate::server::{PATIENCE, Server};

fn member(id: &str) -> Member {
    Member {
        id: id.parse().unwrap(),
        roles: vec!["delivery".to_owned()],
        version: "0.1.0".to_owned(),
        config_revision: 7,
        started: Timestamp::from_millis(1),
    }
}

fn lease(owner: &str, epoch: u64) -> ShardLease {
    ShardLease { owner: owner.parse().unwrap(), epoch, released: false, settled_through: 0 }
}

async fn until(members: &mut watch::Receiver<Arc<Members>>, names: &[&str]) {
    let names: Vec<MemberId> = names.iter().map(|name| name.parse().unwrap()).collect();
    let seen = members.wait_for(|members| members.keys().eq(names.iter()));
    assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok(), "no {names:?}");
}

#[tokio::test]
async fn who_joins_is_seen_and_who_leaves_is_not() {
    let server = Server::start();
    let store = server.spool().await.lease_store();
    let mut members = store.watch_members();
    let a = store.join(&member("a")).await.unwrap();
    store.join(&member("b")).await.unwrap();
    until(&mut members, &["a", "b"]).await;
    let a = store.renew(&Member { config_revision: 8, ..member("a") }, a).await.unwrap();
    let id: MemberId = "a".parse().unwrap();
    let renewed = members.wait_for(|members| members.get(&id).is_some_and(|a| a.config_revision == 8));
    assert!(tokio::time::timeout(PATIENCE, renewed).await.is_ok());
    store.leave(&id, a).await.unwrap();
    until(&mut members, &["b"]).await;
}

#[tokio::test]
async fn who_does_not_renew_is_gone_after_its_time() {
    let server = Server::start();
    let store = server.spool().await.lease_store();
    let mut members = store.watch_members();
    let revision = store.join(&member("a")).await.unwrap();
    let begun = tokio::time::Instant::now();
    until(&mut members, &["a"]).await;
    until(&mut members, &[]).await;
    let lived = begun.elapsed();
    assert!(lived + Duration::from_secs(1) > MEMBER_TTL, "{lived:?}");
    let late = store.renew(&member("a"), revision).await;
    assert!(matches!(late, Err(BucketError::Conflict { .. })), "{late:?}");
    store.join(&member("a")).await.unwrap();
    until(&mut members, &["a"]).await;
}

#[tokio::test]
async fn of_two_processes_under_one_name_the_first_finds_out() {
    let server = Server::start();
    let store = server.spool().await.lease_store();
    let first = store.join(&member("a")).await.unwrap();
    store.join(&member("a")).await.unwrap();
    let renewal = store.renew(&member("a"), first).await;
    assert!(matches!(renewal, Err(BucketError::Conflict { .. })), "{renewal:?}");
}

#[tokio::test]
async fn a_shard_has_one_owner() {
    let server = Server::start();
    let store = server.spool().await.lease_store();
    let b07 = shard("b07");
    assert_eq!(store.shard(b07).await.unwrap(), None);
    let (x, y) = (lease("x", 1), lease("y", 1));
    let (x, y) = tokio::join!(store.put_shard(b07, &x, Expected::Absent), store.put_shard(b07, &y, Expected::Absent));
    let revision = *[&x, &y].iter().find_map(|claimed| claimed.as_ref().ok()).unwrap();
    assert_eq!([&x, &y].iter().filter(|claimed| claimed.is_ok()).count(), 1);
    let (found, at) = store.shard(b07).await.unwrap().unwrap();
    assert_eq!((found.epoch, at), (1, revision));
}

#[tokio::test]
async fn changes_of_owners_are_seen() {
    let server = Server::start();
    let store = server.spool().await.lease_store();
    let mut shards = store.watch_shards();
    let released = ShardLease { released: true, settled_through: 42, ..lease("x", 3) };
    let first = store.put_shard(shard("t00"), &released, Expected::Absent).await.unwrap();
    let second = store.put_shard(shard("t00"), &lease("y", 4), Expected::Revision(first)).await.unwrap();
    let expected = Some((lease("y", 4), second));
    let seen = shards.wait_for(|shards| shards.get(&shard("t00")) == expected.as_ref());
    assert!(tokio::time::timeout(PATIENCE, seen).await.is_ok());
}
