//! nats-server hangs: ingress stops reading, then answers 452, its memory stays within its budget, `/readyz` says so within
//! seconds and `/livez` stays; when the server goes on, all that was answered 250 is delivered.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postrider_tests::cluster::Plan;
use postrider_tests::load::Load;
use postrider_tests::processes::turn;
use postrider_tests::sink::Sink;
use postrider_tests::{admin, process, wait};

use super::faults;

#[test]
fn a_hanging_nats_server_slows_senders_down_and_nothing_grows_or_is_lost() -> Result<()> {
    let _turn = turn();
    let sink = Sink::start("127.0.0.1:0".parse()?)?;
    let settings = "[ingress]\nhost_name = \"localhost\"\nbounds.message_bytes = 100000\nbounds.bytes_in_flight = 409600\n\
                    timeouts.room_secs = 2\ntimeouts.strain_secs = 3\ntimeouts.calm_secs = 2";
    let cluster = Plan::new()?.with(&["--trust-loopback"]).route("*", sink.address).config(settings).start()?;
    let shown = cluster.ready.metrics;
    let load = Load::begin(cluster.ready.relay, "frozen", faults::MANY_SITES);
    load.until_accepted(500)?;
    ensure!(admin::get(shown, "/readyz")?.0 == 200, "ready while all is well");

    let nats = *cluster.pids().get(1).context("the process id of nats-server")?;
    process::signal_to(nats, "STOP")?;
    let seen = wait::until("/readyz to say that the queue does not keep up", || {
        let (status, body) = admin::get(shown, "/readyz")?;
        Ok((status == 503 && body.contains("does not keep up")).then_some(()))
    })
    .and_then(|()| wait::until("452", || Ok((load.refused("452") >= 8).then_some(()))))
    .and_then(|()| {
        let held = admin::metric(shown, "postrider_ingress_bytes_in_flight")?;
        let budget = admin::metric(shown, "postrider_ingress_bytes_in_flight_limit")?;
        let oldest = admin::metric(shown, "postrider_ingress_oldest_publish_seconds")?;
        faults::say("NATS frozen", &format!("{held} of {budget} bytes held, oldest publish {oldest:.1} s"));
        ensure!(held <= budget, "{held} bytes are held, {budget} may be");
        ensure!(admin::get(shown, "/livez")?.0 == 200, "it lives");
        Ok(())
    });
    process::signal_to(nats, "CONT")?;
    seen?;

    wait::until("/readyz to recover", || Ok((admin::get(shown, "/readyz")?.0 == 200).then_some(())))?;
    let sent = load.finish(1_500)?;
    let verdict = sink.judge(&sent, Duration::from_secs(120))?;
    faults::say("NATS frozen", &format!("{}; refused {:?}", verdict.summary(), sent.refused));
    verdict.check(faults::IN_FLIGHT)
}
