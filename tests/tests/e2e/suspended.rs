//! Operators' rules end to end: a tenant's mail is suspended wherever it is and goes on when it is released, once; what is
//! deleted ends; what is suspended expires too; and a process that dies over it loses nothing.

use std::time::Duration;

use anyhow::Result;
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::load::{Load, Shape};
use postrider_tests::mail::Mail;
use postrider_tests::processes::{Processes, Settings, turn};
use postrider_tests::provider::Provider;
use postrider_tests::rules::{self, TenantRule};
use postrider_tests::{streams, wait};

use super::faults;

const HOLD: TenantRule<'static> = TenantRule { id: "hold-1", action: "suspend", tenant: "demo", scan: true };

fn submit(cluster: &Cluster, recipient: &str, token: &str) -> Result<String> {
    cluster.submit(&Mail::new(&cluster.sender("news"), &[recipient], token))
}

/// Waits until it is suspended, and by which rule.
fn held(cluster: &Cluster, id: &str) -> Result<()> {
    let is_held = |life: &postrider_tests::client::Life| {
        life.waiting().is_some_and(|waiting| {
            waiting["reason"] == "held" && waiting["lifted_by"].as_str().is_some_and(|who| who.contains("hold-1"))
        })
    };
    cluster.message_until(id, "in HOLD", is_held)?;
    Ok(())
}

#[test]
fn a_suspended_tenant_waits_wherever_its_mail_is_and_goes_on_once() -> Result<()> {
    let provider = Provider::start(&[])?;
    // What is behind another waits in the index, what was deferred in the tier of a minute.
    let shaping = "[delivery.shaping.default]\nconnections = 1";
    let cluster = Plan::new()?.route("*", provider.address).config(shaping).start()?;
    let nats = cluster.ready.nats;
    let in_tier = submit(&cluster, "defer1@tier.example", "tier")?;
    cluster.deferred(&in_tier)?;
    let under_way = submit(&cluster, "delay-10@index.example", "under-way")?;
    cluster.message_until(&under_way, "a conversation", |life| {
        life.waiting().is_some_and(|waiting| waiting["reason"] == "in-flight")
    })?;
    let in_index = submit(&cluster, "bob@index.example", "index")?;
    rules::put(nats, &HOLD)?;
    held(&cluster, &in_tier)?;
    held(&cluster, &in_index)?;
    let to_come = submit(&cluster, "carol@later.example", "later")?;
    held(&cluster, &to_come)?;
    // A conversation is let end; nothing else is sent meanwhile.
    assert_eq!(cluster.end_of(&under_way)?.events(), ["delivered"]);
    assert_eq!(provider.ledger()?.len(), 1);
    rules::remove(nats, HOLD.id)?;
    for (id, token) in [(&in_tier, "tier"), (&in_index, "index"), (&to_come, "later")] {
        let life = cluster.end_of(id)?;
        assert_eq!(life.events(), ["delivered"], "{token}: {life:?}");
        assert_eq!(provider.received(token, 1)?.len(), 1, "{token}");
    }
    Ok(())
}

#[test]
fn what_is_deleted_with_a_scan_ends_though_it_waits_in_a_tier_and_what_comes_later_is_sent() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let ids: Vec<String> =
        (0..5).map(|n| submit(&cluster, "defer@example.net", &format!("gone-{n}"))).collect::<Result<_>>()?;
    for id in &ids {
        cluster.deferred(id)?;
    }
    rules::put(cluster.ready.nats, &TenantRule { id: "delete-1", action: "delete", ..HOLD })?;
    for id in &ids {
        let life = cluster.end_of(id)?;
        assert_eq!(life.events(), ["deleted"], "{life:?}");
        assert!(life.reply("defer@example.net").ends_with(": a test"), "{life:?}");
    }
    let later = submit(&cluster, "alice@example.net", "stays")?;
    assert_eq!(cluster.end_of(&later)?.events(), ["delivered"]);
    assert_eq!(provider.ledger()?.len(), 1);
    Ok(())
}

