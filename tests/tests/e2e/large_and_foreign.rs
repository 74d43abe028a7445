//! What strains the way of a message: an attachment of 20 MB, addresses and headers in other scripts, octets above 127.

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::{Mail, check_same};
use postrider_tests::peers::{self, Aiosmtpd, Peer, Postfix, Security, smtplib};
use postrider_tests::provider::Provider;

/// Lines of base64 text, never two the same: a block lost or doubled is seen.
fn attachment(bytes: usize) -> Vec<u8> {
    let line = |number: usize| format!("{:0>64}\r\n", format!("{number:x}")).into_bytes();
    (0..bytes / 66).flat_map(line).collect()
}

#[test]
fn an_attachment_of_20_mb_arrives_byte_for_byte() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let sender = cluster.sender("news");
    let mail = Mail::with_body(&sender, &["alice@example.net"], "large", "alice@example.net", &attachment(20 << 20));
    let id = cluster.submit(&mail)?;
    let line = provider.received("large", 1)?.remove(0);
    check_same(&mail.message, &provider.message(&line)?, &["Received"], &[])?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}

#[test]
fn an_attachment_of_20_mb_that_was_deferred_arrives_byte_for_byte() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).short_tiers().start()?;
    let sender = cluster.sender("news");
    let mail =
        Mail::with_body(&sender, &["defer1@example.net"], "large-late", "defer1@example.net", &attachment(20 << 20));
    cluster.submit(&mail)?;
    let line = provider.received("large-late", 1)?.remove(0);
    check_same(&mail.message, &provider.message(&line)?, &["Received"], &[])
}

#[test]
fn a_message_larger_than_announced_is_refused() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let sender = cluster.sender("news");
    let mail =
        Mail::with_body(&sender, &["alice@example.net"], "too-large", "alice@example.net", &attachment(64 << 20));
    let answer = smtplib(&cluster.account(Security::StartTls), &mail)?;
    let refusal = answer.mail.or(answer.data).unwrap_or_default();
    assert!(refusal.starts_with("552"), "{refusal}");
    Ok(())
}

#[test]
fn an_internationalised_address_arrives_as_it_was_written() -> Result<()> {
    let test = "an_internationalised_address_arrives_as_it_was_written";
    if !peers::all_here(test, &[Peer::Aiosmtpd])? {
        return Ok(());
    }
    let aiosmtpd = Aiosmtpd::start()?;
    let cluster = Plan::new()?.route("*", aiosmtpd.address).start()?;
    let mail =
        Mail::new(&cluster.sender("nachrichten"), &["δοκιμή@example.net"], "utf8").field("X-Name: Δοκιμή Ünicode");
    let id = cluster.submit(&mail)?;
    let kept = aiosmtpd.received(1)?.remove(0);
    assert_eq!(kept.rcpt_tos, ["δοκιμή@example.net"]);
    check_same(&mail.message, &kept.message, &["Received"], &[])?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}

#[test]
fn an_internationalised_address_arrives_at_postfix() -> Result<()> {
    if !peers::all_here("an_internationalised_address_arrives_at_postfix", &[Peer::Postfix])? {
        return Ok(());
    }
    let postfix = Postfix::start()?;
    let cluster = Plan::new()?.route("*", postfix.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["δοκιμή@example.net"], "utf8-postfix"))?;
    let kept = String::from_utf8(postfix.received(1)?.remove(0))?;
    assert!(kept.contains("Delivered-To: δοκιμή@example.net\r\n"), "{kept}");
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}
