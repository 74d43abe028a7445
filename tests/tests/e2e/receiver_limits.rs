//! A provider with limits per source address, in the words of the large ones: what it refuses for now arrives later, and
//! all of it arrives once.

use std::collections::BTreeSet;

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;

const MESSAGES: usize = 20;

fn all_arrive_once(flags: &[&str]) -> Result<()> {
    let provider = Provider::start(flags)?;
    let settings = "[delivery]\nfirst_closure_secs = 1";
    let cluster = Plan::new()?.route("*", provider.address).config(settings).short_tiers().start()?;
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        ids.push(cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], &format!("m{number}")))?);
    }
    for id in ids {
        assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    }
    let lines = provider.ledger()?;
    let tokens: BTreeSet<&str> = lines.iter().map(|line| line.token.as_str()).collect();
    assert_eq!((tokens.len(), lines.len()), (MESSAGES, MESSAGES));
    Ok(())
}

#[test]
fn a_provider_that_takes_one_connection_at_a_time_gets_everything() -> Result<()> {
    all_arrive_once(&["--connections", "1", "--flavour", "yahoo"])
}

#[test]
fn a_provider_that_takes_three_messages_a_connection_gets_everything() -> Result<()> {
    all_arrive_once(&["--messages-per-connection", "3", "--flavour", "gmail"])
}

#[test]
fn a_rate_limit_is_a_deferral_that_says_in_whose_words() -> Result<()> {
    let provider = Provider::start(&["--messages-per-minute", "1", "--flavour", "microsoft"])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let mut last = String::new();
    for number in 0..2 {
        last = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], &format!("m{number}")))?;
        if number == 0 {
            cluster.end_of(&last)?;
        }
    }
    let life = cluster.deferred(&last)?;
    assert!(life.reply("alice@example.net").starts_with("451 4.7.500 Server busy"), "{life:?}");
    Ok(())
}