#[test]
fn what_is_suspended_expires() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?
        .route("*", provider.address)
        .config("[ingress]\nhost_name = \"mx.demo.example\"\nexpiry_secs = 8")
        .start()?;
    rules::put(cluster.ready.nats, &HOLD)?;
    // The rule may come to be in force a moment after the message: then that is sent, and the next is tried.
    let mut held_ids = Vec::new();
    for n in 0.. {
        let id = submit(&cluster, "alice@example.net", &format!("old-{n}"))?;
        let life = cluster.message_until(&id, "sent or held", |life| {
            life.is_over() || life.waiting().is_some_and(|waiting| waiting["reason"] == "held")
        })?;
        if !life.is_over() {
            held_ids.push(id);
            break;
        }
    }
    for id in held_ids {
        assert_eq!(cluster.end_of(&id)?.events(), ["expired"]);
    }
    Ok(())
}

const LOAD: Shape = Shape { sessions: 4, rate: 200, recipients: one, field: |_| "" };

fn one(number: usize) -> Vec<String> {
    vec![format!("someone@d{}.example", number % 37)]
}

#[test]
fn a_process_that_dies_while_it_suspends_loses_nothing_and_doubles_only_what_was_in_flight() -> Result<()> {
    let _turn = turn();
    let settings = Settings { layout: "single", nats: "", delivery: faults::DELIVERY };
    let mut cluster = Processes::start(settings)?;
    cluster.start_delivery_with_fault("one", "settle-copied@60")?;
    let load = Load::begin(cluster.relay, "hold", LOAD);
    cluster.sink.until(200)?;
    rules::put(cluster.nats_address(), &TenantRule { tenant: "load", scan: false, ..HOLD })?;
    // Nothing is deferred here: what is copied is suspended.
    cluster.until_ended("one")?;
    let died_at = faults::now_millis_of_day();
    cluster.start_delivery("one")?;
    load.until_accepted(1_500)?;
    rules::remove(cluster.nats_address(), HOLD.id)?;
    let sent = load.finish(1_500)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("died over a suspension", &verdict.summary());
    verdict.check(faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &[died_at])?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}

const LATE: Shape = Shape { sessions: 4, rate: 200, recipients: deferred_once, field: |_| "" };
const SCANNED: usize = 400;

fn deferred_once(number: usize) -> Vec<String> {
    vec![format!("defer1+{number}@d{}.example", number % 37)]
}

fn count(cluster: &Processes, which: &str) -> Result<u64> {
    let held = streams::held(cluster.nats_address())?;
    Ok(held.iter().filter(|(stream, _)| stream.starts_with(which)).map(|(_, count)| *count).sum())
}

#[test]
fn a_process_that_dies_in_the_middle_of_a_scan_is_followed_by_one_that_finishes_it() -> Result<()> {
    let _turn = turn();
    let settings = Settings { layout: "single", nats: "", delivery: faults::DELIVERY };
    let mut cluster = Processes::start(settings)?;
    cluster.start_delivery("one")?;
    let sent = Load::begin(cluster.relay, "scan", LATE).finish(SCANNED)?;
    let all = u64::try_from(sent.accepted.len())?;
    wait::until("all of it to wait in tiers", || Ok((count(&cluster, "RETRY")? == all).then_some(())))?;
    rules::put(cluster.nats_address(), &TenantRule { tenant: "load", ..HOLD })?;
    wait::until("the first to be suspended", || Ok((count(&cluster, "HOLD")? > 0).then_some(())))?;
    cluster.kill_delivery("one")?;
    let suspended = count(&cluster, "HOLD")?;
    let died_at = faults::now_millis_of_day();
    cluster.start_delivery("one")?;
    wait::until("all of it to be suspended", || {
        Ok((count(&cluster, "HOLD")? == all && count(&cluster, "RE")? == 0).then_some(()))
    })?;
    rules::remove(cluster.nats_address(), HOLD.id)?;
    let verdict = cluster.sink.judge(&sent, Duration::from_secs(240))?;
    faults::say("died in a scan", &format!("{suspended} of {all} suspended; {}", verdict.summary()));
    verdict.check(faults::IN_FLIGHT)?;
    faults::check_in_flight(&verdict, &[died_at])?;
    cluster.until_empty(Duration::from_secs(120))?;
    cluster.check_logs()
}
