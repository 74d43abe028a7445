//! Sites: all recipient domains that share one mailbox provider's exchangers. Found by provider rules over the names of
//! exchangers, else the registrable domain of the best one. Never asks the DNS: names are handed in.

mod rules;

use std::net::IpAddr;

use postrider_model::{Domain, SiteName};

use rules::{Host, PROVIDERS, Provider};

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
    PROVIDERS.iter().find(|provider| provider.site == site.as_str()).map_or(1, |provider| provider.slices.max(1))
}

/// The sites that have rules: what may stand in a metric's label.
pub fn configured_sites() -> impl Iterator<Item = &'static str> {
    PROVIDERS.iter().map(|provider| provider.site)
}

fn site_of_exchanger(host: &Domain) -> SiteName {
    let name = host.as_str();
    if let Some(provider) = PROVIDERS.iter().find(|provider| provider.has(name)) {
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
    if PROVIDERS.iter().any(|provider| provider.site == name) {
        format!("[{name}]").parse().unwrap_or(own)
    } else {
        own
    }
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
mod tests {
    use super::*;

    #[track_caller]
    fn check(domain: &str, exchangers: &[&str], expected: &str) {
        let site = site_of(&domain.parse().unwrap(), exchangers);
        assert_eq!(site.as_str(), expected);
        assert_eq!(site.as_str().parse(), Ok(site));
    }

    #[test]
    fn providers_are_known_by_their_exchangers() {
        check("gmail.com", &["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"], "google");
        check("workspace.example", &["ASPMX.L.GOOGLE.COM."], "google");
        check("new-workspace.example", &["smtp.google.com"], "google");
        check("old-workspace.example", &["aspmx2.googlemail.com"], "google");
        check("contoso.example", &["contoso-example.mail.protection.outlook.com"], "microsoft-365");
        check("dane.example", &["dane-example.o-v1.mx.microsoft"], "microsoft-365");
        check("hotmail.com", &["hotmail-com.olc.protection.outlook.com"], "microsoft-consumer");
        check("yahoo.com", &["mta5.am0.yahoodns.net"], "yahoo");
        check("icloud.com", &["mx01.mail.icloud.com"], "apple");
        check("bank.example", &["mx0a-00012345.pphosted.com"], "proofpoint");
        check("law.example", &["eu-smtp-inbound-1.mimecast.com"], "mimecast");
        check("shop.example", &["d1.ess.barracudanetworks.com"], "barracuda");
        check("web.de", &["mx-ha02.web.de"], "gmx");
        check("bk.ru", &["mxs.mail.ru"], "mail-ru");
        check("comcast.net", &["mx1a1.comcast.net"], "comcast");
        check("wanadoo.fr", &["smtp-in.orange.fr"], "orange");
        check("foxmail.com", &["mx1.qq.com"], "qq");
        check("126.com", &["126mx01.mxmail.netease.com"], "netease");
    }

    #[test]
    fn a_name_that_only_looks_like_a_provider_is_none() {
        check("a.example", &["mx.notgoogle.com"], "notgoogle.com");
        check("a.example", &["google.com.attacker.example"], "attacker.example");
        check("a.example", &["mail.protection.outlook.com.attacker.example"], "attacker.example");
    }

    #[test]
    fn the_best_exchanger_decides() {
        check("filtered.example", &["mx.filter.example", "aspmx.l.google.com"], "filter.example");
    }

    #[test]
    fn elsewhere_the_registrable_domain_of_the_best_exchanger_counts() {
        check("a.example", &["mx1.mail.hoster.co.uk", "mx2.other.example"], "hoster.co.uk");
        check("a.example", &["mx.customer.github.io"], "customer.github.io");
        check("a.example", &["_dc-mx.0123abcd.a.example"], "a.example");
        check("a.example", &["mx.bücher.example"], "xn--bcher-kva.example");
        check("a.example", &["mx.mail.xn--55qx5d.cn"], "mail.xn--55qx5d.cn");
    }

    #[test]
    fn a_public_suffix_as_exchanger_stays_as_it_is() {
        check("a.example", &["co.uk"], "co.uk");
    }

    #[test]
    fn without_exchangers_the_domain_is_its_own_site() {
        check("Quiet.Example", &[], "quiet.example");
        check("quiet.example", &["not a host"], "quiet.example");
    }

    #[test]
    fn address_literals_are_sites() {
        check("[192.0.2.1]", &["aspmx.l.google.com"], "[192.0.2.1]");
        check("[IPv6:2001:db8::1]", &[], "[ipv6:2001:db8::1]");
        check("a.example", &["192.0.2.7"], "[192.0.2.7]");
    }

    #[test]
    fn single_label_hosts_are_sites() {
        check("a.example", &["localhost"], "localhost");
    }

    #[test]
    fn no_host_joins_a_provider_by_its_name() {
        check("a.example", &["google"], "[google]");
    }

    #[test]
    fn giants_are_cut_in_slices() {
        for (site, slices) in [("google", 8), ("microsoft-365", 8), ("apple", 1), ("example.net", 1), ("[google]", 1)] {
            assert_eq!(slices_of(&site.parse().unwrap()), slices, "{site}");
        }
    }

    #[test]
    fn the_names_of_providers_are_valid_and_hold_no_dot() {
        for provider in PROVIDERS {
            assert!(provider.site.parse::<SiteName>().is_ok(), "{}", provider.site);
            assert!(!provider.site.contains('.'), "{}", provider.site);
        }
    }
}
