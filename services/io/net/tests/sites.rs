//! Recipient domains to sites and plans: routes before MX, what is remembered, what is asked once, what is not waited for.
#![allow(clippy::unwrap_used, reason = "what tests are built from may panic as tests do")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use postrider_model::{Domain, Route, Snapshot};
use postrider_net::{Dns, DnsConfig, DnsFailure, ExchangePlan, Reach, SiteResolver, SiteResolverConfig};
use postrider_tests::dns::{DnsServer, Fault, RecordType, Zone};
use rand::SeedableRng;
use rand::rngs::StdRng;

async fn serve(zone: Zone, config: SiteResolverConfig) -> Result<(DnsServer, SiteResolver)> {
    let server = DnsServer::start(zone).await?;
    let servers = Some(vec![server.address()]);
    let dns = Dns::new(&DnsConfig { servers, try_timeout_ms: 200, retries: 20, ..DnsConfig::default() })?;
    Ok((server, SiteResolver::new(dns, &config)))
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn routes(routes: &[(&str, &[&str])]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, hops) in routes {
        let next_hops = hops.iter().map(|hop| hop.parse().unwrap()).collect();
        let domain = (*name != "*").then(|| domain(name));
        let route = Route { domain: domain.clone(), next_hops, origin: "operator".into() };
        match domain {
            Some(domain) => drop(snapshot.routes.insert(domain, route)),
            None => snapshot.default_route = Some(route),
        }
    }
    snapshot
}

fn printed(plan: &ExchangePlan) -> Vec<String> {
    plan.hosts().iter().map(|host| format!("{} {}:{}", host.preference, host.host, host.port)).collect()
}

#[tokio::test]
async fn domains_with_the_same_exchangers_share_site_and_exchange() -> Result<()> {
    let zone = Zone::default()
        .mx("one.example", 10, "mx1.host.example")?
        .mx("one.example", 20, "mx2.host.example")?
        .mx("two.example", 5, "mx2.host.example")?
        .mx("two.example", 5, "mx1.host.example")?;
    let (_server, sites) = serve(zone, SiteResolverConfig::default()).await?;
    let one = sites.resolve(&domain("one.example"), &Snapshot::default()).await?;
    let two = sites.resolve(&domain("two.example"), &Snapshot::default()).await?;
    assert_eq!((one.site.as_str(), one.slices), ("host.example", 1));
    assert_eq!(one.site, two.site);
    assert_eq!(one.plan.exchange_key(), two.plan.exchange_key());
    assert_eq!(printed(&one.plan), ["10 mx1.host.example:25", "20 mx2.host.example:25"]);
    assert!(one.plan.hosts().iter().all(|host| host.reach == Reach::Public && !host.lmtp));
    Ok(())
}

#[tokio::test]
async fn a_giant_is_known_by_its_exchangers_and_cut_in_slices() -> Result<()> {
    let zone = Zone::default().mx("workspace.example", 1, "aspmx.l.google.com")?;
    let (_server, sites) = serve(zone, SiteResolverConfig::default()).await?;
    let resolved = sites.resolve(&domain("workspace.example"), &Snapshot::default()).await?;
    assert_eq!(resolved.site.as_str(), "google");
    assert!(resolved.slices > 1);
    Ok(())
}

#[tokio::test]
async fn dice_shuffle_equals_and_keep_preferences() -> Result<()> {
    let mut zone = Zone::default().mx("example.com", 30, "last.example.com")?;
    for letter in ["a", "b", "c", "d"] {
        zone = zone.mx("example.com", 10, &format!("{letter}.example.com"))?;
    }
    let (_server, sites) = serve(zone, SiteResolverConfig::default()).await?;
    let plan = sites.resolve(&domain("example.com"), &Snapshot::default()).await?.plan;
    let order = |seed| -> Vec<String> {
        plan.in_order(&mut StdRng::seed_from_u64(seed)).iter().map(|host| host.host.to_string()).collect()
    };
    let orders: std::collections::BTreeSet<Vec<String>> = (0..64).map(order).collect();
    assert!(orders.len() > 10, "{orders:?}");
    assert!(orders.iter().all(|order| order.len() == 5 && order[4] == "last.example.com"));
    assert_eq!(order(7), order(7));
    Ok(())
}

