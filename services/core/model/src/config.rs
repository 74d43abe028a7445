//! The state of the system that operators change while it runs: tenants, credentials, domains, routes, rules. All of it
//! lives in the `config` bucket; every process compiles it into an immutable [`Snapshot`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::{AddressError, Campaign, Class, CredentialName, Domain, PoolName, Rule, RuleId, TenantId};

/// A sender with its own credentials, domains and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// A name for people.
    pub display_name: String,
    /// Its part of what tenants share.
    pub weight: TenantWeight,
}

/// How much of what tenants share goes to one of them while all have mail waiting: twice the weight, twice the recipients.
/// From 1, which is what a tenant has unless told otherwise, to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantWeight(u8);

/// A number that is no weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a weight is 1 to {most}, not {0}", most = TenantWeight::MOST)]
pub struct WeightError(u32);

impl TenantWeight {
    /// The largest.
    pub const MOST: u8 = 100;

    /// The number.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }
}

impl Default for TenantWeight {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u32> for TenantWeight {
    type Error = WeightError;

    fn try_from(number: u32) -> Result<Self, WeightError> {
        match u8::try_from(number) {
            Ok(weight @ 1..=Self::MOST) => Ok(Self(weight)),
            _ => Err(WeightError(number)),
        }
    }
}

impl fmt::Display for TenantWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a submitting client proves to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The user name of AUTH.
    pub name: CredentialName,
    /// Whose it is.
    pub tenant: TenantId,
    /// HMAC-SHA-256 of the secret under the cluster key; the secret itself is kept nowhere.
    pub secret_mac: Vec<u8>,
    /// The class of its mail unless a header says otherwise.
    pub default_class: Class,
    /// The campaign of its mail unless a header says otherwise.
    pub default_campaign: Option<Campaign>,
    /// The pool of its mail unless a header says otherwise.
    pub default_pool: Option<PoolName>,
    /// The classes a header may choose.
    pub allowed_classes: BTreeSet<Class>,
    /// Whether a header may choose the campaign.
    pub may_choose_campaign: bool,
    /// The pools a header may choose.
    pub allowed_pools: BTreeSet<PoolName>,
}

/// A domain that a tenant sends as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendingDomain {
    /// The domain.
    pub domain: Domain,
    /// Whose it is.
    pub tenant: TenantId,
    /// The key that signs its mail.
    pub dkim: Option<DkimKey>,
}

/// A DKIM key (RFC 6376). The private half is sealed with the cluster key.
#[derive(Clone, PartialEq, Eq)]
pub struct DkimKey {
    /// The selector: the record stands at `<selector>._domainkey.<domain>`.
    pub selector: String,
    /// The sealed private key.
    pub sealed_key: Vec<u8>,
    /// The TXT record to publish.
    pub dns_record: String,
}

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimKey").field("selector", &self.selector).finish_non_exhaustive()
    }
}

/// Where mail for a domain goes instead of its MX: hosts tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The recipient domain, or `None` for everything that has no route of its own (`*`).
    pub domain: Option<Domain>,
    /// The next hops, tried in order.
    pub next_hops: Vec<NextHop>,
    /// Who made it: `operator`, or `up` for routes that `postrider up` makes anew at each start.
    pub origin: String,
}

/// A host and port of a route: `HOST:PORT`, or `lmtp:HOST:PORT` (RFC 2033).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.lmtp { "lmtp:" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}{open}{}{close}:{}", self.host, self.port)
    }
}

impl FromStr for NextHop {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let no = |why| AddressError::next_hop(text, why);
        let (lmtp, rest) = text.strip_prefix("lmtp:").map_or((false, text), |rest| (true, rest));
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| no("expected HOST:PORT or lmtp:HOST:PORT"))?;
        let port = port.parse().ok().filter(|&p: &u16| p > 0).ok_or_else(|| no("the port must be 1 to 65535"))?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| no("not an IPv6 address"))?.to_string(),
            None if host.contains(':') => return Err(no("an IPv6 address needs brackets: [::1]:25")),
            None => host.parse::<Domain>()?.to_string(),
        };
        Ok(Self { lmtp, host, port })
    }
}

/// All configuration at one revision of the bucket. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the bucket up to which this is complete.
    pub revision: u64,
    /// All tenants.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// All credentials.
    pub credentials: BTreeMap<CredentialName, Credential>,
    /// All sending domains.
    pub domains: BTreeMap<Domain, SendingDomain>,
    /// Routes by recipient domain.
    pub routes: BTreeMap<Domain, Route>,
    /// The route of everything else.
    pub default_route: Option<Route>,
    /// What operators ordered about mail in the queue.
    pub rules: BTreeMap<RuleId, Rule>,
}

impl Snapshot {
    /// The route of a recipient domain, if it has one.
    pub fn route(&self, domain: &Domain) -> Option<&Route> {
        self.routes.get(domain).or(self.default_route.as_ref())
    }

    /// Whether `tenant` may send as `domain` (an exact match or a subdomain of one of its domains).
    pub fn may_send_as(&self, tenant: &TenantId, domain: &Domain) -> bool {
        self.sending_domain(domain).is_some_and(|found| found.tenant == *tenant)
    }

    /// The sending domain that covers `domain`: itself, or the closest parent.
    pub fn sending_domain(&self, domain: &Domain) -> Option<&SendingDomain> {
        let mut name = domain.as_str();
        loop {
            if let Some(found) = name.parse::<Domain>().ok().and_then(|d| self.domains.get(&d)) {
                return Some(found);
            }
            name = name.split_once('.')?.1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_prints_as_it_is_written() {
        for text in ["127.0.0.1:2026", "lmtp:mail.example.net:24", "[::1]:25"] {
            assert_eq!(text.parse::<NextHop>().map(|hop| hop.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "host", "host:0", "host:x", "::1:25", ":25", "[zz]:25"] {
            assert!(bad.parse::<NextHop>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_weight_is_one_to_a_hundred() {
        assert_eq!(TenantWeight::default().get(), 1);
        assert_eq!(TenantWeight::try_from(100).map(TenantWeight::get), Ok(100));
        for bad in [0, 101, 256, 65_537] {
            assert!(TenantWeight::try_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subdomain_belongs_to_the_closest_parent() {
        let tenant: TenantId = "acme".parse().unwrap();
        let domain: Domain = "acme.example".parse().unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.domains.insert(domain.clone(), SendingDomain { domain, tenant: tenant.clone(), dkim: None });
        assert!(snapshot.may_send_as(&tenant, &"acme.example".parse().unwrap()));
        assert!(snapshot.may_send_as(&tenant, &"news.acme.example".parse().unwrap()));
        assert!(!snapshot.may_send_as(&tenant, &"notacme.example".parse().unwrap()));
        assert!(!snapshot.may_send_as(&"other".parse().unwrap(), &"acme.example".parse().unwrap()));
    }
}
