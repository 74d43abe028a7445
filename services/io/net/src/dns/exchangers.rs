//! From MX records to exchangers: null MX, order, duplicates, bounds. Pure.

use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::Name;
use postrider_model::Domain;

use super::{DnsFailure, mail_exchanges, time_left};
use crate::Host;

/// A host that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// Its name, or the address of an address literal.
    pub host: Host,
    /// Lower is tried first.
    pub preference: u16,
}

/// The exchangers of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchangers {
    /// At least one, by preference, equals by name: the order to shuffle from.
    pub hosts: Vec<Exchanger>,
    /// Whether the domain has no MX record and is its own exchanger, or is an address literal.
    pub implicit: bool,
    /// How long this holds.
    pub ttl: Duration,
}

impl Exchangers {
    /// The most exchangers of one domain that are ever tried: a bound on what a stranger's DNS can make us do.
    pub const MOST: usize = 20;

    pub(super) fn only(host: Host, ttl: Duration) -> Self {
        Self { hosts: vec![Exchanger { host, preference: 0 }], implicit: true, ttl }
    }
}

pub(super) fn from_lookup(domain: &Domain, lookup: &Lookup) -> Result<Exchangers, DnsFailure> {
    let hosts = from_records(domain, mail_exchanges(lookup))?;
    Ok(Exchangers { hosts, implicit: false, ttl: time_left(lookup) })
}

fn from_records<'a>(
    domain: &Domain,
    records: impl Iterator<Item = (u16, &'a Name)>,
) -> Result<Vec<Exchanger>, DnsFailure> {
    let mut hosts: Vec<(u16, Domain)> = Vec::new();
    let mut only_null = true;
    for (preference, name) in records {
        // "." beside other exchangers is a mistake (RFC 7505 section 3): the others count.
        if name.is_root() {
            continue;
        }
        only_null = false;
        if let Ok(name) = name.to_ascii().parse() {
            hosts.push((preference, name));
        }
    }
    if only_null {
        return Err(DnsFailure::NullMx(domain.clone()));
    }
    if hosts.is_empty() {
        return Err(DnsFailure::Temporary(format!("MX lookup of {domain}: no exchanger has a valid host name")));
    }
    hosts.sort();
    let mut exchangers: Vec<Exchanger> = Vec::new();
    for (preference, name) in hosts {
        let host = Host::Name(name);
        if exchangers.len() < Exchangers::MOST && !exchangers.iter().any(|known| known.host == host) {
            exchangers.push(Exchanger { host, preference });
        }
    }
    Ok(exchangers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(records: &[(u16, &str)], expected: &[(u16, &str)]) {
        let names: Vec<(u16, Name)> =
            records.iter().map(|&(preference, name)| (preference, Name::from_ascii(name).unwrap())).collect();
        let domain: Domain = "example.com".parse().unwrap();
        let hosts = from_records(&domain, names.iter().map(|(preference, name)| (*preference, name))).unwrap();
        let printed: Vec<(u16, String)> = hosts.iter().map(|h| (h.preference, h.host.to_string())).collect();
        let expected: Vec<(u16, String)> = expected.iter().map(|&(p, name)| (p, name.to_owned())).collect();
        assert_eq!(printed, expected);
    }

    #[test]
    fn exchangers_stand_by_preference_then_name_in_lower_case() {
        check(
            &[(20, "b.example."), (10, "Z.example."), (20, "A.example.")],
            &[(10, "z.example"), (20, "a.example"), (20, "b.example")],
        );
    }

    #[test]
    fn a_host_that_stands_twice_counts_once_with_its_best_preference() {
        check(&[(20, "a.example."), (10, "A.example.")], &[(10, "a.example")]);
    }

    #[test]
    fn a_null_exchange_beside_others_is_ignored() {
        check(&[(0, "."), (10, "a.example.")], &[(10, "a.example")]);
    }

    #[test]
    fn names_that_are_no_host_names_are_passed_over() {
        let domain: Domain = "example.com".parse().unwrap();
        let bad = Name::from_labels([&b"bad\r\nhost"[..], b"example"]).unwrap();
        let good = Name::from_ascii("mx.example.").unwrap();
        let hosts = from_records(&domain, [(5, &bad), (10, &good)].into_iter()).unwrap();
        assert_eq!(hosts, [Exchanger { host: Host::Name("mx.example".parse().unwrap()), preference: 10 }]);
        // Nothing else: a mistake that can be repaired, so mail waits.
        let failure = from_records(&domain, [(5, &bad)].into_iter()).unwrap_err();
        assert!(!failure.is_permanent(), "{failure}");
    }
}
