//! Questions to name servers: exchangers of a domain (RFC 5321 section 5.1, RFC 7505) and addresses of a host. Never asks
//! with a search list, never turns a failure to answer into an answer.

mod exchangers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use postrider_model::{Domain, EnhancedCode, Reply};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::Host;
pub use exchangers::{Exchanger, Exchangers};

/// How name servers are asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// The name servers as `address:port`; without any, those of the system (`/etc/resolv.conf`).
    pub servers: Option<Vec<SocketAddr>>,
    /// How long one try may take, in milliseconds.
    pub try_timeout_ms: u64,
    /// How often a question is repeated after the first try failed.
    pub retries: usize,
    /// How many answers are remembered at most.
    pub cache_entries: u64,
    /// How many questions may be on their way at once; more wait their turn, as long as an answer may take.
    pub concurrent_questions: usize,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { servers: None, try_timeout_ms: 5_000, retries: 2, cache_entries: 32_768, concurrent_questions: 512 }
    }
}

/// Why the resolver could not be set up.
#[derive(Debug, Error)]
pub enum DnsSetupError {
    /// The list of name servers is there but empty.
    #[error("the list of DNS servers is empty (leave it out to use the system's)")]
    NoServers,
    /// The system's configuration cannot be read or used.
    #[error("cannot use the system's DNS configuration (/etc/resolv.conf)")]
    System(#[source] NetError),
    /// The resolver refused its configuration.
    #[error("cannot start the DNS resolver")]
    Start(#[source] NetError),
}

/// Why a domain has no exchanger or a host no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DnsFailure {
    /// The name does not exist (NXDOMAIN).
    #[error("{0} does not exist in DNS")]
    NoSuchDomain(Domain),
    /// The name exists and has neither exchanger nor address.
    #[error("{0} has no address in DNS")]
    NoAddress(Domain),
    /// The domain says that it takes no mail (RFC 7505).
    #[error("{0} does not accept mail (null MX)")]
    NullMx(Domain),
    /// No answer, or none that can be used: ask again later.
    #[error("{0}")]
    Temporary(String),
}

impl DnsFailure {
    /// Whether asking again later makes no difference.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NoSuchDomain(_) | Self::NoAddress(_) | Self::NullMx(_) => true,
            Self::Temporary(_) => false,
        }
    }

    /// The failure as the reply that a sender reads: RFC 5321 section 5.1, RFC 7505 section 4.
    pub fn reply(&self) -> Reply {
        let (code, enhanced) = match self {
            Self::NoSuchDomain(_) | Self::NoAddress(_) => (550, EnhancedCode(5, 1, 2)),
            Self::NullMx(_) => (556, EnhancedCode(5, 1, 10)),
            Self::Temporary(_) => (451, EnhancedCode(4, 4, 3)),
        };
        Reply::new(code, Some(enhanced), &self.to_string())
    }
}

/// A caching stub resolver. Cheap to clone.
#[derive(Clone)]
pub struct Dns {
    resolver: TokioResolver,
    turns: Arc<Semaphore>,
    longest_wait: Duration,
}

/// What name servers said about a name and a type.
enum Answer {
    Records(Lookup),
    NoData,
    NoName,
}

impl Dns {
    /// The most addresses of one host that are ever tried.
    pub const MOST_ADDRESSES: usize = 16;

    /// A resolver; asks nothing yet.
    pub fn new(config: &DnsConfig) -> Result<Self, DnsSetupError> {
        let mut builder = match &config.servers {
            Some(servers) if servers.is_empty() => return Err(DnsSetupError::NoServers),
            Some(servers) => {
                let servers = servers.iter().copied().map(name_server).collect();
                let system = ResolverConfig::from_name_servers(servers);
                let mut builder = TokioResolver::builder_with_config(system, TokioRuntimeProvider::default());
                builder.options_mut().use_hosts_file = ResolveHosts::Never;
                builder
            }
            None => TokioResolver::builder_tokio().map_err(DnsSetupError::System)?,
        };
        let try_timeout = Duration::from_millis(config.try_timeout_ms);
        let options = builder.options_mut();
        options.timeout = try_timeout;
        options.attempts = config.retries;
        options.cache_size = config.cache_entries;
        options.max_active_requests = config.concurrent_questions;
        // A stub that remembers longer than this hides repairs for no gain: the recursive server behind it caches too.
        options.positive_max_ttl = Some(Duration::from_secs(300));
        options.negative_max_ttl = Some(Duration::from_secs(30));
        let tries = u32::try_from(config.retries).unwrap_or(u32::MAX).saturating_add(2);
        Ok(Self {
            resolver: builder.build().map_err(DnsSetupError::Start)?,
            turns: Arc::new(Semaphore::new(config.concurrent_questions.clamp(1, Semaphore::MAX_PERMITS))),
            longest_wait: try_timeout.saturating_mul(tries),
        })
    }

