//! A receiver says "later": the message waits and says why, until when and who can lift it; then it is delivered, once.

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;
use postrider_tests::wait;

#[test]
fn a_deferred_message_says_why_it_waits_until_when_and_who_can_lift_it() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["defer@example.net"], "waits"))?;
    let life = cluster.wait_of(&id)?;
    let waiting = life.waiting().expect("it waits").clone();
    assert_eq!(waiting["reason"], "retry", "{waiting}");
    assert!(waiting["until"].as_str().is_some_and(|until| until.starts_with("20")), "{waiting}");
    assert!(waiting["lifted_by"].as_str().is_some_and(|who| !who.is_empty()), "{waiting}");
    assert!(life.reply("defer@example.net").starts_with("451 4.7.1 "), "{life:?}");
    Ok(())
}

#[test]
fn a_message_deferred_twice_is_delivered_at_the_third_attempt() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).short_tiers().start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["defer2@example.net"], "third"))?;
    let life = cluster.end_of(&id)?;
    assert_eq!((life.events(), life.attempts()), (vec!["delivered".to_owned()], 3));
    assert_eq!(provider.received("third", 1)?.len(), 1);
    Ok(())
}

#[test]
fn a_message_deferred_after_its_data_is_delivered_later() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).short_tiers().start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["defer1-data@example.net"], "after-data"))?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}

#[test]
fn only_the_deferred_recipients_of_a_part_wait() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).short_tiers().start()?;
    let to = ["alice@example.net", "defer1@example.net", "refuse@example.net"];
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &to, "mixed"))?;
    let life = cluster.end_of(&id)?;
    let expected =
        [("alice@example.net", "delivered"), ("defer1@example.net", "delivered"), ("refuse@example.net", "bounced")];
    assert_eq!(life.recipients(), expected.map(|(who, what)| (who.to_owned(), what.to_owned())));
    let mut got: Vec<String> = provider.received("mixed", 2)?.into_iter().map(|line| line.rcpt_to).collect();
    got.sort();
    assert_eq!(got, ["alice@example.net", "defer1@example.net"]);
    Ok(())
}

#[test]
fn the_queue_summary_counts_what_waits_by_reason() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["defer@example.net"], "counted"))?;
    cluster.wait_of(&id)?;
    wait::until("a row that counts the waiting message", || {
        let summary = cluster.json(&["queue", "summary"])?;
        let rows = summary["rows"].as_array().cloned().unwrap_or_default();
        let waits = |row: &serde_json::Value| {
            let reasons = row["waiting"].as_array().cloned().unwrap_or_default();
            row["tenant"] == "demo" && reasons.iter().any(|wait| wait["count"].as_u64() == Some(1))
        };
        Ok(rows.iter().any(waits).then_some(()))
    })
}
