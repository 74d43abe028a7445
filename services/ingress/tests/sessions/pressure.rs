//! Streams that fill up and a server that hangs: new mail is put off before there is no room left for moves, and what was
//! stored for a message that is refused goes again, but only if nobody can need it.

use std::process::Command;
use std::time::Duration;

use postrider_ingress::IngressConfig;

use crate::smtp::{Smtp, message, noise};
use crate::world::{World, until};

/// A world, and a client that looks behind the scenes.
async fn world(change: impl FnOnce(&mut IngressConfig)) -> (World, async_nats::jetstream::Context) {
    let mut url = String::new();
    let world = World::start_with(|setup| {
        url.clone_from(&setup.nats.urls[0]);
        change(&mut setup.ingress);
    })
    .await;
    (world, async_nats::jetstream::new(async_nats::connect(url).await.unwrap()))
}

async fn limit(jetstream: &async_nats::jetstream::Context, stream: &str, bytes: i64) {
    let mut config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    config.max_bytes = bytes;
    jetstream.update_stream(config).await.unwrap();
}

async fn mail(smtp: &mut Smtp, start: &str) -> String {
    let reply = smtp.say("MAIL FROM:<alice@acme.example>", start).await;
    smtp.say("RSET", "250").await;
    reply
}

/// Too large to travel with its envelope.
fn large() -> String {
    format!("{}{}", message(""), noise(600_000))
}

#[tokio::test]
async fn new_mail_is_put_off_from_80_percent_on_while_moves_still_have_room() {
    let (world, jetstream) = world(|_| {}).await;
    let mut smtp = world.alice().await;
    limit(&jetstream, "READY_B0", 1_000_000).await;
    let fullness = || world.spool.fullness_for(Duration::from_secs(345_600));
    let fill = async |share: std::ops::Range<f64>| {
        while fullness() < share.start {
            let at = fullness();
            let record = vec![b'x'; 49_000].into();
            jetstream.publish("ready.b00.example_net.acme", record).await.unwrap().await.unwrap();
            until(|| fullness() > at).await;
        }
        assert!(share.contains(&fullness()), "{}", fullness());
    };
    fill(0.6..0.78).await;
    mail(&mut smtp, "250").await;
    fill(0.82..0.97).await;
    let reply = mail(&mut smtp, "452 4.3.1").await;
    assert!(reply.contains("full"), "{reply}");
    let moved = jetstream.publish("ready.b00.example_net.acme", "x".into()).await.unwrap();
    moved.await.unwrap();
    jetstream.get_stream("READY_B0").await.unwrap().purge().await.unwrap();
    until(|| fullness() < 0.1).await;
    mail(&mut smtp, "250").await;
}

#[tokio::test]
async fn while_the_queue_does_not_keep_up_new_mail_is_put_off() {
    let change = |config: &mut IngressConfig| {
        (config.timeouts.strain_secs, config.timeouts.calm_secs, config.timeouts.room_secs) = (2, 1, 1);
    };
    let (world, _) = world(change).await;
    let mut smtp = world.alice().await;
    until(|| world.readiness.is_ready()).await;
    mail(&mut smtp, "250").await;
    let signal = |name: &str| assert!(Command::new("kill").args([name, &world.nats_pid()]).status().unwrap().success());
    signal("-STOP");
    until(|| !world.readiness.is_ready()).await;
    let reply = mail(&mut smtp, "452 4.3.1").await;
    assert!(reply.contains("slow"), "{reply}");
    signal("-CONT");
    until(|| world.readiness.is_ready()).await;
    mail(&mut smtp, "250").await;
}

#[tokio::test]
async fn the_body_of_a_refused_message_goes_and_that_of_one_in_doubt_stays() {
    let (world, jetstream) = world(|config| config.timeouts.sites_ms = 100).await;
    let mut smtp = world.alice().await;
    limit(&jetstream, "READY_T", 1).await;
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &large()).await;
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    assert_eq!(world.spool.bodies_held().await.unwrap().0, 0, "nobody will ask for it");
    jetstream.delete_stream("READY_T").await.unwrap();
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &large()).await;
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    assert!(world.spool.bodies_held().await.unwrap().0 > 0, "its envelope may be stored, as far as we know");
}