    /// The exchangers of a recipient domain. A domain without MX records is its own exchanger if it has an address
    /// (RFC 5321 section 5.1); an address literal needs no DNS.
    pub async fn exchangers(&self, domain: &Domain) -> Result<Exchangers, DnsFailure> {
        if let Some(address) = domain.literal() {
            return Ok(Exchangers::only(Host::Address(address), Duration::MAX));
        }
        match self.ask(domain, RecordType::MX).await? {
            Answer::Records(lookup) => exchangers::from_lookup(domain, &lookup),
            Answer::NoName => Err(DnsFailure::NoSuchDomain(domain.clone())),
            Answer::NoData => {
                let (_, ttl) = self.lookup_addresses(domain).await?;
                Ok(Exchangers::only(Host::Name(domain.clone()), ttl))
            }
        }
    }

    /// The addresses of a host: IPv4 before IPv6, each as the name server ordered them, at most [`Self::MOST_ADDRESSES`].
    /// Never empty.
    pub async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, DnsFailure> {
        match host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => Ok(self.lookup_addresses(name).await?.0),
        }
    }

    async fn lookup_addresses(&self, name: &Domain) -> Result<(Vec<IpAddr>, Duration), DnsFailure> {
        let (v4, v6) = tokio::join!(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA));
        let mut found = Vec::new();
        let mut ttl = Duration::MAX;
        for answer in [&v4, &v6] {
            if let Ok(Answer::Records(lookup)) = answer {
                found.extend(lookup.answers().iter().filter_map(|record| record.data.ip_addr()));
                ttl = ttl.min(time_left(lookup));
            }
        }
        found.truncate(Self::MOST_ADDRESSES);
        if !found.is_empty() {
            return Ok((found, ttl));
        }
        // Nothing found: that is certain only if both questions were answered.
        match (v4?, v6?) {
            (Answer::NoName, _) | (_, Answer::NoName) => Err(DnsFailure::NoSuchDomain(name.clone())),
            _ => Err(DnsFailure::NoAddress(name.clone())),
        }
    }

    async fn ask(&self, domain: &Domain, kind: RecordType) -> Result<Answer, DnsFailure> {
        let temporary =
            |why: &dyn std::fmt::Display| DnsFailure::Temporary(format!("{kind} lookup of {domain}: {why}"));
        // The dot makes the name complete: a search list (a pod's resolv.conf has four entries) is never tried.
        let Ok(name) = Name::from_ascii(format!("{domain}.")) else {
            return Err(DnsFailure::NoSuchDomain(domain.clone()));
        };
        let asked = async {
            let _turn = self.turns.acquire().await;
            self.resolver.lookup(name, kind).await
        };
        match tokio::time::timeout(self.longest_wait, asked).await {
            Err(_) => Err(temporary(&"no answer in time")),
            Ok(Ok(lookup)) if lookup.answers().iter().any(|record| record.record_type() == kind) => {
                Ok(Answer::Records(lookup))
            }
            Ok(Ok(_)) => Ok(Answer::NoData),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(nothing)))) => match nothing.response_code {
                ResponseCode::NXDomain => Ok(Answer::NoName),
                // Name servers instead of an answer: whom we asked does not resolve for us, so nothing is known.
                ResponseCode::NoError if nothing.ns.is_some() && nothing.soa.is_none() => {
                    Err(temporary(&"the name server answered with a referral"))
                }
                ResponseCode::NoError => Ok(Answer::NoData),
                code => Err(temporary(&code)),
            },
            Ok(Err(error)) => Err(temporary(&error)),
        }
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn time_left(lookup: &Lookup) -> Duration {
    lookup.valid_until().saturating_duration_since(Instant::now())
}

/// The exchange names of an answer with their preferences.
fn mail_exchanges(lookup: &Lookup) -> impl Iterator<Item = (u16, &Name)> {
    lookup.answers().iter().filter_map(|record| match &record.data {
        RData::MX(mx) => Some((mx.preference, &mx.exchange)),
        _ => None,
    })
}
