//! Which addresses strangers' DNS may send us to: the guard against requests forged through MX and A records. Decides on an
//! address alone and never looks anything up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// IPv4 ranges that are not on the public Internet (IANA special-purpose registry, RFC 6890 and its updates).
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared, carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local; clouds serve their metadata here
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays, deprecated
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// Ranges within 2000::/3, the only global unicast space, that are not public all the same.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 hides an IPv4 address
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Whether an address is a public unicast address. Everything IPv6 outside 2000::/3 is not: loopback, unique local, link
/// local, multicast, and the forms that hide an IPv4 address (`::ffff:0:0/96`, `64:ff9b::/96`).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|&(base, length)| same_prefix_v4(v4, base, length)),
        IpAddr::V6(v6) => {
            same_prefix_v6(v6, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
                && !NOT_PUBLIC_V6.iter().any(|&(base, length)| same_prefix_v6(v6, base, length))
        }
    }
}

fn same_prefix_v4(left: Ipv4Addr, right: Ipv4Addr, length: u8) -> bool {
    let differing = left.to_bits() ^ right.to_bits();
    differing.leading_zeros() >= u32::from(length)
}

fn same_prefix_v6(left: Ipv6Addr, right: Ipv6Addr, length: u8) -> bool {
    let differing = left.to_bits() ^ right.to_bits();
    differing.leading_zeros() >= u32::from(length)
}

/// A range of addresses, written `127.0.2.0/24` or as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    base: IpAddr,
    length: u8,
}

/// Why a text is no [`Network`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no network: expected ADDRESS or ADDRESS/LENGTH")]
pub struct ParseNetworkError {
    text: String,
}

impl Network {
    /// Whether the address lies within; an IPv4 address never lies within an IPv6 network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (address, self.base) {
            (IpAddr::V4(v4), IpAddr::V4(base)) => same_prefix_v4(v4, base, self.length),
            (IpAddr::V6(v6), IpAddr::V6(base)) => same_prefix_v6(v6, base, self.length),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let no = || ParseNetworkError { text: text.chars().take(80).collect() };
        let (base, length) = text.split_once('/').map_or((text, None), |(base, length)| (base, Some(length)));
        let base: IpAddr = base.parse().map_err(|_| no())?;
        let longest = if base.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(length) => length.parse().ok().filter(|&bits: &u8| bits <= longest).ok_or_else(no)?,
            None => longest,
        };
        Ok(Self { base, length })
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;

    fn try_from(text: String) -> Result<Self, ParseNetworkError> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(addresses: &[&str], expected: bool) {
        for text in addresses {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        check(
            &["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0"],
            true,
        );
        check(&["192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "128.0.0.1"], true);
        check(&["2001:4860:4860::8888", "2a00:1450:4001:82a::200e", "2001:200::1", "2600::1"], true);
    }

    #[test]
    fn private_and_special_ipv4_ranges_are_not_public() {
        check(&["0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"], false);
        check(&["127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1"], false);
        check(&["192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.7"], false);
        check(&["203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"], false);
    }

    #[test]
    fn private_and_special_ipv6_ranges_are_not_public() {
        check(&["::", "::1", "::7f00:1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "ff02::1"], false);
        check(&["100::1", "2001::1", "2001:2::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1"], false);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_not_public() {
        check(&["::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1"], false);
    }

    #[test]
    fn a_network_contains_its_addresses_only() {
        let network: Network = "127.0.2.0/24".parse().unwrap();
        assert!(network.contains("127.0.2.255".parse().unwrap()));
        assert!(!network.contains("127.0.3.0".parse().unwrap()));
        assert!(!network.contains("::7f00:200".parse().unwrap()));
        assert!("::1".parse::<Network>().unwrap().contains("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("10.0.0.1".parse().unwrap()));
        assert_eq!(network.to_string(), "127.0.2.0/24");
    }

    #[test]
    fn a_malformed_network_is_refused() {
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "x/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
    }
}
