//! A route of several servers: the next one is asked when the first is away or has no room.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::Mail;
use postrider_tests::provider::Provider;

#[test]
fn the_second_server_of_a_route_takes_over_where_the_first_is_away() -> Result<()> {
    // A port that was free a moment ago, and that nobody listens on.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let backup = Provider::start(&[])?;
    let cluster = Plan::new()?
        .with(&["--no-receiver", "--route", &format!("example.net={nobody},{}", backup.address)])
        .start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@example.net"], "backup"))?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    assert_eq!(backup.lines_of("backup")?.len(), 1);
    Ok(())
}

#[test]
fn a_destination_that_is_not_public_is_refused_unless_a_route_names_it() -> Result<()> {
    let provider = Provider::start(&[])?;
    let cluster = Plan::new()?.route("named.example", provider.address).start()?;
    let id = cluster.submit(&Mail::new(&cluster.sender("news"), &["alice@[127.0.0.1]"], "literal"))?;
    let life = cluster.message_until(&id, "an attempt or an end", |life| life.is_over() || life.waiting().is_some())?;
    assert!(!life.events().contains(&"delivered".to_owned()), "{life:?}");
    assert!(provider.ledger()?.is_empty());
    Ok(())
}
