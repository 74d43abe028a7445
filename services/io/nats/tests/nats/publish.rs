//! Publishing: stored once, refused when full, given up when the budget is spent.

use std::time::Duration;

use postrider_nats::{NatsConfig, PublishError, Spool};

use crate::mail::transactional;
use crate::server::{Server, eventually};

const DAY: Duration = Duration::from_secs(86_400);

async fn stored(server: &Server, stream: &str) -> u64 {
    server.jetstream().await.get_stream(stream).await.unwrap().cached_info().state.messages
}

#[tokio::test]
async fn a_repeat_is_stored_once() {
    let server = Server::start();
    let spool = server.spool().await;
    spool.publish_ready(&transactional(1)).await.unwrap();
    spool.publish_ready(&transactional(1)).await.unwrap();
    assert_eq!(stored(&server, "READY_T").await, 1);
}

#[tokio::test]
async fn a_full_stream_refuses_and_deletes_nothing() {
    let server = Server::start();
    let config = NatsConfig { storage_bytes: 1_000_000, ..server.config() };
    let spool = server.spool_of(&config).await;
    let mut taken = 0;
    let error = loop {
        match spool.publish_ready(&transactional(taken)).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000);
    };
    assert!(matches!(error, PublishError::Full { .. }), "{error}");
    assert_eq!(stored(&server, "READY_T").await, taken);
}

#[tokio::test]
async fn the_spool_says_that_it_is_filling_up() {
    let server = Server::start();
    let config = NatsConfig { storage_bytes: 1_000_000, ..server.config() };
    let spool = server.spool_of(&config).await;
    assert!(spool.fullness_for(DAY) < 0.05);
    let mut n = 0;
    while spool.publish_ready(&transactional(n)).await.is_ok() {
        n += 1;
    }
    eventually("fullness", async || (spool.fullness_for(DAY) >= Spool::FULL).then_some(())).await;
}

#[tokio::test]
async fn without_a_server_a_publish_is_given_up_when_its_budget_is_spent() {
    let mut server = Server::start();
    let config = NatsConfig { publish_budget_secs: 1, ..server.config() };
    let spool = server.spool_of(&config).await;
    server.kill();
    let begun = tokio::time::Instant::now();
    let error = spool.publish_ready(&transactional(1)).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    eventually("the loss of the connection is known", async || (!spool.connected()).then_some(())).await;
}

#[tokio::test]
async fn a_publish_waits_for_a_server_that_comes_back() {
    let mut server = Server::start();
    let spool = server.spool().await;
    server.kill();
    let publishing = tokio::spawn({
        let spool = spool.clone();
        async move { spool.publish_ready(&transactional(1)).await }
    });
    eventually("the loss of the connection is known", async || (!spool.connected()).then_some(())).await;
    server.start_again();
    publishing.await.unwrap().unwrap();
    assert_eq!(stored(&server, "READY_T").await, 1);
}

#[tokio::test]
async fn the_clock_of_the_server_is_known() {
    let server = Server::start();
    let spool = server.spool().await;
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let ours = u64::try_from(ours).unwrap();
    assert!(spool.server_now().as_millis().abs_diff(ours) < 500);
}
