//! Names against a real name server on loopback: RFC 5321 section 5.1, RFC 7505, and every way an answer can fail.
#![allow(clippy::unwrap_used, reason = "what tests are built from may panic as tests do")]

use std::net::IpAddr;

use anyhow::Result;
use postrider_model::Domain;
use postrider_net::{Dns, DnsConfig, DnsFailure, Exchangers, Host};
use postrider_tests::dns::{DnsServer, Fault, RecordType, Zone};

fn resolver(server: &DnsServer) -> Result<Dns> {
    let servers = Some(vec![server.address()]);
    Ok(Dns::new(&DnsConfig { servers, try_timeout_ms: 500, retries: 0, ..DnsConfig::default() })?)
}

async fn serve(zone: Zone) -> Result<(DnsServer, Dns)> {
    let server = DnsServer::start(zone).await?;
    let dns = resolver(&server)?;
    Ok((server, dns))
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn host(text: &str) -> Host {
    Host::Name(domain(text))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn printed(exchangers: &Exchangers) -> Vec<String> {
    exchangers.hosts.iter().map(|exchanger| format!("{} {}", exchanger.preference, exchanger.host)).collect()
}

#[tokio::test]
async fn exchangers_come_by_preference() -> Result<()> {
    let zone = Zone::default()
        .mx("example.com", 20, "backup.example.net")?
        .mx("example.com", 10, "MX-b.example.com")?
        .mx("example.com", 10, "mx-a.example.com")?;
    let (_server, dns) = serve(zone).await?;
    let found = dns.exchangers(&domain("example.com")).await?;
    assert_eq!(printed(&found), ["10 mx-a.example.com", "10 mx-b.example.com", "20 backup.example.net"]);
    assert!(!found.implicit);
    Ok(())
}

#[tokio::test]
async fn of_very_many_exchangers_twenty_are_kept() -> Result<()> {
    let mut zone = Zone::default();
    for number in 0..200 {
        zone = zone.mx("example.com", number, &format!("mx{number}.a-name-that-fills-the-datagram.example.com"))?;
    }
    let (_server, dns) = serve(zone).await?;
    let found = dns.exchangers(&domain("example.com")).await?;
    assert_eq!(found.hosts.len(), Exchangers::MOST);
    assert_eq!(found.hosts[19].preference, 19);
    Ok(())
}

#[tokio::test]
async fn a_null_mx_is_permanent_with_its_own_code() -> Result<()> {
    let (_server, dns) =
        serve(Zone::default().mx("example.com", 0, ".")?.address("example.com", ip("192.0.2.1"))).await?;
    let failure = dns.exchangers(&domain("example.com")).await.unwrap_err();
    assert_eq!(failure, DnsFailure::NullMx(domain("example.com")));
    assert!(failure.is_permanent());
    assert!(failure.reply().to_string().starts_with("556 5.1.10 "), "{}", failure.reply());
    Ok(())
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_exchanger() -> Result<()> {
    let (_server, dns) = serve(Zone::default().address("example.com", ip("2001:db8::1"))).await?;
    let found = dns.exchangers(&domain("example.com")).await?;
    assert_eq!(printed(&found), ["0 example.com"]);
    assert!(found.implicit);
    Ok(())
}

#[tokio::test]
async fn a_domain_with_neither_mx_nor_address_is_a_permanent_failure() -> Result<()> {
    let (_server, dns) = serve(Zone::default().txt("example.com", "v=spf1 -all")).await?;
    let failure = dns.exchangers(&domain("example.com")).await.unwrap_err();
    assert_eq!(failure, DnsFailure::NoAddress(domain("example.com")));
    assert!(failure.is_permanent());
    Ok(())
}

#[tokio::test]
async fn a_domain_without_mx_whose_address_is_uncertain_fails_for_now() -> Result<()> {
    let zone = Zone::default().txt("example.com", "x").fault_for("example.com", RecordType::A, Fault::ServerFailure);
    let (_server, dns) = serve(zone).await?;
    let failure = dns.exchangers(&domain("example.com")).await.unwrap_err();
    assert!(!failure.is_permanent(), "{failure}");
    Ok(())
}

#[tokio::test]
async fn a_domain_that_does_not_exist_is_a_permanent_failure() -> Result<()> {
    let (_server, dns) = serve(Zone::default()).await?;
    let failure = dns.exchangers(&domain("nowhere.example")).await.unwrap_err();
    assert_eq!(failure, DnsFailure::NoSuchDomain(domain("nowhere.example")));
    assert!(failure.reply().to_string().starts_with("550 5.1.2 "), "{}", failure.reply());
    Ok(())
}

async fn check_temporary(fault: Fault) -> Result<()> {
    let (_server, dns) =
        serve(Zone::default().mx("example.com", 10, "mx.example.com")?.fault("example.com", fault)).await?;
    let failure = dns.exchangers(&domain("example.com")).await.unwrap_err();
    assert!(
        matches!(&failure, DnsFailure::Temporary(why) if why.starts_with("MX lookup of example.com: ")),
        "{failure}"
    );
    assert!(!failure.is_permanent());
    assert!(failure.reply().to_string().starts_with("451 4.4.3 "), "{}", failure.reply());
    Ok(())
}

#[tokio::test]
async fn a_server_failure_is_temporary() -> Result<()> {
    check_temporary(Fault::ServerFailure).await
}

#[tokio::test]
async fn a_refusal_is_temporary() -> Result<()> {
    check_temporary(Fault::Refused).await
}

#[tokio::test]
async fn silence_is_temporary() -> Result<()> {
    check_temporary(Fault::Silence).await
}

#[tokio::test]
async fn garbage_is_temporary() -> Result<()> {
    check_temporary(Fault::Garbage).await
}

#[tokio::test]
async fn a_referral_is_no_answer() -> Result<()> {
    check_temporary(Fault::Referral).await
}

#[tokio::test]
async fn a_name_server_that_is_not_there_is_temporary() -> Result<()> {
    let (server, dns) = serve(Zone::default()).await?;
    drop(server);
    let failure = dns.exchangers(&domain("example.com")).await.unwrap_err();
    assert!(!failure.is_permanent(), "{failure}");
    Ok(())
}

#[tokio::test]
async fn the_second_name_server_answers_when_the_first_is_gone() -> Result<()> {
    let gone = DnsServer::start(Zone::default()).await?;
    let here = DnsServer::start(Zone::default().mx("example.com", 10, "mx.example.com")?).await?;
    let servers = Some(vec![gone.address(), here.address()]);
    drop(gone);
    let dns = Dns::new(&DnsConfig { servers, try_timeout_ms: 500, ..DnsConfig::default() })?;
    assert_eq!(printed(&dns.exchangers(&domain("example.com")).await?), ["10 mx.example.com"]);
    Ok(())
}

#[tokio::test]
async fn a_domain_may_be_an_alias() -> Result<()> {
    let zone = Zone::default().cname("shop.example", "example.com")?.mx("example.com", 10, "mx.example.com")?;
    let (_server, dns) = serve(zone).await?;
    assert_eq!(printed(&dns.exchangers(&domain("shop.example")).await?), ["10 mx.example.com"]);
    Ok(())
}

#[tokio::test]
async fn an_exchanger_may_be_an_alias() -> Result<()> {
    let zone = Zone::default()
        .cname("mx.example.com", "alias.example.net")?
        .cname("alias.example.net", "host.example.net")?
        .address("host.example.net", ip("192.0.2.7"));
    let (_server, dns) = serve(zone).await?;
    assert_eq!(dns.addresses(&host("mx.example.com")).await?, [ip("192.0.2.7")]);
    Ok(())
}

#[tokio::test]
async fn aliases_that_go_round_in_a_circle_come_to_an_end() -> Result<()> {
    let zone = Zone::default().cname("a.example", "b.example")?.cname("b.example", "a.example")?;
    let (_server, dns) = serve(zone).await?;
    assert!(dns.exchangers(&domain("a.example")).await.is_err());
    Ok(())
}

#[tokio::test]
async fn addresses_of_both_versions_are_found_and_ipv4_comes_first() -> Result<()> {
    let zone = Zone::default()
        .address("mx.example.com", ip("2001:db8::7"))
        .address("mx.example.com", ip("192.0.2.9"))
        .address("mx.example.com", ip("192.0.2.7"));
    let (_server, dns) = serve(zone).await?;
    let found = dns.addresses(&host("mx.example.com")).await?;
    assert_eq!(found, [ip("192.0.2.9"), ip("192.0.2.7"), ip("2001:db8::7")]);
    Ok(())
}

#[tokio::test]
async fn one_version_that_fails_does_not_hide_the_other() -> Result<()> {
    let zone = Zone::default().address("mx.example.com", ip("192.0.2.9")).fault_for(
        "mx.example.com",
        RecordType::AAAA,
        Fault::ServerFailure,
    );
    let (_server, dns) = serve(zone).await?;
    assert_eq!(dns.addresses(&host("mx.example.com")).await?, [ip("192.0.2.9")]);
    Ok(())
}

#[tokio::test]
async fn an_exchanger_that_does_not_exist_is_its_own_failure() -> Result<()> {
    let zone = Zone::default()
        .mx("example.com", 10, "gone.example.com")?
        .mx("example.com", 20, "here.example.com")?
        .address("here.example.com", ip("192.0.2.9"));
    let (_server, dns) = serve(zone).await?;
    let found = dns.exchangers(&domain("example.com")).await?;
    assert_eq!(dns.addresses(&found.hosts[0].host).await, Err(DnsFailure::NoSuchDomain(domain("gone.example.com"))));
    assert_eq!(dns.addresses(&found.hosts[1].host).await?, [ip("192.0.2.9")]);
    Ok(())
}

#[tokio::test]
async fn an_address_literal_needs_no_name_server() -> Result<()> {
    let (server, dns) = serve(Zone::default()).await?;
    for (literal, address) in [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1")] {
        let found = dns.exchangers(&domain(literal)).await?;
        assert_eq!(dns.addresses(&found.hosts[0].host).await?, [ip(address)]);
    }
    assert!(server.names_asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn names_are_asked_for_as_they_are() -> Result<()> {
    let (server, dns) = serve(Zone::default()).await?;
    assert!(dns.exchangers(&domain("intranet")).await.is_err());
    assert_eq!(server.names_asked(), ["intranet"]);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_remembered() -> Result<()> {
    let (server, dns) = serve(Zone::default().mx("example.com", 10, "mx.example.com")?).await?;
    for _ in 0..3 {
        dns.exchangers(&domain("example.com")).await?;
    }
    assert_eq!(server.asked("example.com", RecordType::MX), 1);
    Ok(())
}

#[tokio::test]
async fn more_questions_than_may_be_asked_at_once_wait_their_turn() -> Result<()> {
    let mut zone = Zone::default();
    for number in 0..100 {
        zone = zone.mx(&format!("d{number}.example"), 10, "mx.example.com")?;
    }
    let server = DnsServer::start(zone).await?;
    let servers = Some(vec![server.address()]);
    let dns = Dns::new(&DnsConfig { servers, concurrent_questions: 2, ..DnsConfig::default() })?;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (dns, domain) = (dns.clone(), domain(&format!("d{number}.example")));
        asking.spawn(async move { dns.exchangers(&domain).await });
    }
    for found in asking.join_all().await {
        assert_eq!(printed(&found?), ["10 mx.example.com"]);
    }
    Ok(())
}

#[test]
fn an_empty_list_of_name_servers_is_refused() {
    let config = DnsConfig { servers: Some(Vec::new()), ..DnsConfig::default() };
    assert!(Dns::new(&config).is_err());
}

#[test]
fn the_configuration_reads_from_toml() {
    let config: DnsConfig = toml::from_str("servers = [\"127.0.0.1:5353\"]\ntry_timeout_ms = 300").unwrap();
    assert_eq!(config.servers, Some(vec!["127.0.0.1:5353".parse().unwrap()]));
    assert!(toml::from_str::<DnsConfig>("server = \"127.0.0.1\"").is_err());
}
