//! Mail that is refused, and what its sender hears.

use std::time::{Duration, Instant};

use crate::smtp::{auth_plain, message};
use crate::world::{PASSWORD, World};

#[tokio::test]
async fn wrong_credentials_are_refused_late_and_alike() {
    let world = World::start_with(|setup| setup.ingress.auth.failures_per_session = 10).await;
    let mut smtp = world.greeted("plain").await;
    let mut replies = Vec::new();
    for (username, password) in [("alice", "wrong"), ("nobody", "wrong"), ("nobody", PASSWORD), ("ALICE", PASSWORD)] {
        let began = Instant::now();
        replies.push(smtp.say(&auth_plain(username, password), "535 5.7.8").await);
        assert!(began.elapsed() >= Duration::from_millis(200));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    replies.dedup();
    assert_eq!(replies.len(), 1, "{replies:?}");
    smtp.log_in("alice", PASSWORD).await;
}

#[tokio::test]
async fn a_session_that_guesses_is_ended() {
    let world = World::start().await;
    let mut smtp = world.greeted("plain").await;
    for guess in ["1", "2", "3"] {
        smtp.say(&auth_plain("alice", guess), "535 5.7.8").await;
    }
    smtp.say(&auth_plain("alice", "4"), "421 4.7.0").await;
    smtp.expect_end().await;
}

#[tokio::test]
async fn an_address_that_guesses_is_not_heard_even_with_the_right_password() {
    let world = World::start_with(|setup| setup.ingress.auth.failures_per_address = 2).await;
    for guess in ["1", "2"] {
        world.greeted("plain").await.say(&auth_plain("alice", guess), "535 5.7.8").await;
    }
    let mut smtp = world.greeted("plain").await;
    smtp.say(&auth_plain("alice", PASSWORD), "421 4.7.0").await;
    smtp.expect_end().await;
}

#[tokio::test]
async fn another_tenants_domain_is_refused_as_sender_and_as_header_from() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let reply = smtp.say("MAIL FROM:<x@other.example>", "550 5.7.1").await;
    assert!(reply.contains("other.example is no sending domain of tenant acme"), "{reply}");
    let foreign = message("").replace("alice@acme.example", "x@other.example");
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &foreign).await;
    assert!(reply.starts_with("550 5.7.1 Header From: other.example"), "{reply}");
    // Also for a report, which has no envelope sender.
    assert!(smtp.send("", &["bob@b.example"], &foreign).await.starts_with("550 5.7.1 "));
}

#[tokio::test]
async fn several_headers_from_are_refused() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &message("From: alice@acme.example\r\n")).await;
    assert!(reply.starts_with("550 5.7.1 Header From: "), "{reply}");
}

#[tokio::test]
async fn a_header_that_asks_for_too_much_is_refused() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let send = async |smtp: &mut crate::smtp::Smtp, header: &str| {
        smtp.send("alice@acme.example", &["bob@b.example"], &message(header)).await
    };
    let reply = send(&mut smtp, "X-Postrider-Pool: gold\r\n").await;
    assert!(reply.starts_with("550 5.7.1 X-Postrider-Pool: gold is not allowed"), "{reply}");
    let reply = send(&mut smtp, "X-Postrider-Class: urgent\r\n").await;
    assert!(reply.starts_with("550 5.6.0 X-Postrider-Class: "), "{reply}");
}

#[tokio::test]
async fn strangers_may_not_relay() {
    let world = World::start().await;
    world.greeted("relay").await.say("MAIL FROM:<x@acme.example>", "530 5.7.0").await;
    world.greeted("relay").await.say("MAIL FROM:<>", "530 5.7.0").await;
    let closed = World::start_with(|setup| {
        (setup.ingress.certificate_file, setup.ingress.key_file) = (None, None);
        setup.ingress.listeners.truncate(1);
    })
    .await;
    closed.greeted("relay").await.say("MAIL FROM:<x@acme.example>", "550 5.7.1").await;
}

#[tokio::test]
async fn a_message_that_goes_in_circles_is_refused() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let hops = "Received: from a by b; Sun, 22 Nov 2026 10:00:00 +0000\r\n".repeat(50);
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &message(&hops)).await;
    assert!(reply.starts_with("554 5.4.6 "), "{reply}");
}

#[tokio::test]
async fn nothing_refused_is_queued() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let foreign = message("").replace("alice@acme.example", "x@other.example");
    smtp.send("alice@acme.example", &["bob@b.example"], &foreign).await;
    smtp.send("alice@acme.example", &["carol@b.example"], &message("")).await;
    let only = world.ready(1).await.remove(0);
    assert_eq!(only.envelope().recipients, ["carol@b.example".parse().unwrap()]);
}
