//! From a recipient domain to its site and its hosts: the operator's routes first, else MX. Remembers what DNS said for a
//! while and asks once for many; routes are looked up each time. Never looks up addresses of routed hosts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use postrider_dispatch::sites::{site_of, slices_of};
use postrider_model::{Domain, NextHop, Route, SiteName, Snapshot};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::{Dns, DnsFailure, ExchangePlan, Exchanger, Exchangers, Host, PlannedHost, Reach, Resolved};

/// How long and how much the resolver remembers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteResolverConfig {
    /// The port of exchangers found by MX: 25, except in laboratories.
    pub exchanger_port: u16,
    /// How many domains are remembered at most.
    pub cache_entries: u64,
    /// An answer is kept at least so long, in seconds, even if its records say less.
    pub shortest_ttl_secs: u64,
    /// An answer is kept at most so long, in seconds, even if its records say more.
    pub longest_ttl_secs: u64,
    /// How long it is remembered that a domain does not resolve, in seconds.
    pub failure_ttl_secs: u64,
    /// How many lookups may go on after whoever asked stopped waiting.
    pub lookups_in_background: usize,
}

impl Default for SiteResolverConfig {
    fn default() -> Self {
        Self {
            exchanger_port: 25,
            cache_entries: 100_000,
            shortest_ttl_secs: 10,
            longest_ttl_secs: 300,
            failure_ttl_secs: 30,
            lookups_in_background: 4_096,
        }
    }
}

/// Turns recipient domains into sites and plans. Cheap to clone.
#[derive(Clone)]
pub struct SiteResolver {
    dns: Dns,
    exchanger_port: u16,
    shortest_ttl: Duration,
    longest_ttl: Duration,
    known: Cache<Domain, Known>,
    background: Arc<Semaphore>,
}

/// What DNS said about a domain, and for how long that is kept.
#[derive(Clone)]
struct Known {
    resolved: Result<Resolved, DnsFailure>,
    ttl: Option<Duration>,
}

struct KeptByTtl {
    failure_ttl: Duration,
}

impl Expiry<Domain, Known> for KeptByTtl {
    fn expire_after_create(&self, _domain: &Domain, known: &Known, _created_at: Instant) -> Option<Duration> {
        Some(known.ttl.unwrap_or(self.failure_ttl))
    }
}

impl SiteResolver {
    /// A resolver that knows nothing yet.
    pub fn new(dns: Dns, config: &SiteResolverConfig) -> Self {
        let kept = KeptByTtl { failure_ttl: Duration::from_secs(config.failure_ttl_secs) };
        let shortest_ttl = Duration::from_secs(config.shortest_ttl_secs);
        Self {
            dns,
            exchanger_port: config.exchanger_port,
            shortest_ttl,
            longest_ttl: Duration::from_secs(config.longest_ttl_secs).max(shortest_ttl),
            known: Cache::builder().max_capacity(config.cache_entries).expire_after(kept).build(),
            background: Arc::new(Semaphore::new(config.lookups_in_background.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// What a domain resolves to now. Waits for DNS as long as [`Dns`] does.
    pub async fn resolve(&self, domain: &Domain, snapshot: &Snapshot) -> Result<Resolved, DnsFailure> {
        if let Some(route) = snapshot.route(domain) {
            return by_route(domain, route);
        }
        if let Some(known) = self.known.get(domain).await {
            return known.resolved;
        }
        // Large and rare: on the heap, so that whoever finds the answer known does not carry its room about.
        Box::pin(self.look_up(domain)).await
    }

    /// What a domain resolves to, if that is known or found within `limit`; the lookup goes on for the next who asks.
    /// `None` also if the domain does not resolve: then the domain itself is the best guess at its
    /// site (`SiteName::from`).
    pub async fn resolve_within(&self, domain: &Domain, snapshot: &Snapshot, limit: Duration) -> Option<Resolved> {
        if let Some(route) = snapshot.route(domain) {
            return by_route(domain, route).ok();
        }
        if let Some(known) = self.known.get(domain).await {
            return known.resolved.ok();
        }
        let place = self.background.clone().try_acquire_owned().ok()?;
        let (resolver, domain) = (self.clone(), domain.clone());
        let lookup = tokio::spawn(async move {
            let resolved = resolver.look_up(&domain).await;
            drop(place);
            resolved
        });
        tokio::time::timeout(limit, lookup).await.ok()?.ok()?.ok()
    }

    /// The addresses of a planned host: never empty.
    pub async fn addresses(&self, host: &PlannedHost) -> Result<Vec<IpAddr>, DnsFailure> {
        self.dns.addresses(&host.host).await
    }

    async fn look_up(&self, domain: &Domain) -> Result<Resolved, DnsFailure> {
        let asked = async {
            let found = self.dns.exchangers(domain).await;
            let ttl = found.as_ref().ok().map(|found| found.ttl.clamp(self.shortest_ttl, self.longest_ttl));
            Known { resolved: found.map(|found| by_exchangers(domain, &found, self.exchanger_port)), ttl }
        };
        self.known.get_with_by_ref(domain, asked).await.resolved
    }
}

/// A routed domain is a site of its own, also under the default route: limits and queues stay apart, while connections
/// are shared by all whose next hops are the same.
fn by_route(domain: &Domain, route: &Route) -> Result<Resolved, DnsFailure> {
    let hosts: Vec<PlannedHost> = (0..).zip(&route.next_hops).filter_map(|(turn, hop)| planned(turn, hop)).collect();
    if hosts.is_empty() {
        return Err(DnsFailure::Temporary(format!("the route of {domain} names no host that can be used")));
    }
    let key: Vec<String> = route.next_hops.iter().map(NextHop::to_string).collect();
    let site = SiteName::from(domain);
    let plan = Arc::new(ExchangePlan::new(format!("route {}", key.join(" ")).into(), hosts));
    Ok(Resolved { slices: slices_of(&site), site, plan })
}

fn planned(preference: u16, hop: &NextHop) -> Option<PlannedHost> {
    let host = match hop.host.parse::<IpAddr>() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::from(hop.host.parse::<Domain>().ok()?),
    };
    Some(PlannedHost { host, port: hop.port, lmtp: hop.lmtp, reach: Reach::Anywhere, preference })
}

fn by_exchangers(domain: &Domain, found: &Exchangers, port: u16) -> Resolved {
    let mut names: Vec<String> = found.hosts.iter().map(|exchanger| exchanger.host.to_string()).collect();
    let site = site_of(domain, &names);
    let planned = |exchanger: &Exchanger| PlannedHost {
        host: exchanger.host.clone(),
        port,
        lmtp: false,
        reach: Reach::Public,
        preference: exchanger.preference,
    };
    let hosts = found.hosts.iter().map(planned).collect();
    names.sort();
    let plan = Arc::new(ExchangePlan::new(format!("mx {}", names.join(" ")).into(), hosts));
    Resolved { slices: slices_of(&site), site, plan }
}
