//! Receivers that hang, drip a byte at a time, or drop the connection at each phase: never a bounce, never a loss, and the
//! message goes on waiting or is delivered.

use anyhow::Result;
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;

/// Patience of seconds instead of RFC 5321's minutes, and a site that is closed for a second after a failure.
fn impatient(provider: &Provider) -> Result<Cluster> {
    let settings = "[delivery]\nlongest_reply_secs = 2\nconnect_timeout_secs = 2\nfirst_closure_secs = 1";
    Plan::new()?.route("*", provider.address).config(settings).short_tiers().start()
}

/// Sends to this recipient; it must end up waiting, after at least one attempt, with nothing accepted by the receiver.
fn goes_on_waiting(local: &str, flags: &[&str]) -> Result<()> {
    let provider = Provider::start(flags)?;
    let cluster = impatient(&provider)?;
    let address = format!("{local}@example.net");
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &[&address], local))?;
    let life = cluster.deferred(&id)?;
    assert_eq!(life.events(), ["deferred"], "{life:?}");
    assert!(provider.lines_of(local)?.is_empty());
    Ok(())
}

#[test]
fn a_receiver_that_never_answers_the_recipient_defers() -> Result<()> {
    goes_on_waiting("hang", &[])
}

#[test]
fn a_receiver_that_never_answers_the_end_of_data_defers() -> Result<()> {
    goes_on_waiting("hang-data", &[])
}

#[test]
fn a_receiver_that_never_greets_defers() -> Result<()> {
    goes_on_waiting("alice", &["--misbehave", "hang-greeting"])
}

#[test]
fn a_receiver_that_never_answers_ehlo_defers() -> Result<()> {
    goes_on_waiting("alice", &["--misbehave", "hang-ehlo"])
}

#[test]
fn a_receiver_that_never_answers_mail_defers() -> Result<()> {
    goes_on_waiting("alice", &["--misbehave", "hang-mail"])
}

#[test]
fn a_receiver_that_drips_a_byte_a_second_defers() -> Result<()> {
    goes_on_waiting("alice", &["--misbehave", "drip"])
}

#[test]
fn a_receiver_that_drops_instead_of_greeting_defers() -> Result<()> {
    goes_on_waiting("alice", &["--misbehave", "disconnect-greeting"])
}

#[test]
fn a_receiver_that_drops_at_ehlo_defers() -> Result<()> {
    goes_on_waiting("alice", &["--misbehave", "disconnect-ehlo"])
}

#[test]
fn a_receiver_that_drops_at_mail_defers() -> Result<()> {
    goes_on_waiting("disconnect-mail", &[])
}

#[test]
fn a_receiver_that_drops_at_rcpt_defers() -> Result<()> {
    goes_on_waiting("disconnect-rcpt", &[])
}

#[test]
fn a_receiver_that_drops_at_data_defers() -> Result<()> {
    goes_on_waiting("disconnect-data", &[])
}

#[test]
fn a_receiver_that_drops_within_the_message_defers() -> Result<()> {
    goes_on_waiting("disconnect-body", &[])
}

#[test]
fn a_receiver_that_drops_instead_of_the_last_reply_defers() -> Result<()> {
    goes_on_waiting("disconnect-end", &[])
}

#[test]
fn a_receiver_that_says_421_to_the_recipient_defers() -> Result<()> {
    goes_on_waiting("busy", &[])
}

/// Sends to this recipient; it must be delivered, once.
fn is_delivered(local: &str) -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = impatient(&provider)?;
    let address = format!("{local}@example.net");
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &[&address], local))?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    assert_eq!(provider.lines_of(local)?.len(), 1);
    Ok(())
}

#[test]
fn a_receiver_that_drops_right_behind_its_last_reply_has_the_message() -> Result<()> {
    is_delivered("disconnect-after")
}

#[test]
fn a_receiver_that_drips_quickly_has_the_message() -> Result<()> {
    is_delivered("drip-5")
}

#[test]
fn a_receiver_that_takes_a_second_for_its_last_reply_has_the_message_once() -> Result<()> {
    is_delivered("delay-1")
}

#[test]
fn a_site_that_hangs_holds_up_no_other_site() -> Result<()> {
    let slow = Provider::start(&["--misbehave", "hang-greeting"])?;
    let quick = Provider::start(&[])?;
    let cluster = Plan::new()?.route("slow.example", slow.address).route("quick.example", quick.address).start()?;
    for number in 0..30 {
        cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@slow.example"], &format!("slow-{number}")))?;
    }
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@quick.example"], "quick"))?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}
