//! Finds an exchanger that will talk: hosts by preference, their addresses, TLS where it is offered, plain text once more
//! where a handshake fails (RFC 7435). The first that is ready wins; else the failure of the last is reported.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use postrider_dispatch::dispatcher::{Failure, FailureScope};
use postrider_model::{Domain, EnhancedCode, Reply};
use postrider_net::{DialFailure, Dialer, ExchangePlan, PlannedHost, SiteResolver, tls};
use postrider_smtp::{Bounds, Client, ClientConfig, CloseReason, TlsWish};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::link::Link;
use crate::session::{Progress, Session, SessionSettings};

/// Everything that is needed to reach an exchanger.
#[derive(Clone)]
pub struct Connector {
    /// Looks addresses up.
    pub resolver: SiteResolver,
    /// Opens sockets.
    pub dialer: Dialer,
    /// Deadlines and TLS.
    pub settings: SessionSettings,
    /// The name for EHLO.
    pub ehlo_name: Domain,
    /// How long one TCP connect may take.
    pub connect_timeout: Duration,
    /// Addresses tried for one conversation at most.
    pub most_addresses: usize,
}

/// An exchanger that is ready for a message.
pub struct Reached {
    /// The connection.
    pub session: Session,
    /// Its host, as the plan names it.
    pub exchanger: String,
    /// Its address and port.
    pub address: SocketAddr,
}

/// Why none was reached, and where it was tried last.
#[derive(Debug)]
pub struct Unreached {
    /// Whose fault it is and what was said.
    pub failure: Failure,
    /// Nothing will change that: every address is one that must not be connected to.
    pub permanent: bool,
    /// The host tried last.
    pub exchanger: String,
    /// The address tried last; empty if none was.
    pub address: String,
}

impl Connector {
    /// Tries the hosts of a plan until one is ready.
    pub async fn reach(&self, plan: &ExchangePlan, source: Option<IpAddr>, seed: u64) -> Result<Reached, Unreached> {
        let mut last = Unreached {
            failure: exchange_failure(None, "no exchanger to try"),
            permanent: false,
            exchanger: String::new(),
            address: String::new(),
        };
        let (mut tried, mut not_public) = (0, 0);
        for host in plan.in_order(&mut StdRng::seed_from_u64(seed)) {
            let addresses = match self.resolver.addresses(&host).await {
                Ok(addresses) => addresses,
                Err(failure) => {
                    last.exchanger = host.host.to_string();
                    last.failure = exchange_failure(Some(failure.reply()), &failure.to_string());
                    tried += 1;
                    continue;
                }
            };
            for address in addresses {
                if tried >= self.most_addresses {
                    return Err(last);
                }
                tried += 1;
                let target = SocketAddr::new(address, host.port);
                last.exchanger = host.host.to_string();
                last.address = target.to_string();
                match self.try_address(&host, target, source).await {
                    Ok(session) => return Ok(Reached { session, exchanger: last.exchanger, address: target }),
                    Err(TryFailure::NotPublic(failure)) => {
                        not_public += 1;
                        last.failure = failure;
                    }
                    Err(TryFailure::Other(failure)) if failure.scope == FailureScope::Exchange => {
                        last.failure = failure
                    }
                    Err(TryFailure::Other(failure)) => {
                        last.failure = failure;
                        return Err(last);
                    }
                }
            }
        }
        last.permanent = tried > 0 && tried == not_public;
        Err(last)
    }

    async fn try_address(
        &self,
        host: &PlannedHost,
        target: SocketAddr,
        source: Option<IpAddr>,
    ) -> Result<Session, TryFailure> {
        match self.greet(host, target, source, TlsWish::Opportunistic).await? {
            Ok(session) => Ok(session),
            Err(CloseReason::TlsFailed) => match self.greet(host, target, source, TlsWish::Never).await? {
                Ok(session) => Ok(session),
                Err(reason) => Err(TryFailure::Other(closed(&reason))),
            },
            Err(reason) => Err(TryFailure::Other(closed(&reason))),
        }
    }

    async fn greet(
        &self,
        host: &PlannedHost,
        target: SocketAddr,
        source: Option<IpAddr>,
        tls: TlsWish,
    ) -> Result<Result<Session, CloseReason>, TryFailure> {
        let stream =
            self.dialer.dial(target, source, host.reach, self.connect_timeout).await.map_err(TryFailure::from)?;
        let config = ClientConfig { ehlo_name: self.ehlo_name.clone(), lmtp: host.lmtp, tls };
        let client = Client::new(config, Bounds::default());
        let name = tls::server_name(&host.host, target.ip());
        let mut session = Session::new(client, Link::Plain(stream), name, self.settings.clone());
        match session.advance().await {
            Progress::Ready => Ok(Ok(session)),
            Progress::Closed(reason) => Ok(Err(reason)),
            // The machine has no transaction yet.
            Progress::Done(_) => Ok(Err(CloseReason::Finished)),
        }
    }
}

enum TryFailure {
    NotPublic(Failure),
    Other(Failure),
}

impl From<DialFailure> for TryFailure {
    fn from(failure: DialFailure) -> Self {
        let text = failure.to_string();
        match failure {
            DialFailure::NotPublic { .. } => {
                let reply = Reply::new(550, Some(EnhancedCode(5, 4, 4)), &text);
                Self::NotPublic(exchange_failure(Some(reply), &text))
            }
            DialFailure::Destination { .. } => {
                Self::Other(exchange_failure(Some(Reply::new(451, Some(EnhancedCode(4, 4, 1)), &text)), &text))
            }
            DialFailure::Source { .. } => Self::Other(Failure { scope: FailureScope::Source, reply: None, text }),
            DialFailure::Ourselves { .. } => Self::Other(Failure { scope: FailureScope::Ourselves, reply: None, text }),
        }
    }
}

fn exchange_failure(reply: Option<Reply>, text: &str) -> Failure {
    Failure { scope: FailureScope::Exchange, reply, text: text.to_owned() }
}

/// A connection that ended before it carried anything, as a failure of the exchange.
pub fn closed(reason: &CloseReason) -> Failure {
    let made = |text: String| {
        let reply = Reply::new(451, Some(EnhancedCode(4, 4, 2)), &text);
        exchange_failure(Some(reply), &text)
    };
    match reason {
        CloseReason::Finished => made("the connection ended".to_owned()),
        CloseReason::Refused { phase, reply } => {
            exchange_failure(Some(reply.clone()), &format!("refused at {}: {reply}", phase.as_str()))
        }
        CloseReason::NoTls { reply: Some(reply) } => exchange_failure(Some(reply.clone()), "TLS is required"),
        CloseReason::NoTls { reply: None } => made("TLS is required and not offered".to_owned()),
        CloseReason::TlsFailed => made("the TLS handshake failed".to_owned()),
        CloseReason::Protocol { phase, why } => made(format!("protocol error at {}: {why}", phase.as_str())),
        CloseReason::Lost { phase } => made(format!("the connection was lost at {}", phase.as_str())),
        CloseReason::TimedOut { phase } => made(format!("no reply in time at {}", phase.as_str())),
    }
}
