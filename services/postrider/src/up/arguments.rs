//! The flags of `postrider up`, and the ports they ask for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use postrider_model::{Domain, NextHop, Route};

/// What a `250` promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// Survives kill -9 of anything; not a power cut.
    Process,
    /// On disk (fsync) before `250`: survives a power cut.
    Disk,
}

impl Durability {
    /// The name of the class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Disk => "disk",
        }
    }

    /// What it means, for the banner.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Process => "a 250 survives kill -9 of anything, not a power cut (--durability disk does)",
            Self::Disk => "a 250 means the mail is on disk (fsync)",
        }
    }
}

/// The whole cluster in one process, with nats-server as its child.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    postrider up\n  \
    postrider up --port-base 12000 --durability disk\n  \
    postrider up --no-receiver --route 'example.net=127.0.0.1:2525' --route 'lists.example.net=lmtp:127.0.0.1:24'\n  \
    postrider up --route '*=relay1.example.net:25,relay2.example.net:25'\n\n\
    Unless --no-receiver or a route for '*' is given, all mail goes to the simulated receiver: nothing leaves this machine.")]
pub struct UpArgs {
    /// Where the queue, the secrets and the logs are kept.
    #[arg(long, value_name = "DIR", default_value = ".postrider")]
    pub data: PathBuf,

    /// What a 250 promises.
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    pub durability: Durability,

    /// Ports: relay N+25, submission N+587, submission with implicit TLS N+465, control N+90, metrics and health N+91,
    /// NATS N+22, receiver N+26. 0 takes free ports.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(0..=64_900))]
    pub port_base: u16,

    /// Settings of the services: tables [ingress], [delivery], [control], [receiver], [nats], [log].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Start no simulated receiver; mail goes to the exchangers of the world unless a route says otherwise.
    #[arg(long)]
    pub no_receiver: bool,

    /// Where mail for a domain goes instead of its MX: DOMAIN=HOST:PORT[,HOST:PORT...], tried in order; lmtp:HOST:PORT for
    /// LMTP; '*' is every domain without a route of its own. Repeatable.
    #[arg(long = "route", value_name = "DOMAIN=HOST:PORT[,...]", value_parser = parse_route)]
    pub routes: Vec<Route>,

    /// The relay listener takes mail from 127.0.0.1 without AUTH, with any sender domain, as the demo tenant.
    #[arg(long)]
    pub trust_loopback: bool,

    /// Where to write addresses and secrets as JSON once everything serves.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

fn parse_route(text: &str) -> anyhow::Result<Route> {
    let (domain, hops) = text.split_once('=').context("expected DOMAIN=HOST:PORT[,HOST:PORT...]")?;
    let domain = if domain == "*" { None } else { Some(Domain::from_str(domain)?) };
    let next_hops = hops.split(',').map(NextHop::from_str).collect::<Result<Vec<_>, _>>()?;
    Ok(Route { domain, next_hops, origin: "up".to_owned() })
}

/// Where everything listens, on 127.0.0.1. A port of 0 is chosen by the system when it is bound; only that of NATS is chosen
/// before, because its configuration names it.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// SMTP from networks that may relay.
    pub relay: SocketAddr,
    /// Submission with STARTTLS.
    pub submission: SocketAddr,
    /// Submission with implicit TLS.
    pub submissions: SocketAddr,
    /// gRPC.
    pub control: SocketAddr,
    /// Metrics and health.
    pub metrics: SocketAddr,
    /// NATS.
    pub nats: SocketAddr,
    /// The simulated receiver.
    pub receiver: SocketAddr,
}

const NATS: u16 = 22;

impl Ports {
    /// The ports of a base, each checked to be free, so that a conflict is told before anything starts. With base 0 only NATS
    /// has a port yet.
    ///
    /// # Errors
    /// Names the first port that is taken and the flag that moves all of them.
    pub fn claim(base: u16) -> anyhow::Result<Self> {
        let mut kept = Vec::new();
        let mut take = |name: &str, offset: u16| -> anyhow::Result<SocketAddr> {
            let port = if base == 0 { 0 } else { base.saturating_add(offset) };
            let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if port == 0 && offset != NATS {
                return Ok(wanted);
            }
            match TcpListener::bind(wanted) {
                Ok(listener) => {
                    let address = listener.local_addr()?;
                    kept.push(listener);
                    Ok(address)
                }
                Err(error) => bail!(
                    "port {port} for {name} cannot be bound ({error}): end what listens on {wanted}, or choose other ports \
                     with --port-base N (0 takes free ones)"
                ),
            }
        };
        Ok(Self {
            relay: take("relay", 25)?,
            submission: take("submission", 587)?,
            submissions: take("submission with implicit TLS", 465)?,
            control: take("control", 90)?,
            metrics: take("metrics and health", 91)?,
            nats: take("NATS", NATS)?,
            receiver: take("the receiver", 26)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_names_a_domain_and_its_next_hops() {
        let route = parse_route("Example.NET=127.0.0.1:2525,lmtp:[::1]:24").unwrap();
        assert_eq!(route.domain.unwrap().as_str(), "example.net");
        let hops: Vec<String> = route.next_hops.iter().map(ToString::to_string).collect();
        assert_eq!(hops, ["127.0.0.1:2525", "lmtp:[::1]:24"]);
        assert_eq!(parse_route("*=localhost:25").unwrap().domain, None);
        for bad in ["example.net", "example.net=", "=1.2.3.4:25", "example.net=host", "a b=host:25"] {
            assert!(parse_route(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_helps() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let base = holder.local_addr().unwrap().port() - 25;
        let error = Ports::claim(base).unwrap_err().to_string();
        assert!(error.contains(&format!("port {} for relay", base + 25)) && error.contains("--port-base"), "{error}");
    }
}
