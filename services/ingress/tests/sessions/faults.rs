//! What senders hear when the queue is out of reach or full: never 250.

use crate::smtp::{message, noise};
use crate::world::{World, until};

#[tokio::test]
async fn without_nats_mail_is_put_off_at_mail() {
    let mut world = World::start_with(|setup| setup.ingress.timeouts.strain_secs = 4).await;
    let mut smtp = world.alice().await;
    until(|| world.readiness.is_ready()).await;
    let lost = std::time::Instant::now();
    world.kill_nats().await;
    smtp.say("MAIL FROM:<alice@acme.example>", "451 4.3.0").await;
    until(|| !world.readiness.is_ready()).await;
    // JetStream had last answered up to a second before.
    assert!(lost.elapsed() > std::time::Duration::from_secs(2), "after {:?}", lost.elapsed());
    assert!(world.readiness.to_string().contains("NATS"), "{}", world.readiness);
}

#[tokio::test]
async fn a_message_under_way_when_nats_dies_is_put_off() {
    let mut world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.open("alice@acme.example", &["bob@b.example"]).await;
    world.kill_nats().await;
    smtp.write(format!("{}\r\n.\r\n", message("")).as_bytes()).await;
    smtp.expect("451 4.3.0").await;
    smtp.say("NOOP", "250").await;
}

#[tokio::test]
async fn a_full_queue_puts_mail_off_and_keeps_what_it_has() {
    let world = World::start_with(|setup| {
        setup.nats.storage_bytes = 40 << 20;
        setup.ingress.timeouts.sites_ms = 100;
    })
    .await;
    let text = format!("{}{}", message(""), noise(40_000));
    let mut smtp = world.alice().await;
    let mut accepted = 0;
    loop {
        smtp.write(b"MAIL FROM:<alice@acme.example>\r\n").await;
        let reply = smtp.reply().await;
        if reply.starts_with("452 4.3.1") {
            break;
        }
        assert!(reply.starts_with("250"), "{reply}");
        smtp.say("RCPT TO:<bob@b.example>", "250").await;
        smtp.say("DATA", "354").await;
        smtp.write(format!("{text}\r\n.\r\n").as_bytes()).await;
        let reply = smtp.reply().await;
        if reply.starts_with("452 4.3.1") {
            break;
        }
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        accepted += 1;
        assert!(accepted < 2_000, "it never fills");
    }
    assert!(accepted > 0);
    world.ready(accepted).await;
    let metrics = world.metrics();
    assert!(metrics.contains("postrider_refused_total{listener=\"plain\",reason=\"full\"} 1"), "{metrics}");
}
