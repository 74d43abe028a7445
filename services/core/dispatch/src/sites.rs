//! Sites: all recipient domains that share one mailbox provider's exchangers. Found by provider rules over the names of
//! exchangers, else the registrable domain of the best one. Never asks the DNS: names are handed in.

mod rules;

use std::net::IpAddr;

use postrider_model::{Domain, SiteName};

use crate::limits::PathLimits;
use rules::{Host, Provider, providers};

/// The site of a recipient domain, from the names of its exchangers, best first; those of equal preference must stand in
/// an order that does not change from lookup to lookup, because the first one counts. Without exchangers (a lookup that
/// failed or was too slow) the domain is its own site.
pub fn site_of<E: AsRef<str>>(domain: &Domain, exchangers: &[E]) -> SiteName {
    if domain.literal().is_some() {
        return SiteName::from(domain);
    }
    let best = exchangers.iter().find_map(|host| host.as_ref().parse::<Domain>().ok());
    best.as_ref().map_or_else(|| SiteName::from(domain), site_of_exchanger)
}

/// Into how many slices the mail for a site is cut: more than one at giants only.
pub fn slices_of(site: &SiteName) -> u16 {
    providers().find(|provider| provider.site == site.as_str()).map_or(1, |provider| provider.slices.max(1))
}

/// What a provider takes from one address, where a public source says so: the limits of its paths unless the operator has
/// some of his own.
pub fn default_limits(site: &SiteName) -> Option<PathLimits> {
    providers().find(|provider| provider.site == site.as_str()).and_then(|provider| provider.limits)
}

/// The sites that have rules: what may stand in a metric's label.
pub fn configured_sites() -> impl Iterator<Item = &'static str> {
    providers().map(|provider| provider.site)
}

fn site_of_exchanger(host: &Domain) -> SiteName {
    let name = host.as_str();
    if let Some(provider) = providers().find(|provider| provider.has(name)) {
        return provider.site.parse().unwrap_or_else(|_| SiteName::from(host));
    }
    if let Some(address) = address_of(name) {
        return SiteName::from(&address);
    }
    if !name.contains('.') {
        return site_of_single_label(host);
    }
    psl::domain_str(name)
        .and_then(|registrable| registrable.parse::<Domain>().ok())
        .map_or_else(|| SiteName::from(host), |registrable| SiteName::from(&registrable))
}

/// An MX record that wrongly holds an address (RFC 5321 section 5.1 wants a name): the address as a literal.
fn address_of(name: &str) -> Option<Domain> {
    match name.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => format!("[{v4}]").parse().ok(),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]").parse().ok(),
    }
}

/// A host without a dot is a site of its own; one that is called like a provider is written in brackets, so that nobody
/// joins a provider's site by naming his host after it.
fn site_of_single_label(host: &Domain) -> SiteName {
    let name = host.as_str();
    let own = SiteName::from(host);
    if providers().any(|provider| provider.site == name) { format!("[{name}]").parse().unwrap_or(own) } else { own }
}

impl Provider {
    fn has(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| match host {
            Host::Is(exact) => name == *exact,
            Host::Under(parent) => name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
        })
    }
}

#[cfg(test)]
mod tests;
