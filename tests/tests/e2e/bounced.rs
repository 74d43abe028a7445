//! A receiver says "never": the recipient bounces at the first attempt with the reply that refused it, the others do not.

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;

#[test]
fn a_refused_recipient_bounces_with_the_reply_that_refused_it() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let to = ["alice@example.net", "refuse@example.net", "refuse-553@example.net"];
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &to, "refused"))?;
    let life = cluster.end_of(&id)?;
    let expected =
        [("alice@example.net", "delivered"), ("refuse-553@example.net", "bounced"), ("refuse@example.net", "bounced")];
    assert_eq!(life.recipients(), expected.map(|(who, what)| (who.to_owned(), what.to_owned())));
    assert!(life.reply("refuse@example.net").starts_with("550 5.1.1 no such user"), "{life:?}");
    Ok(())
}

#[test]
fn a_552_to_a_recipient_is_no_bounce() -> Result<()> {
    // RFC 5321 section 4.5.3.1.10: too many recipients, said with the code of old.
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["refuse-552@example.net"], "552"))?;
    assert_eq!(cluster.deferred(&id)?.events(), ["deferred"]);
    Ok(())
}

#[test]
fn a_message_refused_after_its_data_bounces_for_all_of_its_recipients() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let to = ["alice@example.net", "refuse-data@example.net"];
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &to, "refused-data"))?;
    assert_eq!(cluster.end_of(&id)?.events(), ["bounced"]);
    assert!(provider.ledger()?.is_empty());
    Ok(())
}

#[test]
fn an_exported_event_of_a_bounce_has_the_documented_columns() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["refuse@example.net"], "exported"))?;
    cluster.end_of(&id)?;
    let output = cluster.run(&["event", "export", "--since", "10m", "--format", "ndjson"])?;
    let text = String::from_utf8(output.stdout)?;
    let events: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let bounce = events.iter().find(|event| event["event"] == "bounced").expect("a bounce");
    assert_eq!(
        (bounce["recipient"].as_str(), bounce["code"].as_u64(), bounce["message_id"].as_str()),
        (Some("refuse@example.net"), Some(550), Some(id.as_str()))
    );
    let csv = String::from_utf8(cluster.run(&["event", "export", "--since", "10m", "--format", "csv"])?.stdout)?;
    assert!(csv.starts_with("time,event,event_id,message_id,"), "{csv}");
    Ok(())
}
