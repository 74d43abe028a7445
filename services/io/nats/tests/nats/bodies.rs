//! Bodies in BODY streams.

use bytes::Bytes;
use postrider_model::{Body, BodyRef};
use postrider_nats::{BodyError, INLINE_BYTES, Sharing};

use crate::server::Server;

/// Bytes that no compression shrinks.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect::<Vec<u8>>().into()
}

fn stored(body: &Body) -> &BodyRef {
    match body {
        Body::Stored(stored) => stored,
        Body::Inline { .. } => panic!("inline"),
    }
}

#[tokio::test]
async fn twenty_megabytes_come_back_as_they_went() {
    let server = Server::start();
    let spool = server.spool().await;
    let message = noise(20 << 20);
    let body = spool.place_body(message.clone(), Sharing::Own).await.unwrap();
    assert_eq!(stored(&body).sequences.len(), 40);
    assert!(spool.read_body(&body).await.unwrap() == message);
}

#[tokio::test]
async fn a_small_body_travels_with_its_envelope_unless_others_share_it() {
    let server = Server::start();
    let spool = server.spool().await;
    let small = noise(INLINE_BYTES);
    assert!(matches!(spool.place_body(small.clone(), Sharing::Own).await.unwrap(), Body::Inline { .. }));
    let shared = spool.place_body(small.clone(), Sharing::Shared).await.unwrap();
    assert!(stored(&shared).shared);
    assert_eq!(spool.read_body(&shared).await.unwrap(), small);
    assert!(matches!(spool.place_body(noise(INLINE_BYTES + 1), Sharing::Own).await.unwrap(), Body::Stored(_)));
}

#[tokio::test]
async fn an_inline_body_is_spilled_in_its_stored_form() {
    let server = Server::start();
    let spool = server.spool().await;
    let message = Bytes::from("Subject: hello\r\n".repeat(1_000));
    let inline = spool.place_body(message.clone(), Sharing::Own).await.unwrap();
    let spilled = spool.spill_body(&inline).await.unwrap();
    assert!(spilled.compressed && !spilled.shared);
    assert_eq!(spool.read_body(&Body::Stored(spilled)).await.unwrap(), message);
}

#[tokio::test]
async fn a_deleted_body_is_gone_and_deleting_it_again_is_fine() {
    let server = Server::start();
    let spool = server.spool().await;
    let body = spool.place_body(noise(2 << 20), Sharing::Own).await.unwrap();
    spool.delete_body(stored(&body)).await.unwrap();
    assert!(matches!(spool.read_body(&body).await, Err(BodyError::Gone { .. })));
    spool.delete_body(stored(&body)).await.unwrap();
}

#[tokio::test]
async fn a_shared_body_is_not_deleted() {
    let server = Server::start();
    let spool = server.spool().await;
    let body = spool.place_body(noise(100), Sharing::Shared).await.unwrap();
    spool.delete_body(stored(&body)).await.unwrap();
    spool.read_body(&body).await.unwrap();
}

#[tokio::test]
async fn a_body_that_is_not_what_was_stored_is_damaged() {
    let server = Server::start();
    let spool = server.spool().await;
    let body = spool.place_body(noise(INLINE_BYTES + 1), Sharing::Own).await.unwrap();
    let wrong = BodyRef { hash: stored(&body).hash ^ 1, ..stored(&body).clone() };
    assert!(matches!(spool.read_body(&Body::Stored(wrong)).await, Err(BodyError::Damaged(_))));
}

#[tokio::test]
async fn without_direct_get_the_leader_is_asked() {
    let server = Server::start();
    let spool = server.spool().await;
    let message = noise(INLINE_BYTES + 1);
    let body = spool.place_body(message.clone(), Sharing::Own).await.unwrap();
    let jetstream = server.jetstream().await;
    let name = format!("BODY_{}", stored(&body).stream);
    let mut config = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
    config.allow_direct = false;
    jetstream.update_stream(&config).await.unwrap();
    assert_eq!(spool.read_body(&body).await.unwrap(), message);
}

#[tokio::test]
async fn without_a_server_a_body_is_unavailable_and_not_gone() {
    let mut server = Server::start();
    let spool = server.spool().await;
    let body = spool.place_body(noise(INLINE_BYTES + 1), Sharing::Own).await.unwrap();
    server.kill();
    assert!(matches!(spool.read_body(&body).await, Err(BodyError::Unavailable(_))));
}
