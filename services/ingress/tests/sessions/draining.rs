//! Shutdown: what is under way is finished, nothing new is taken, nobody is kept waiting.

use crate::smtp::{Smtp, message};
use crate::world::World;

#[tokio::test]
async fn a_message_under_way_is_taken_to_its_end() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.open("alice@acme.example", &["bob@b.example"]).await;
    smtp.write(b"From: alice@acme.example\r\n").await;
    world.shutdown.cancel();
    smtp.write(b"\r\nhello\r\n.\r\n").await;
    smtp.expect("250 2.0.0 queued as ").await;
    smtp.expect("421 4.3.2").await;
    smtp.expect_end().await;
    world.ready(1).await;
    world.running.await.unwrap();
}

#[tokio::test]
async fn an_idle_session_is_told_and_closed() {
    let world = World::start().await;
    let mut smtp = world.greeted("relay").await;
    world.shutdown.cancel();
    smtp.expect("421 4.3.2").await;
    smtp.expect_end().await;
    world.running.await.unwrap();
}

#[tokio::test]
async fn nobody_new_is_taken_while_draining() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.open("alice@acme.example", &["bob@b.example"]).await;
    let address = world.address("relay");
    world.shutdown.cancel();
    crate::world::until(|| world.readiness.to_string().contains("shutting down")).await;
    let mut late = tokio::net::TcpStream::connect(address).await;
    while late.is_ok() {
        late = tokio::net::TcpStream::connect(address).await;
    }
    smtp.write(format!("{}\r\n.\r\n", message("")).as_bytes()).await;
    smtp.expect("250 2.0.0").await;
    drop(smtp);
    world.running.await.unwrap();
}

#[tokio::test]
async fn a_session_that_does_not_end_in_time_is_cut() {
    let world = World::start_with(|setup| setup.ingress.timeouts.drain_secs = 1).await;
    let mut smtp = world.alice().await;
    smtp.open("alice@acme.example", &["bob@b.example"]).await;
    world.shutdown.cancel();
    world.running.await.unwrap();
    smtp.expect_end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let world = World::start().await;
    let taken = world.address("relay");
    let error = World::try_bind(taken, &world).await;
    assert!(error.starts_with(&format!("listener \"relay\" cannot listen on {taken}: ")), "{error}");
    drop(Smtp::connect(taken).await);
}
