//! One message to many: 50 recipients at 5 sites, whatever the class (only the conversations differ), and 1,000 at 400 sites. Each
//! gets it once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::provider::{LedgerLine, Provider};
use postrider_tests::streams;

const SITES: usize = 5;
const EACH: usize = 10;

fn recipients() -> Vec<String> {
    (0..SITES * EACH).map(|number| format!("user{number}@site{}.example", number % SITES)).collect()
}

/// Sends to all 50 in one transaction, and waits until all have it.
fn fan_out(class: &str) -> Result<Vec<LedgerLine>> {
    let provider = Provider::start(&[])?;
    let mut plan = Plan::new()?;
    for site in 0..SITES {
        plan = plan.route(&format!("site{site}.example"), provider.address);
    }
    let cluster = plan.start()?;
    let to = recipients();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mail = Mail::new(&cluster.sender("news"), &to, class).field(&format!("X-Postrider-Class: {class}"));
    let id = cluster.submit(&mail)?;
    let life = cluster.end_of(&id)?;
    assert_eq!(life.0["class"], class);
    assert_eq!(life.events(), ["delivered"]);
    let lines = provider.lines_of(class)?;
    let mut got: Vec<&str> = lines.iter().map(|line| line.rcpt_to.as_str()).collect();
    got.sort_unstable();
    let mut expected = to.clone();
    expected.sort_unstable();
    assert_eq!(got, expected, "each recipient once");
    Ok(lines)
}

#[test]
fn a_transactional_message_goes_to_each_site_in_one_transaction() -> Result<()> {
    let lines = fan_out("transactional")?;
    let mut recipients_of_file: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &lines {
        *recipients_of_file.entry(&line.file).or_default() += 1;
    }
    assert_eq!(recipients_of_file.into_values().collect::<Vec<_>>(), [EACH; SITES]);
    Ok(())
}

#[test]
fn a_bulk_message_goes_to_each_recipient_in_a_transaction_of_its_own() -> Result<()> {
    let lines = fan_out("bulk")?;
    let mut files: Vec<&str> = lines.iter().map(|line| line.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    assert_eq!(files.len(), SITES * EACH);
    Ok(())
}

#[test]
fn a_message_to_1000_recipients_at_400_sites_reaches_each_of_them_once() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let to: BTreeSet<String> = (0..1_000).map(|number| format!("user{number}@site{}.example", number % 400)).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mail = Mail::new(&cluster.sender("news"), &to, "thousand").field("X-Postrider-Class: bulk");
    let id = cluster.submit(&mail)?;
    let life = cluster.end_of(&id)?;
    assert_eq!(life.events(), ["delivered"]);
    let parts = life.0["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sites: BTreeSet<&str> = parts.iter().filter_map(|part| part["site"].as_str()).collect();
    assert_eq!((parts.len(), sites.len()), (1_000, 400));
    // Nothing is left that could come once more.
    streams::until_empty(cluster.ready.nats, Duration::from_secs(60))?;
    let lines = provider.lines_of("thousand")?;
    let mut got: Vec<&str> = lines.iter().map(|line| line.rcpt_to.as_str()).collect();
    got.sort_unstable();
    assert_eq!(got, to, "each recipient once");
    Ok(())
}
