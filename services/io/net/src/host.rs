//! Where a connection goes before addresses are looked up: a name or an address. Never a port.

use std::fmt;
use std::net::IpAddr;

use postrider_model::Domain;

/// A host of an exchange: named in DNS, or an address that needs no DNS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A host name in A-labels.
    Name(Domain),
    /// An address: from an address literal or a route.
    Address(IpAddr),
}

impl From<Domain> for Host {
    /// An address literal becomes its address, everything else stays a name.
    fn from(domain: Domain) -> Self {
        match domain.literal() {
            Some(address) => Self::Address(address),
            None => Self::Name(domain),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[ipv6:{address}]"),
        }
    }
}
