//! Mail of a domain with a key carries one signature that somebody else's software verifies, and that covers fields which
//! nobody may add afterwards.

use anyhow::{Context, Result};
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::mail::Mail;
use postrider_tests::peers::{self, Peer, verify_dkim};
use postrider_tests::provider::Provider;

/// Makes a domain of the demo tenant; name and value of the record to publish.
fn domain_with_key(cluster: &Cluster, domain: &str) -> Result<(String, String)> {
    cluster.json(&["domain", "create", domain, "--tenant", &cluster.ready.tenant])?;
    let shown = cluster.json(&["domain", "show", domain])?;
    let record = &shown["dkim"]["record"];
    let text =
        |value: &serde_json::Value| value.as_str().map(str::to_owned).with_context(|| format!("no record in {shown}"));
    Ok((text(&record["name"])?, text(&record["value"])?))
}

#[test]
fn dkimpy_verifies_the_signature_of_a_delivered_message() -> Result<()> {
    if !peers::all_here("dkimpy_verifies_the_signature_of_a_delivered_message", &[Peer::Dkimpy])? {
        return Ok(());
    }
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).short_tiers().start()?;
    let (name, value) = domain_with_key(&cluster, "signed.example")?;
    // At the first attempt, and at the second, when the body is read again.
    for local in ["alice", "defer1"] {
        let token = format!("signed-{local}");
        cluster.submit(&Mail::new("news@signed.example", &[&format!("{local}@example.net")], &token))?;
        let line = provider.received(&token, 1)?.remove(0);
        let signatures = verify_dkim(&provider.message(&line)?, &name, &value)?;
        assert_eq!(signatures.len(), 1, "{signatures:?}");
        assert!(signatures[0].valid, "{signatures:?}");
        assert_eq!((signatures[0].domain.as_str(), signatures[0].algorithm.as_str()), ("signed.example", "rsa-sha256"));
    }
    Ok(())
}

#[test]
fn fields_that_readers_trust_are_signed_once_more_than_they_stand_there() -> Result<()> {
    let test = "fields_that_readers_trust_are_signed_once_more_than_they_stand_there";
    if !peers::all_here(test, &[Peer::Dkimpy])? {
        return Ok(());
    }
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let (name, value) = domain_with_key(&cluster, "signed.example")?;
    cluster.submit(&Mail::new("news@signed.example", &["alice@example.net"], "oversigned"))?;
    let line = provider.received("oversigned", 1)?.remove(0);
    let message = provider.message(&line)?;
    let signature = verify_dkim(&message, &name, &value)?.remove(0);
    for field in ["from", "to", "subject", "date", "message-id"] {
        let times = signature.headers.iter().filter(|header| *header == field).count();
        assert_eq!(times, 2, "{field} in {:?}", signature.headers);
    }
    let forged = [b"Subject: another\r\n".as_slice(), &message].concat();
    assert!(!verify_dkim(&forged, &name, &value)?[0].valid);
    Ok(())
}

#[test]
fn mail_of_a_domain_without_a_key_is_not_signed() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "unsigned"))?;
    let line = provider.received("unsigned", 1)?.remove(0);
    let message = String::from_utf8(provider.message(&line)?)?;
    assert!(!message.to_ascii_lowercase().contains("dkim-signature:"), "{message}");
    Ok(())
}
