//! An operator at work: looks at the queue, suspends and releases, deletes, audits; and every command is in the trail.

use anyhow::{Context, Result, ensure};
use postrider_tests::cluster::{Cluster, Plan};
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;
use postrider_tests::wait;

fn submit(cluster: &Cluster, recipient: &str, token: &str) -> Result<String> {
    cluster.submit(&Mail::new(&cluster.sender("news"), &[recipient], token))
}

fn said(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = cluster.run(arguments)?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{arguments:?} ended with {}: {complaint}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first retry is due after a minute or five, by chance.
fn is_tier(place: &serde_json::Value) -> bool {
    place == "1m" || place == "5m"
}

#[test]
fn what_only_the_owner_of_a_shard_knows_is_listed_by_its_reason() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = submit(&cluster, "delay-10@example.net", "takes its time")?;
    let listed = |reason: &str| cluster.json(&["queue", "list", "--to-domain", "example.net", "--reason", reason]);
    let mail =
        wait::until("the conversation", || Ok(listed("in-flight")?.as_array().and_then(|mail| mail.first()).cloned()))?;
    assert_eq!((mail["message_id"].as_str(), mail["place"].as_str()), (Some(id.as_str()), Some("ready")), "{mail}");
    assert_eq!(listed("rate-limit")?, serde_json::json!([]));
    Ok(())
}

#[test]
fn a_deferred_message_is_listed_suspended_released_and_deleted_by_command() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = submit(&cluster, "defer@example.net", "waits")?;
    cluster.deferred(&id)?;
    let filter = ["--to-domain", "example.net"];
    let listed = wait::until("the message in a tier", || {
        let mail = cluster.json(&[&["queue", "list"], &filter[..]].concat())?;
        Ok(mail.as_array().and_then(|mail| mail.first()).filter(|part| is_tier(&part["place"])).cloned())
    })?;
    assert_eq!(listed["message_id"], id.as_str());
    let count = cluster.json(&[&["queue", "delete", "--dry-run"], &filter[..]].concat())?;
    assert_eq!((count["matching"].as_u64(), count["dry_run"].as_bool()), (Some(1), Some(true)), "{count}");
    said(&cluster, &["message", "hold", &id, "--until", "1h"])?;
    let is_held = |life: &postrider_tests::client::Life| life.waiting().is_some_and(|why| why["reason"] == "held");
    let life = cluster.message_until(&id, "in HOLD", is_held)?;
    assert!(life.waiting().is_some_and(|why| why["until"].is_string()), "{life:?}");
    let flush = cluster.json(&["message", "flush", &id, "--dry-run"])?;
    assert_eq!((flush["matching"].as_u64(), flush["on_hold"].as_u64()), (Some(0), Some(1)), "{flush}");
    assert_eq!(cluster.json(&["audit"])?["agrees"], true);
    said(&cluster, &["message", "release", &id])?;
    cluster.message_until(&id, "out of HOLD", |life| !is_held(life))?;
    said(&cluster, &[&["queue", "delete", "--scan", "--yes", "--comment", "ticket 17"], &filter[..]].concat())?;
    assert_eq!(cluster.end_of(&id)?.events(), ["deleted"]);
    let audit = cluster.json(&["audit"])?;
    assert_eq!((audit["agrees"].as_bool(), audit["missing_parts"].as_u64()), (Some(true), Some(0)), "{audit}");
    for command in ["queue delete", "message hold", "message release", "scan for queue delete"] {
        wait::until(&format!("{command} in the trail"), || {
            let trail = cluster.json(&["operation", "list"])?;
            let found = trail.as_array().context("a list")?.iter().any(|it| it["command"] == command);
            Ok(found.then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn a_command_without_a_filter_is_refused_and_a_script_has_to_say_yes() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    for (arguments, word) in [
        (vec!["queue", "delete", "--yes"], "--all"),
        (vec!["hold", "add"], "--all"),
        (vec!["dead-letter", "delete", "--yes"], "--all"),
        (vec!["queue", "bounce", "--tenant", "demo"], "--yes"),
        (vec!["dead-letter", "list", "--reason", "nonsense"], "body-lost"),
    ] {
        let output = cluster.run(&arguments)?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
    let output = cluster.run(&["queue", "delete", "--tenant", "nosuch", "--yes"])?;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn top_prints_one_frame_without_a_terminal() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("*", provider.address).start()?;
    let id = submit(&cluster, "defer@example.net", "waits")?;
    cluster.deferred(&id)?;
    wait::until("a line of the waiting message", || {
        let frame = said(&cluster, &["top", "--once"])?;
        let line = frame.lines().find(|line| line.contains("example.net") && line.contains("demo"));
        Ok(line.filter(|line| line.contains("tier (1m) 1") || line.contains("tier (5m) 1")).map(str::to_owned))
    })?;
    let output = cluster.run(&["top"])?;
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}

#[test]
fn mail_that_waits_takes_a_new_route_at_once_when_it_is_flushed() -> Result<()> {
    let provider = Provider::start(&[])?;
    // Nobody listens there: the site is closed for a minute and more.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let cluster = Plan::new()?.route("*", nobody).start()?;
    let id = submit(&cluster, "alice@example.net", "rerouted")?;
    cluster.deferred(&id)?;
    let hint = said(&cluster, &["route", "create", "example.net", &provider.address.to_string()])?;
    ensure!(hint.contains("`postrider queue flush --to-domain example.net`"), "{hint}");
    said(&cluster, &["queue", "flush", "--to-domain", "example.net", "--yes"])?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    Ok(())
}

#[test]
fn a_flush_of_mail_for_a_site_that_stays_closed_brings_each_message_once() -> Result<()> {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let cluster = Plan::new()?.route("*", nobody).start()?;
    let id = submit(&cluster, "alice@example.net", "shut out")?;
    cluster.deferred(&id)?;
    said(&cluster, &["queue", "flush", "--to-domain", "example.net", "--yes"])?;
    let scanned = wait::until("the end of the scan", || {
        let trail = cluster.json(&["operation", "list"])?;
        Ok(trail
            .as_array()
            .and_then(|trail| trail.iter().find(|entry| entry["command"] == "scan for queue flush"))
            .cloned())
    })?;
    let brought: u64 =
        scanned["counts"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    ensure!(brought == 1, "{scanned}");
    Ok(())
}
