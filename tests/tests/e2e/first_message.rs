//! The first message that anybody sends: AUTH and TLS in, a 250 with our id, the receiver has it, the client commands say so.

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::{Mail, check_same};
use postrider_tests::peers::{Security, smtplib};
use postrider_tests::provider::Provider;

#[test]
fn a_message_submitted_over_starttls_is_delivered_once_and_says_so() -> Result<()> {
    delivered_once(Security::StartTls)
}

#[test]
fn a_message_submitted_over_implicit_tls_is_delivered_once_and_says_so() -> Result<()> {
    delivered_once(Security::Implicit)
}

fn delivered_once(security: Security) -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let mail = Mail::new(&cluster.sender("news"), &["alice@example.net"], "first");

    let answer = smtplib(&cluster.account(security), &mail)?;
    assert_eq!(answer.login.as_deref().map(|reply| &reply[..3]), Some("235"), "{answer:?}");
    let id = answer.message_id()?;

    let line = provider.received("first", 1)?.remove(0);
    assert_eq!((line.mail_from, line.rcpt_to), (mail.sender.clone(), "alice@example.net".to_owned()));
    let life = cluster.end_of(&id)?;
    assert_eq!(life.recipients(), [("alice@example.net".to_owned(), "delivered".to_owned())]);
    assert_eq!(life.attempts(), 1);
    assert_eq!(provider.lines_of("first")?.len(), 1);
    Ok(())
}

#[test]
fn what_arrives_is_what_was_sent_with_a_received_field() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let mail =
        Mail::new(&cluster.sender("news"), &["alice@example.net"], "bytes").field("X-Postrider-Campaign: spring");
    cluster.submit(&mail)?;
    let line = provider.received("bytes", 1)?.remove(0);
    check_same(&mail.message, &provider.message(&line)?, &["Received"], &["X-Postrider-Campaign"])
}

#[test]
fn a_message_is_found_by_its_message_id_and_by_its_recipient() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "found"))?;
    cluster.end_of(&id)?;

    let by_header = cluster.message("<found@test.invalid>")?.expect("it is found by its Message-ID");
    assert_eq!(by_header.0["message_id"], id.as_str());
    let found = cluster.json(&["message", "find", "--to", "alice@example.net", "--since", "10m"])?;
    assert_eq!(found[0]["message_id"], id.as_str(), "{found}");
    Ok(())
}

#[test]
fn the_cluster_that_up_starts_delivers_to_its_own_receiver() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    assert!(cluster.ready.receiver.is_some());
    let id =
        cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net", "refuse@example.net"], "own"))?;
    let life = cluster.end_of(&id)?;
    let events = [("alice@example.net", "delivered"), ("refuse@example.net", "bounced")];
    assert_eq!(life.recipients(), events.map(|(who, what)| (who.to_owned(), what.to_owned())));
    Ok(())
}

#[test]
fn loopback_is_trusted_at_the_relay_listener_if_so_asked() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).with(&["--trust-loopback"]).start()?;
    let mail = Mail::new("anybody@any.example", &["alice@example.net"], "trusted");
    let id = smtplib(&cluster.account(Security::Plain), &mail)?.message_id()?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}
