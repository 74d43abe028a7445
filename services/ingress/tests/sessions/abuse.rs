//! Clients that talk nonsense, do not stop, stop half way, or are too many. None of them may disturb the others.

use std::io::Write;

use tokio::net::TcpStream;

use crate::smtp::{Smtp, auth_plain, message, noise};
use crate::world::{PASSWORD, World, until};

/// A session of somebody else still works.
async fn check_well(world: &World) {
    let mut smtp = world.alice().await;
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &message("")).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
}

#[tokio::test]
async fn garbage_is_answered_with_errors_until_the_session_is_ended() {
    let world = World::start().await;
    let mut smtp = Smtp::connect(world.address("relay")).await;
    smtp.expect("220").await;
    let mut state = 1_u64;
    let garbage: Vec<u8> = (0..200_000)
        .map(|index| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if index % 61 == 60 { b'\n' } else { state.to_be_bytes()[0] }
        })
        .collect();
    smtp.write(&garbage).await;
    let mut last = String::new();
    loop {
        let reply = smtp.reply().await;
        if reply.is_empty() {
            break;
        }
        assert!(reply.starts_with('5') || reply.starts_with('4'), "{reply:?}");
        last = reply;
    }
    assert!(last.starts_with("421 "), "{last:?}");
    check_well(&world).await;
}

#[tokio::test]
async fn a_session_that_breaks_off_anywhere_leaves_nothing_behind() {
    let world = World::start().await;
    let auth = auth_plain("alice", PASSWORD);
    let whole = format!(
        "EHLO x\r\n{auth}\r\nMAIL FROM:<alice@acme.example>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n{}",
        message("")
    );
    for end in (0..whole.len()).step_by(7) {
        let mut smtp = Smtp::connect(world.address("plain")).await;
        smtp.expect("220").await;
        smtp.write(&whole.as_bytes()[..end]).await;
    }
    until(|| world.metrics().contains("postrider_ingress_connections{listener=\"plain\"} 0")).await;
    check_well(&world).await;
    world.ready(1).await;
}

#[tokio::test]
async fn a_line_without_end_is_refused_in_bounded_memory() {
    let world = World::start().await;
    let mut smtp = Smtp::connect(world.address("relay")).await;
    smtp.expect("220").await;
    for _ in 0..64 {
        smtp.write(&[b'x'; 64 * 1024]).await;
    }
    smtp.write(b"\r\n").await;
    smtp.expect("500 ").await;
    check_well(&world).await;
}

#[tokio::test]
async fn a_message_over_the_bound_is_refused_and_the_session_lives() {
    let world = World::start_with(|setup| setup.ingress.bounds.message_bytes = 1 << 20).await;
    let mut smtp = world.alice().await;
    smtp.say("MAIL FROM:<alice@acme.example> SIZE=1048577", "552 5.3.4").await;
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &noise(2 << 20)).await;
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &message("")).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
}

#[tokio::test]
async fn a_smuggled_second_message_is_no_message() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.open("alice@acme.example", &["bob@b.example"]).await;
    smtp.write(message("").as_bytes()).await;
    smtp.write(b"\n.\r\nMAIL FROM:<evil@acme.example>\r\nRCPT TO:<x@b.example>\r\nDATA\r\n\r\n.\r\n").await;
    smtp.expect("5").await;
    check_well(&world).await;
    world.ready(1).await;
}

#[tokio::test]
async fn who_talks_before_the_greeting_is_turned_away() {
    let world = World::start().await;
    // The bytes are there before the connection is taken up: this blocks the only thread.
    let mut stream = std::net::TcpStream::connect(world.address("relay")).unwrap();
    stream.write_all(b"EHLO x\r\n").unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut smtp = Smtp::over(TcpStream::from_std(stream).unwrap());
    smtp.expect("554 ").await;
    smtp.expect_end().await;
}

#[tokio::test]
async fn one_address_may_have_so_many_connections_only() {
    let world = World::start_with(|setup| setup.ingress.bounds.connections_per_address = 2).await;
    let first = world.greeted("relay").await;
    let _second = world.greeted("plain").await;
    let mut third = Smtp::connect(world.address("relay")).await;
    third.expect("421 4.7.0 mx.example Too many connections from your address").await;
    third.expect_end().await;
    drop(first);
    until(|| world.metrics().contains("postrider_ingress_connections{listener=\"relay\"} 0")).await;
    world.greeted("relay").await;
}

#[tokio::test]
async fn a_client_that_drips_a_command_is_ended() {
    let world = World::start_with(|setup| setup.ingress.timeouts.command_secs = 1).await;
    let mut smtp = Smtp::connect(world.address("relay")).await;
    smtp.expect("220").await;
    let (mut said, dripping) = (String::new(), std::time::Instant::now());
    while said.is_empty() {
        smtp.write(b"N").await;
        let heard = tokio::time::timeout(std::time::Duration::from_millis(100), smtp.reply()).await;
        said = heard.unwrap_or_default();
        assert!(dripping.elapsed().as_secs() < 10);
    }
    assert!(said.starts_with("421 4.4.2"), "{said}");
}

#[tokio::test]
async fn a_client_that_stops_within_a_message_is_ended() {
    let world = World::start_with(|setup| setup.ingress.timeouts.data_block_secs = 1).await;
    let mut smtp = world.alice().await;
    smtp.open("alice@acme.example", &["bob@b.example"]).await;
    smtp.write(b"From: alice@acme.example\r\n").await;
    smtp.expect("421 4.4.2").await;
    smtp.expect_end().await;
    check_well(&world).await;
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_over_all_sessions() {
    let world = World::start_with(|setup| {
        setup.ingress.bounds.message_bytes = 1 << 20;
        setup.ingress.bounds.bytes_in_flight = 1 << 20;
        setup.ingress.timeouts.room_secs = 0;
    })
    .await;
    let mut first = world.alice().await;
    first.say("MAIL FROM:<alice@acme.example> SIZE=1000000", "250").await;
    first.say("RCPT TO:<bob@b.example>", "250").await;
    first.say("DATA", "354").await;
    let mut second = world.alice().await;
    second.say("MAIL FROM:<alice@acme.example> SIZE=500000", "250").await;
    second.say("RCPT TO:<bob@b.example>", "250").await;
    second.say("DATA", "452 4.3.1").await;
    // Who says nothing about the size and then sends more than there is room for is broken off.
    first.write(format!("{}\r\n.\r\n", message("")).as_bytes()).await;
    first.expect("250 2.0.0").await;
    second.say("RSET", "250").await;
    assert!(second.send("alice@acme.example", &["bob@b.example"], &message("")).await.starts_with("250 2.0.0"));
}

#[tokio::test]
async fn a_message_that_outgrows_the_room_is_broken_off() {
    let world = World::start_with(|setup| {
        setup.ingress.bounds.message_bytes = 1 << 20;
        setup.ingress.bounds.bytes_in_flight = 1 << 20;
        setup.ingress.timeouts.room_secs = 0;
    })
    .await;
    let mut first = world.alice().await;
    first.say("MAIL FROM:<alice@acme.example> SIZE=700000", "250").await;
    first.say("RCPT TO:<bob@b.example>", "250").await;
    first.say("DATA", "354").await;
    let mut second = world.alice().await;
    second.open("alice@acme.example", &["bob@b.example"]).await;
    second.write(noise(600_000).as_bytes()).await;
    second.expect("421 4.3.1").await;
    first.write(format!("{}\r\n.\r\n", message("")).as_bytes()).await;
    first.expect("250 2.0.0").await;
}
