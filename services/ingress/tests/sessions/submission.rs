//! Mail that is accepted, and where it lands.

use std::sync::Arc;

use postrider_ingress::NetworkConfig;
use postrider_model::{Body, Class};

use crate::smtp::{Smtp, auth_plain, message, noise};
use crate::world::{PASSWORD, World};

#[tokio::test]
async fn a_message_to_one_recipient_is_in_ready_once_it_has_its_250() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let reply = smtp.send("alice@acme.example", &["bob@b.example"], &message("")).await;
    let id = reply.trim_end().strip_prefix("250 2.0.0 queued as ").unwrap();

    let packet = world.ready(1).await.remove(0);
    let envelope = packet.envelope();
    assert_eq!(envelope.message.to_string(), id);
    assert_eq!(envelope.tenant.as_str(), "acme");
    assert_eq!(envelope.class, Class::Transactional);
    assert_eq!(envelope.sender.to_string(), "alice@acme.example");
    assert_eq!(envelope.recipients, ["bob@b.example".parse().unwrap()]);
    assert_eq!(envelope.state.site.as_str(), "b.example");
    assert_eq!(envelope.state.pending, [0]);
    assert_eq!(envelope.header_message_id, "one@acme.example");
    assert_eq!(envelope.from_domain, Some("acme.example".parse().unwrap()));
    assert_eq!(envelope.expiry.since(envelope.arrival).as_secs(), 4 * 86_400);
}

#[tokio::test]
async fn the_message_goes_on_byte_for_byte_behind_a_received_field() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let sent = message("X-Strange :  kept\r\n\tas it is\r\n");
    smtp.send("alice@acme.example", &["bob@b.example"], &format!("{sent}..leading dot")).await;
    let packet = world.ready(1).await.remove(0);
    let text = world.text(&packet).await;
    assert_eq!(packet.envelope().size_bytes, u64::try_from(text.len()).unwrap());
    let (received, rest) = text.split_at(text.find("From: ").unwrap());
    assert!(received.starts_with("Received: from client.example ([127.0.0.1])"), "{received}");
    assert!(received.contains("by mx.example with ESMTPA"), "{received}");
    assert!(received.contains(&packet.envelope().message.to_string()), "{received}");
    assert_eq!(rest, format!("{sent}.leading dot\r\n"));
}

#[tokio::test]
async fn several_recipients_go_through_intake_as_one_record_in_parts_by_site() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let to = ["a@b.example", "b@c.example", "c@b.example"];
    assert!(smtp.send("alice@acme.example", &to, &message("")).await.starts_with("250 2.0.0 queued as "));
    let packets = world.split(2).await;
    let shape: Vec<_> = packets
        .iter()
        .map(|packet| packet.envelope())
        .map(|e| (e.part, e.state.site.to_string(), e.recipients.iter().map(ToString::to_string).collect::<Vec<_>>()))
        .collect();
    assert_eq!(
        shape,
        [
            (0, "b.example".to_owned(), vec!["a@b.example".to_owned(), "c@b.example".to_owned()]),
            (1, "c.example".to_owned(), vec!["b@c.example".to_owned()]),
        ]
    );
    assert!(packets.iter().all(|packet| matches!(packet.body(), Body::Stored(body) if body.shared)));
    assert!(world.text(&packets[0]).await.ends_with("Good morning.\r\n\r\n"));
}

#[tokio::test]
async fn bulk_mail_has_a_part_for_each_recipient_and_loses_our_headers() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let headers = "X-Postrider-Class: bulk\r\nX-Postrider-Campaign: May newsletter\r\n";
    smtp.send("alice@acme.example", &["a@b.example", "c@b.example"], &message(headers)).await;
    let packets = world.split(2).await;
    for packet in &packets {
        assert_eq!(packet.envelope().class, Class::Bulk);
        assert_eq!(packet.envelope().campaign.as_ref().unwrap().as_str(), "May newsletter");
        assert_eq!(packet.envelope().recipients.len(), 1);
        assert!(!world.text(packet).await.contains("X-Postrider"));
    }
}

#[tokio::test]
async fn a_recipient_that_is_named_twice_gets_one_copy() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.send("alice@acme.example", &["bob@b.example", "bob@B.example"], &message("")).await;
    assert_eq!(world.ready(1).await[0].envelope().recipients.len(), 1);
}

#[tokio::test]
async fn a_large_message_has_its_body_outside_the_envelope() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let sent = format!("{}{}", message(""), noise(2 << 20));
    smtp.send("alice@acme.example", &["bob@b.example"], &sent).await;
    let packet = world.ready(1).await.remove(0);
    assert!(matches!(packet.body(), Body::Stored(body) if !body.shared));
    assert!(world.text(&packet).await.ends_with(&format!("{sent}\r\n")));
}

