//! The flags of `postrider up`, and the ports they ask for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Args;
use postrider_model::{Domain, NextHop, Route};

use super::durability::{Durability, Keeping};

/// The whole cluster in one process, with nats-server as its child.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    postrider up\n  \
    postrider up --port-base 12000 --durability disk\n  \
    postrider up --nats 3 --durability quorum+disk\n  \
    postrider up --no-receiver --route 'example.net=127.0.0.1:2525' --route 'lists.example.net=lmtp:127.0.0.1:24'\n  \
    postrider up --route '*=relay1.example.net:25,relay2.example.net:25'\n\n\
    Unless --no-receiver or a route for '*' is given, all mail goes to the simulated receiver: nothing leaves this machine.")]
pub struct UpArgs {
    /// Where the queue, the secrets and the logs are kept.
    #[arg(long, value_name = "DIR", default_value = ".postrider")]
    pub data: PathBuf,

    /// What a 250 promises [default: process, with --nats 3 quorum].
    #[arg(long, value_enum, value_name = "CLASS", hide_default_value = true)]
    pub durability: Option<Durability>,

    /// How many nats-servers to start, 1 or 3 [default: 1 for process and, on ext4 and btrfs, for disk; else 3].
    #[arg(long, value_name = "COUNT", value_parser = one_or_three)]
    pub nats: Option<u8>,

    /// Ports: relay N+25, submission N+587, submission with implicit TLS N+465, control N+90, metrics and health N+91,
    /// NATS N+22 (three: to N+24, among themselves N+32 to N+34), receiver N+26. 0 takes free ports.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(0..=64_900))]
    pub port_base: u16,

    /// Settings of the services: tables [ingress], [delivery], [control], [receiver], [nats], [log]. The environment goes before
    /// it, and counts without it: POSTRIDER_DELIVERY__LONGEST_REPLY_SECS=10.
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

impl UpArgs {
    /// The class that the flags ask for, and how its promise is kept with the store in this folder.
    ///
    /// # Errors
    /// If the number of servers does not go with the class.
    pub fn durability(&self, data: &Path) -> anyhow::Result<(Durability, Keeping)> {
        let by_servers = if self.nats == Some(3) { Durability::Quorum } else { Durability::Process };
        let class = self.durability.unwrap_or(by_servers);
        let Some(keeping) = Keeping::of(class, self.nats, data) else {
            bail!(
                "--durability {} does not go with --nats {}: leave --nats out, or choose --durability {}",
                class.as_str(),
                self.nats.unwrap_or(1),
                if self.nats == Some(3) { "quorum" } else { "process or disk" }
            );
        };
        Ok((class, keeping))
    }
}

fn one_or_three(text: &str) -> Result<u8, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("it is 1 or 3"),
    }
}

fn parse_route(text: &str) -> anyhow::Result<Route> {
    let (domain, hops) = text.split_once('=').context("expected DOMAIN=HOST:PORT[,HOST:PORT...]")?;
    let domain = if domain == "*" { None } else { Some(Domain::from_str(domain)?) };
    let next_hops = hops.split(',').map(NextHop::from_str).collect::<Result<Vec<_>, _>>()?;
    Ok(Route { domain, next_hops, origin: "up".to_owned() })
}

/// Where everything listens, on 127.0.0.1. A port of 0 is chosen by the system when it is bound; only that of NATS is chosen
/// before, because its configuration names it.
#[derive(Clone, Debug)]
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
    /// Every nats-server, for clients.
    pub nats: Vec<SocketAddr>,
    /// Every nats-server, for the others; none where there is one.
    pub nats_routes: Vec<SocketAddr>,
    /// The simulated receiver.
    pub receiver: SocketAddr,
}

/// The first nats-server for clients and for other nats-servers; further ones follow.
const NATS: u16 = 22;
const NATS_ROUTES: u16 = 32;

impl Ports {
    /// The ports of a base for so many nats-servers, each checked to be free, so that a conflict is told before anything
    /// starts. With base 0 only NATS has ports yet.
    ///
    /// # Errors
    /// Names the first port that is taken and the flag that moves all of them.
    pub fn claim(base: u16, nats_servers: usize) -> anyhow::Result<Self> {
        let mut kept = Vec::new();
        let mut take = |name: &str, offset: u16| -> anyhow::Result<SocketAddr> {
            let port = if base == 0 { 0 } else { base.saturating_add(offset) };
            let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if port == 0 && !(NATS..NATS + 3).contains(&offset) && !(NATS_ROUTES..NATS_ROUTES + 3).contains(&offset) {
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
        let servers = if nats_servers == 1 { 0..1 } else { 0..3 };
        let routes = if nats_servers == 1 { 0..0 } else { 0..3 };
        Ok(Self {
            relay: take("relay", 25)?,
            submission: take("submission", 587)?,
            submissions: take("submission with implicit TLS", 465)?,
            control: take("control", 90)?,
            metrics: take("metrics and health", 91)?,
            nats: servers.map(|number| take("NATS", NATS + number)).collect::<Result<_, _>>()?,
            nats_routes: routes.map(|number| take("NATS routes", NATS_ROUTES + number)).collect::<Result<_, _>>()?,
            receiver: take("the receiver", 26)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::durability::Sync;
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
        let error = Ports::claim(base, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("port {} for relay", base + 25)) && error.contains("--port-base"), "{error}");
    }

    #[test]
    fn the_number_of_servers_goes_with_the_class() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            up: UpArgs,
        }
        let line = |flags: &[&str]| <Line as clap::Parser>::try_parse_from(["up"].iter().chain(flags));
        let asked_in = |folder: &str, flags: &[&str]| {
            let line = line(flags).unwrap();
            let asked = line.up.durability(Path::new(folder));
            asked.map(|(class, how)| (class.as_str(), how.servers, how.sync)).map_err(|error| error.to_string())
        };
        // No store for mail, but a filesystem that promises nothing about renamed files.
        let asked = |flags: &[&str]| asked_in("/proc", flags);
        assert_eq!(asked(&[]).unwrap(), ("process", 1, Sync::Never));
        assert_eq!(asked(&["--nats", "3"]).unwrap(), ("quorum", 3, Sync::Never));
        assert_eq!(asked(&["--durability", "quorum+disk"]).unwrap(), ("quorum+disk", 3, Sync::Always));
        assert_eq!(asked(&["--durability", "disk"]).unwrap(), ("disk", 3, Sync::Always));
        assert_eq!(asked(&["--durability", "disk", "--nats", "1"]).unwrap(), ("disk", 1, Sync::Always));
        assert!(asked(&["--durability", "process", "--nats", "3"]).unwrap_err().contains("--durability quorum"));
        assert!(asked(&["--durability", "quorum", "--nats", "1"]).unwrap_err().contains("process or disk"));
        let refusal = line(&["--nats", "2"]).unwrap_err().to_string();
        assert!(refusal.contains("'--nats <COUNT>': it is 1 or 3"), "{refusal}");
        if postrider_nats::suits(Path::new("/")) {
            assert_eq!(asked_in("/", &["--durability", "disk"]).unwrap(), ("disk", 1, Sync::Together));
            assert_eq!(asked_in("/", &["--durability", "disk", "--nats", "3"]).unwrap(), ("disk", 3, Sync::Always));
        }
    }
}
