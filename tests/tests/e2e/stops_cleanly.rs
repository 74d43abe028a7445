//! Ctrl-C stops all of it: exit code 0, no process left, nothing listens any more.

use std::net::TcpStream;

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::process;
use postrider_tests::provider::Provider;
use postrider_tests::talk::Talk;

#[test]
fn ctrl_c_leaves_no_process_and_no_listener() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let (pids, ready) = (cluster.pids(), cluster.ready.clone());
    assert!(pids.len() >= 2, "{pids:?}");
    let _plan = cluster.stop()?;
    for id in pids {
        assert!(!process::is_alive(id), "{id}");
    }
    for address in [ready.submission, ready.relay, ready.control, ready.metrics, ready.nats] {
        assert!(TcpStream::connect(address).is_err(), "{address}");
    }
    Ok(())
}

#[test]
fn ctrl_c_does_not_wait_for_a_receiver_that_hangs() -> Result<()> {
    let provider = Provider::start(&["--misbehave", "hang-greeting"])?;
    let settings = "[delivery]\ndrain_secs = 2";
    let cluster = Plan::new()?.route("*", provider.address).config(settings).start()?;
    cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "hangs"))?;
    cluster.stop()?;
    Ok(())
}

#[test]
fn an_open_session_hears_421_when_the_cluster_stops() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let mut talk = Talk::begin(cluster.ready.submission)?;
    talk.ask("EHLO test.example")?;
    let waiting = std::thread::spawn(move || talk.reply());
    cluster.stop()?;
    let said = waiting.join().map_err(|_| anyhow::anyhow!("the session panicked"))??;
    assert!(said.starts_with("421"), "{said}");
    Ok(())
}