#[tokio::test]
async fn a_route_comes_before_mx_and_asks_nobody() -> Result<()> {
    let (server, sites) =
        serve(Zone::default().mx("example.com", 1, "mx.example.com")?, SiteResolverConfig::default()).await?;
    let snapshot = routes(&[("example.com", &["127.0.0.1:2026", "lmtp:backup.example.net:24"])]);
    let resolved = sites.resolve(&domain("example.com"), &snapshot).await?;
    assert_eq!(resolved.site.as_str(), "example.com");
    assert_eq!(printed(&resolved.plan), ["0 [127.0.0.1]:2026", "1 backup.example.net:24"]);
    assert!(resolved.plan.hosts().iter().all(|host| host.reach == Reach::Anywhere));
    assert_eq!(resolved.plan.hosts().iter().map(|host| host.lmtp).collect::<Vec<_>>(), [false, true]);
    assert_eq!(sites.addresses(&resolved.plan.hosts()[0]).await?, ["127.0.0.1".parse::<std::net::IpAddr>()?]);
    assert!(server.names_asked().is_empty());
    Ok(())
}

#[tokio::test]
async fn next_hops_are_tried_in_order_whatever_the_dice() -> Result<()> {
    let (_server, sites) = serve(Zone::default(), SiteResolverConfig::default()).await?;
    let snapshot = routes(&[("example.com", &["127.0.0.1:1", "127.0.0.2:2", "127.0.0.3:3"])]);
    let plan = sites.resolve(&domain("example.com"), &snapshot).await?.plan;
    for seed in 0..20 {
        assert_eq!(plan.in_order(&mut StdRng::seed_from_u64(seed)), plan.hosts());
    }
    Ok(())
}

#[tokio::test]
async fn under_the_default_route_every_domain_is_a_site_and_connections_are_shared() -> Result<()> {
    let (_server, sites) = serve(Zone::default(), SiteResolverConfig::default()).await?;
    let snapshot = routes(&[("*", &["127.0.0.1:2026"]), ("own.example", &["127.0.0.1:2027"])]);
    let one = sites.resolve(&domain("one.example"), &snapshot).await?;
    let two = sites.resolve(&domain("two.example"), &snapshot).await?;
    let own = sites.resolve(&domain("own.example"), &snapshot).await?;
    assert_eq!((one.site.as_str(), two.site.as_str()), ("one.example", "two.example"));
    assert_eq!(one.plan.exchange_key(), two.plan.exchange_key());
    assert_ne!(one.plan.exchange_key(), own.plan.exchange_key());
    Ok(())
}

#[tokio::test]
async fn a_route_in_force_is_seen_at_once_although_mx_was_remembered() -> Result<()> {
    let (_server, sites) =
        serve(Zone::default().mx("example.com", 1, "mx.host.example")?, SiteResolverConfig::default()).await?;
    let before = sites.resolve(&domain("example.com"), &Snapshot::default()).await?;
    let after = sites.resolve(&domain("example.com"), &routes(&[("example.com", &["127.0.0.1:25"])])).await?;
    assert_eq!((before.site.as_str(), after.site.as_str()), ("host.example", "example.com"));
    // An exchanger and a routed host of the same name are never the same exchange: only one may be private.
    let routed = sites.resolve(&domain("example.com"), &routes(&[("example.com", &["mx.host.example:25"])])).await?;
    assert_ne!(before.plan.exchange_key(), routed.plan.exchange_key());
    Ok(())
}

#[tokio::test]
async fn a_route_without_a_usable_host_makes_mail_wait() -> Result<()> {
    let (_server, sites) = serve(Zone::default(), SiteResolverConfig::default()).await?;
    let failure = sites.resolve(&domain("example.com"), &routes(&[("example.com", &[])])).await.unwrap_err();
    assert!(!failure.is_permanent(), "{failure}");
    Ok(())
}

#[tokio::test]
async fn an_address_literal_is_a_site_and_must_be_public() -> Result<()> {
    let (_server, sites) = serve(Zone::default(), SiteResolverConfig::default()).await?;
    let resolved = sites.resolve(&domain("[192.0.2.1]"), &Snapshot::default()).await?;
    assert_eq!(resolved.site.as_str(), "[192.0.2.1]");
    assert_eq!(printed(&resolved.plan), ["0 [192.0.2.1]:25"]);
    assert_eq!(resolved.plan.hosts()[0].reach, Reach::Public);
    Ok(())
}

