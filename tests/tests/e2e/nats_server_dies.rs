//! The nats-server of `postrider up` is killed: it is started again on the same store, what was accepted is delivered, and
//! mail is taken again.

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::process::{is_alive, signal_to};
use postrider_tests::provider::Provider;
use postrider_tests::wait;

#[test]
fn a_killed_nats_server_is_started_again_and_nothing_is_lost() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.short_tiers().route("*", provider.address).start()?;
    let before = cluster.submit(&Mail::new(&cluster.sender("news"), &["defer1@example.net"], "before"))?;
    cluster.deferred(&before)?;
    let nats = *cluster.pids().last().expect("the process id of nats-server");
    signal_to(nats, "KILL")?;
    wait::until("the death of nats-server", || Ok((!is_alive(nats)).then_some(())))?;
    let after = wait::until("mail to be taken again", || {
        Ok(cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "after")).ok())
    })?;
    assert_eq!(cluster.end_of(&before)?.events(), ["delivered"]);
    assert_eq!(cluster.end_of(&after)?.events(), ["delivered"]);
    Ok(())
}
