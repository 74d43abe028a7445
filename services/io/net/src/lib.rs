//! Everything delivery and ingress need from the network: names, addresses, sockets, TLS, and what a recipient domain
//! resolves to. Nothing here speaks SMTP, decides when to send, or remembers longer than DNS allows.
//!
//! Reading order: [`Dns`] asks name servers, [`SiteResolver`] turns a recipient domain into a site and an [`ExchangePlan`] of hosts
//! (routes first, else MX), [`Dialer`] opens a socket to one address of one host, [`tls`] encrypts it.

mod host;
pub use host::Host;

mod dns;
pub use dns::{Dns, DnsConfig, DnsFailure, DnsSetupError, Exchanger, Exchangers};

mod public;
pub use public::{Network, ParseNetworkError, is_public};

mod dialer;
pub use dialer::{DialFailure, Dialer, DialerConfig, Reach};

mod plan;
pub use plan::{ExchangePlan, PlannedHost, Resolved};

mod site_resolver;
pub use site_resolver::{SiteResolver, SiteResolverConfig};

pub mod tls;
