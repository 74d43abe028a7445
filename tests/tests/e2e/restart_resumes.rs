//! A cluster that was stopped, or killed, and starts again on the same data goes on where it was: what waited is delivered,
//! nothing that was delivered comes again, credentials stay.

use anyhow::Result;
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;
use postrider_tests::wait;

/// A cluster that has delivered one message and holds one that waits for its second attempt.
fn with_one_waiting(provider: &Provider) -> Result<(Cluster, String)> {
    let settings = "[nats]\ntier_delays_secs = [4.0, 4.5, 5.0, 5.5, 6.0]";
    let cluster = Plan::new()?.route("*", provider.address).config(settings).start()?;
    let delivered = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "before"))?;
    cluster.end_of(&delivered)?;
    let waiting = cluster.submit(&Mail::new(&cluster.sender("news"), &["defer1@example.net"], "waiting"))?;
    cluster.deferred(&waiting)?;
    Ok((cluster, waiting))
}

fn goes_on(plan: &Plan, provider: &Provider, waiting: &str, password: &str) -> Result<()> {
    let cluster = plan.start()?;
    assert_eq!(cluster.ready.password, password, "the demo credential is made once and kept");
    assert_eq!(cluster.end_of(waiting)?.events(), ["delivered"]);
    let fresh = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "after"))?;
    assert_eq!(cluster.end_of(&fresh)?.events(), ["delivered"]);
    for token in ["before", "waiting", "after"] {
        assert_eq!(provider.lines_of(token)?.len(), 1, "{token}");
    }
    Ok(())
}

#[test]
fn a_cluster_that_was_stopped_goes_on_where_it_was() -> Result<()> {
    let provider = Provider::start(&[])?;
    let (cluster, waiting) = with_one_waiting(&provider)?;
    let password = cluster.ready.password.clone();
    let plan = cluster.stop()?;
    goes_on(&plan, &provider, &waiting, &password)
}

#[test]
fn a_cluster_that_was_killed_goes_on_where_it_was() -> Result<()> {
    let provider = Provider::start(&[])?;
    let (mut cluster, waiting) = with_one_waiting(&provider)?;
    let (plan, password, pids) = (cluster.plan().clone(), cluster.ready.password.clone(), cluster.pids());
    cluster.process().kill()?;
    wait::until("the killed cluster's nats-server to end", || {
        Ok((!pids.iter().any(|&id| postrider_tests::process::is_alive(id))).then_some(()))
    })?;
    goes_on(&plan, &provider, &waiting, &password)
}

#[test]
fn a_message_accepted_right_before_a_kill_is_delivered() -> Result<()> {
    let provider = Provider::start(&[])?;
    let mut cluster = Plan::new()?.route("*", provider.address).start()?;
    let mut tokens = Vec::new();
    for number in 0..20 {
        let token = format!("kill-{number}");
        cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], &token))?;
        tokens.push(token);
    }
    let plan = cluster.plan().clone();
    let pids = cluster.pids();
    cluster.process().kill()?;
    wait::until("the killed cluster's nats-server to end", || {
        Ok((!pids.iter().any(|&id| postrider_tests::process::is_alive(id))).then_some(()))
    })?;
    let _cluster = plan.start()?;
    for token in tokens {
        provider.received(&token, 1)?;
    }
    Ok(())
}
