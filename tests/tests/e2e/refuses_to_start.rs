//! What keeps a cluster from starting is said in one line with what to do about it, and nothing is left running.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use postrider_tests::cluster::Plan;
use postrider_tests::process::Process;

#[test]
fn a_second_start_on_the_same_data_is_refused_and_the_first_goes_on() -> Result<()> {
    let cluster = Plan::new()?.start()?;
    let (status, said) = cluster.plan().fails()?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("--data"), "{said}");
    cluster.json(&["tenant", "list"])?;
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_chooses_others() -> Result<()> {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = taken.local_addr()?.port();
    let base = port - 587;
    let plan = Plan::new()?.port_base(base);
    let (status, said) = plan.fails()?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&port.to_string()) && said.contains("--port-base"), "{said}");
    assert!(!plan.folder().join("ready.json").exists());
    Ok(())
}

fn with_nats_server(path: &str) -> Result<(Option<i32>, String)> {
    let plan = Plan::new()?;
    let log = plan.folder().join("refused.log");
    let mut process = Process::start("postrider up", plan.command()?.env("NATS_SERVER", path), &log)?;
    let status = process.wait()?;
    Ok((status.code(), process.output()))
}

#[test]
fn a_nats_server_that_is_missing_is_named_with_what_to_do() -> Result<()> {
    let (status, said) = with_nats_server("/nonexistent/nats-server")?;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("/nonexistent/nats-server") && said.contains("2.15.1"), "{said}");
    Ok(())
}

#[test]
fn a_nats_server_that_is_too_old_is_named_with_what_to_do() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let old = folder.path().join("nats-server");
    std::fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.25'\n")?;
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755))?;
    let (status, said) = with_nats_server(old.to_str().context("a path in UTF-8")?)?;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("2.9.25") && said.contains("2.15.1"), "{said}");
    Ok(())
}
