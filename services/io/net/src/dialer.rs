//! Opens a TCP connection to one address from one source address, and tells whose fault a failure is. Never resolves a
//! name and never tries twice.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};

use crate::public::{Network, is_public};

/// What a dialer may reach.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialerConfig {
    /// Networks that count as public although they are not: for laboratories whose DNS answers with private addresses.
    pub also_public: Vec<Network>,
}

/// Which destinations a connection may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Public addresses only: what strangers' DNS named.
    Public,
    /// Any address: what the operator's own route named.
    Anywhere,
}

/// Why there is no connection, told apart by whose fault it is.
#[derive(Debug, Error)]
pub enum DialFailure {
    /// The destination refused, cannot be reached, or did not answer in time: try the next address.
    #[error("cannot connect to {target}: {error}")]
    Destination {
        /// The address tried.
        target: SocketAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The destination is no public address: never tried, and will not be.
    #[error("{target} is not a public address")]
    NotPublic {
        /// The address refused.
        target: SocketAddr,
    },
    /// The source address cannot be used: suspend the source, the destination is innocent.
    #[error("cannot send from {address}: {error}")]
    Source {
        /// The source address.
        address: IpAddr,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// This process cannot open sockets (no file descriptors, no memory, forbidden by a local firewall).
    #[error("cannot open a connection: {error}")]
    Ourselves {
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// Opens connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    // Today sockets are bound directly; an egress node's SOCKS5 port becomes the second kind of route out.
    also_public: Arc<[Network]>,
}

impl Dialer {
    /// A dialer that binds its sockets in this process.
    pub fn direct(config: &DialerConfig) -> Self {
        Self { also_public: config.also_public.clone().into() }
    }

    /// Connects to `target`, from `source` if given, within `timeout`. The connection has Nagle's algorithm off.
    pub async fn dial(
        &self,
        target: SocketAddr,
        source: Option<IpAddr>,
        reach: Reach,
        timeout: Duration,
    ) -> Result<TcpStream, DialFailure> {
        if reach == Reach::Public && !self.counts_as_public(target.ip()) {
            return Err(DialFailure::NotPublic { target });
        }
        let destination = |error| DialFailure::Destination { target, error };
        if source.is_some_and(|source| source.is_ipv4() != target.is_ipv4()) {
            let why = "the source address is of the other IP version";
            return Err(destination(io::Error::new(io::ErrorKind::Unsupported, why)));
        }
        let socket = open(target, source)?;
        let stream = match tokio::time::timeout(timeout, socket.connect(target)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(blame(error, target, source)),
            Err(_) => {
                let why = format!("no answer within {} s", timeout.as_secs_f32());
                return Err(destination(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
        };
        stream.set_nodelay(true).map_err(destination)?;
        Ok(stream)
    }

    fn counts_as_public(&self, address: IpAddr) -> bool {
        is_public(address) || self.also_public.iter().any(|network| network.contains(address))
    }
}

fn open(target: SocketAddr, source: Option<IpAddr>) -> Result<TcpSocket, DialFailure> {
    let opened = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = opened.map_err(|error| match TcpSocket::new_v4() {
        // A system without IPv6 cannot reach this address; it can reach others.
        Ok(_) if target.is_ipv6() => DialFailure::Destination { target, error },
        _ => DialFailure::Ourselves { error },
    })?;
    if let Some(address) = source {
        // Ports of closed connections stay in TIME_WAIT; without this a busy source runs out of them.
        socket.set_reuseaddr(true).map_err(|error| DialFailure::Ourselves { error })?;
        socket.bind(SocketAddr::new(address, 0)).map_err(|error| DialFailure::Source { address, error })?;
    }
    Ok(socket)
}

/// Whose fault a failed connect is. `AddrNotAvailable` means that no port is left, or, towards IPv6, that the system has no
/// IPv6 address to send from: then it is as unreachable as any other destination without a way.
fn blame(error: io::Error, target: SocketAddr, source: Option<IpAddr>) -> DialFailure {
    match (error.kind(), source) {
        (io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse, Some(address)) => {
            DialFailure::Source { address, error }
        }
        (io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse, None) if target.is_ipv4() => {
            DialFailure::Ourselves { error }
        }
        (io::ErrorKind::OutOfMemory | io::ErrorKind::PermissionDenied, _) => DialFailure::Ourselves { error },
        _ => DialFailure::Destination { target, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "192.0.2.1:25";
    const V6: &str = "[2001:db8::1]:25";

    #[track_caller]
    fn check(kind: io::ErrorKind, target: &str, source: Option<&str>, expected: &str) {
        let source = source.map(|source| source.parse().unwrap());
        let blamed = match blame(io::Error::from(kind), target.parse().unwrap(), source) {
            DialFailure::Destination { .. } => "destination",
            DialFailure::NotPublic { .. } => "not public",
            DialFailure::Source { .. } => "source",
            DialFailure::Ourselves { .. } => "ourselves",
        };
        assert_eq!(blamed, expected);
    }

    #[test]
    fn whoever_cannot_be_reached_is_to_blame() {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
        for kind in [ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut] {
            check(kind, V4, Some("198.51.100.1"), "destination");
        }
    }

    #[test]
    fn a_source_without_a_free_port_is_to_blame() {
        check(io::ErrorKind::AddrNotAvailable, V4, Some("198.51.100.1"), "source");
        check(io::ErrorKind::AddrNotAvailable, V4, None, "ourselves");
    }

    #[test]
    fn an_ipv6_destination_of_a_system_without_ipv6_is_unreachable() {
        check(io::ErrorKind::AddrNotAvailable, V6, None, "destination");
    }

    #[test]
    fn a_local_firewall_is_our_own_fault() {
        check(io::ErrorKind::PermissionDenied, V4, None, "ourselves");
    }
}