#[tokio::test]
async fn what_a_message_lacks_is_added() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.send("", &["bob@b.example"], "From: alice@acme.example\r\n\r\nhello").await;
    let packet = world.ready(1).await.remove(0);
    let (envelope, text) = (packet.envelope(), world.text(&packet).await);
    assert_eq!(envelope.header_message_id, format!("{}@mx.example", envelope.message));
    assert!(text.contains(&format!("Message-ID: <{}>\r\n", envelope.header_message_id)), "{text}");
    assert!(text.contains("\r\nDate: "), "{text}");
    assert_eq!(envelope.sender.to_string(), "");
}

#[tokio::test]
async fn a_site_that_is_not_known_in_time_goes_by_its_domain() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = silent.local_addr().unwrap();
    let world = World::start_with(|setup| {
        setup.snapshot.default_route = None;
        setup.dns.servers = Some(vec![server]);
        setup.ingress.timeouts.sites_ms = 100;
    })
    .await;
    let mut smtp = world.alice().await;
    let began = std::time::Instant::now();
    smtp.send("alice@acme.example", &["bob@b.example"], &message("")).await;
    assert!(began.elapsed().as_secs() < 4, "{:?}", began.elapsed());
    assert_eq!(world.ready(1).await[0].envelope().state.site.as_str(), "b.example");
}

#[tokio::test]
async fn passwords_are_taken_after_starttls_only() {
    let world = World::start().await;
    let mut smtp = world.greeted("submission").await;
    smtp.say(&auth_plain("alice", PASSWORD), "538 5.7.11").await;
    smtp.say("MAIL FROM:<alice@acme.example>", "530 5.7.0").await;
    smtp.say("STARTTLS", "220").await;
    let mut smtp = smtp.secured().await;
    let reply = smtp.say("EHLO client.example", "250").await;
    assert!(reply.contains("AUTH PLAIN LOGIN"), "{reply}");
    smtp.log_in("alice", PASSWORD).await;
    smtp.send("alice@acme.example", &["bob@b.example"], &message("")).await;
    let packet = world.ready(1).await.remove(0);
    let text = world.text(&packet).await;
    assert!(text.contains("with ESMTPSA (TLSv1.3 TLS_"), "{text}");
}

#[tokio::test]
async fn submissions_speak_tls_from_the_first_byte() {
    let world = World::start().await;
    let mut smtp = Smtp::connect(world.address("submissions")).await.secured().await;
    smtp.expect("220 mx.example").await;
    smtp.say("EHLO client.example", "250").await;
    smtp.log_in("alice", PASSWORD).await;
    assert!(
        smtp.send("alice@acme.example", &["bob@b.example"], &message("")).await.starts_with("250 2.0.0 queued as ")
    );
}

#[tokio::test]
async fn a_trusted_network_submits_without_auth_as_its_tenant() {
    let world = World::start_with(|setup| {
        setup.ingress.networks = vec![NetworkConfig {
            cidrs: vec!["127.0.0.1".parse().unwrap()],
            tenant: "acme".parse().unwrap(),
            any_sender: true,
            class: Class::Bulk,
        }];
    })
    .await;
    let mut smtp = world.greeted("relay").await;
    let text = "From: x@anything.example\r\n\r\nhello";
    assert!(smtp.send("y@elsewhere.example", &["bob@b.example"], text).await.starts_with("250 2.0.0 queued as "));
    let packet = world.ready(1).await.remove(0);
    assert_eq!((packet.envelope().tenant.as_str(), packet.envelope().class), ("acme", Class::Bulk));
    // The same client on a listener that requires AUTH is a stranger.
    world.greeted("plain").await.say("MAIL FROM:<y@elsewhere.example>", "530 5.7.0").await;
}

#[tokio::test]
async fn a_withdrawn_credential_is_refused_within_its_session() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    let mut snapshot = (**world.snapshot.borrow()).clone();
    snapshot.credentials.clear();
    world.snapshot.send_replace(Arc::new(snapshot));
    smtp.say("MAIL FROM:<alice@acme.example>", "421 4.7.0").await;
    smtp.expect_end().await;
}

#[tokio::test]
async fn what_is_accepted_is_counted() {
    let world = World::start().await;
    let mut smtp = world.alice().await;
    smtp.send("alice@acme.example", &["a@b.example", "b@b.example"], &message("")).await;
    smtp.say("MAIL FROM:<x@other.example>", "550").await;
    let metrics = world.metrics();
    for line in [
        "postrider_accepted_messages_total{class=\"transactional\",listener=\"plain\"} 1",
        "postrider_accepted_recipients_total{class=\"transactional\"} 2",
        "postrider_refused_total{listener=\"plain\",reason=\"sender\"} 1",
        "postrider_ingress_connections{listener=\"plain\"} 1",
        "postrider_ingress_publish_seconds_count 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}