#[tokio::test]
async fn many_who_ask_for_one_domain_at_once_ask_dns_once() -> Result<()> {
    let (server, sites) =
        serve(Zone::default().mx("example.com", 1, "mx.example.com")?.ttl(0), SiteResolverConfig::default()).await?;
    let snapshot = Arc::new(Snapshot::default());
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (sites, snapshot) = (sites.clone(), snapshot.clone());
        asking.spawn(async move { sites.resolve(&domain("example.com"), &snapshot).await });
    }
    for resolved in asking.join_all().await {
        assert_eq!(resolved?.site.as_str(), "example.com");
    }
    assert_eq!(server.asked("example.com", RecordType::MX), 1);
    Ok(())
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_while() -> Result<()> {
    let (server, sites) = serve(Zone::default(), SiteResolverConfig::default()).await?;
    for _ in 0..5 {
        let failed = sites.resolve(&domain("gone.example"), &Snapshot::default()).await;
        assert_eq!(failed, Err(DnsFailure::NoSuchDomain(domain("gone.example"))));
    }
    assert_eq!(server.asked("gone.example", RecordType::MX), 1);
    Ok(())
}

#[tokio::test]
async fn a_failure_is_forgotten_when_its_time_is_over() -> Result<()> {
    let config = SiteResolverConfig { failure_ttl_secs: 0, ..SiteResolverConfig::default() };
    let broken = Zone::default().fault("example.com", Fault::ServerFailure);
    let (server, sites) = serve(broken, config).await?;
    assert!(sites.resolve(&domain("example.com"), &Snapshot::default()).await.is_err());
    server.replace(Zone::default().mx("example.com", 1, "mx.example.com")?);
    assert!(sites.resolve(&domain("example.com"), &Snapshot::default()).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn whoever_is_in_a_hurry_does_not_wait_and_the_lookup_goes_on() -> Result<()> {
    let silent = Zone::default().fault("example.com", Fault::Silence);
    let (server, sites) = serve(silent, SiteResolverConfig::default()).await?;
    let (domain, snapshot) = (domain("example.com"), Snapshot::default());
    assert_eq!(sites.resolve_within(&domain, &snapshot, Duration::from_millis(50)).await, None);
    server.replace(Zone::default().mx("example.com", 1, "mx.example.com")?);
    // The next who asks shares the lookup that is already on its way.
    let found = sites.resolve_within(&domain, &snapshot, Duration::from_secs(10)).await;
    assert_eq!(found.map(|found| found.site.to_string()), Some("example.com".into()));
    Ok(())
}

#[tokio::test]
async fn whoever_is_in_a_hurry_gets_what_is_known() -> Result<()> {
    let (_server, sites) =
        serve(Zone::default().mx("example.com", 1, "mx.example.com")?, SiteResolverConfig::default()).await?;
    let (domain, snapshot) = (domain("example.com"), Snapshot::default());
    let known = sites.resolve(&domain, &snapshot).await?;
    assert_eq!(sites.resolve_within(&domain, &snapshot, Duration::ZERO).await, Some(known));
    Ok(())
}

#[tokio::test]
async fn a_hurried_lookup_that_fails_is_no_answer() -> Result<()> {
    let (_server, sites) = serve(Zone::default(), SiteResolverConfig::default()).await?;
    let found = sites.resolve_within(&domain("gone.example"), &Snapshot::default(), Duration::from_secs(10)).await;
    assert_eq!(found, None);
    Ok(())
}

#[tokio::test]
async fn lookups_in_the_background_are_bounded() -> Result<()> {
    let config = SiteResolverConfig { lookups_in_background: 0, ..SiteResolverConfig::default() };
    let (server, sites) = serve(Zone::default().mx("example.com", 1, "mx.example.com")?, config).await?;
    let found = sites.resolve_within(&domain("example.com"), &Snapshot::default(), Duration::from_secs(10)).await;
    assert_eq!(found, None);
    assert!(server.names_asked().is_empty());
    Ok(())
}
