//! `postrider up`: the whole cluster in one process, with nats-servers as its children. The same code and the same queue as in a
//! cluster, only nearer. It starts what is needed in order, says where everything is, and stops in the opposite order.

mod arguments;
pub use arguments::{Ports, UpArgs};

mod banner;

mod demo;

mod durability;
pub use durability::{Durability, Sync};

mod nats_servers;

mod store;

use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use postrider_control::{Control, ControlConfig};
use postrider_delivery::Delivery;
use postrider_ingress::{Ingress, IngressConfig, ListenerConfig, ListenerKind, NetworkConfig};
use postrider_net::{Dns, SiteResolver};
use postrider_runtime::{host, shutdown, telemetry};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::process::{Layout, Process, ProcessConfig};
use crate::receiver::Receiver;
use nats_servers::NatsServers;
use store::{Secrets, Store};

/// The name of the one process among the members: always the same, so that it has its shards back at once.
const MEMBER: &str = "up";

/// Runs the cluster until a signal.
///
/// # Errors
/// One line that says what is wrong and what to do; nothing is left running.
pub async fn run(args: UpArgs) -> anyhow::Result<()> {
    let mut config = match &args.config {
        Some(file) => ProcessConfig::load(file)?,
        None => ProcessConfig::of_the_environment()?,
    };
    if config.log.filter.is_none() {
        // The banner says what matters; the rest is for whoever asks.
        config.log.filter = Some("warn".to_owned());
    }
    telemetry::init(&config.log)?;
    let stop = shutdown::on_signals()?;
    let store = Store::open(&args.data)?;
    let (durability, keeping) = args.durability(&store.path)?;
    if let Some(file) = &args.ready_file
        && file.exists()
    {
        std::fs::remove_file(file).with_context(|| format!("cannot remove the old {}", file.display()))?;
    }
    let ports = Ports::claim(args.port_base, keeping.servers)?;
    let secrets = store.secrets()?;
    let program = nats_servers::find().await?;
    let mut nats = NatsServers::start(&program, &store.path, &ports, keeping.sync).await?;
    if keeping.sync == Sync::Together {
        config.nats.sync_folder = Some(store.path.clone());
    }
    let pids = iter::once(std::process::id()).chain(nats.pids()).collect();
    let ground = Ground { args, durability, store, ports, secrets, pids };
    let signals = Signals { stop, started: CancellationToken::new() };
    let served = tokio::select! {
        served = serve(&ground, config, &signals) => served,
        () = stopped_before(&signals) => Ok(()),
        ended = nats.keep() => ended,
    };
    nats.stop().await;
    served
}

/// What this start stands on.
struct Ground {
    args: UpArgs,
    durability: Durability,
    store: Store,
    ports: Ports,
    secrets: Secrets,
    pids: Vec<u32>,
}

/// A stop is asked for; everything was started.
struct Signals {
    stop: CancellationToken,
    started: CancellationToken,
}

/// Waits for a stop that comes before everything was started; after that, `serve` ends by itself in good order.
async fn stopped_before(signals: &Signals) {
    signals.stop.cancelled().await;
    if signals.started.is_cancelled() {
        std::future::pending::<()>().await;
    }
}

async fn serve(ground: &Ground, mut config: ProcessConfig, signals: &Signals) -> anyhow::Result<()> {
    let Ground { args, durability, store, ports, secrets, pids } = ground;
    let stop = &signals.stop;
    config.nats.urls = ports.nats.iter().map(|address| format!("nats://{address}")).collect();
    config.nats.replicas = ports.nats.len();
    config.cluster.member = MEMBER.to_owned();
    config.cluster.layout = Layout::Single;
    let process = Process::join(&config, &["delivery", "ingress", "control"]).await?;

    let mut services = Services { tasks: JoinSet::new(), stop: CancellationToken::new() };
    let receiver = match args.no_receiver {
        true => None,
        false => Some(services.receiver(&config, ports, store).await?),
    };
    demo::prepare(&process.spool, secrets, args, receiver).await?;
    let control = services.control(&config, ports, store, secrets, &process).await?;
    let cluster_key = Arc::new(secrets.cluster_key.clone());
    let delivery = Delivery::build(
        config.delivery.clone(),
        postrider_delivery::Collaborators {
            spool: process.spool.clone(),
            snapshot: process.snapshot.clone(),
            cluster_key,
            registry: process.registry.clone(),
            readiness: process.readiness.clone(),
            member: process.member.clone(),
            ehlo_name: config.ehlo_name()?,
            standing: process.membership.standing(),
        },
    )?;
    let ingress = ingress(args, &config, ports, secrets, &process).await?.bind().await?;
    let listeners = ingress.addresses().to_vec();
    let address_of = |name: &str| listeners.iter().find(|(known, _)| known == name).map(|(_, address)| *address);

    // Mail is taken last and refused first; delivery outlives ingress, and control both.
    let (stop_ingress, stop_delivery) = (CancellationToken::new(), CancellationToken::new());
    let metrics = process.admin(ports.metrics, services.stop.clone()).await?;
    signals.started.cancel();
    let mut delivering = tokio::spawn(delivery.run(stop_delivery.clone()));
    let taking = tokio::spawn(ingress.run(stop_ingress.clone()));
    let facts = banner::Facts {
        submission: address_of("submission"),
        submissions: address_of("submissions"),
        relay: address_of("relay"),
        control,
        metrics,
        nats: &ports.nats,
        receiver,
        secrets,
        store,
        args,
        durability: *durability,
        pids,
    };
    facts.wait_until_ready(&process.readiness, stop).await;
    if !stop.is_cancelled() {
        facts.announce()?;
    }

    let early = tokio::select! {
        () = stop.cancelled() => None,
        ended = &mut delivering => Some(ended),
    };
    if early.is_none() {
        banner::mention("stopping: finishing what is under way, within a minute (a second Ctrl-C ends it at once)");
    }
    stop_ingress.cancel();
    taking.await?;
    stop_delivery.cancel();
    let delivered = match early {
        Some(ended) => ended,
        None => delivering.await,
    };
    process.membership.leave().await;
    services.finish().await;
    delivered?
}

async fn ingress(
    args: &UpArgs,
    config: &ProcessConfig,
    ports: &Ports,
    secrets: &Secrets,
    process: &Process,
) -> anyhow::Result<Ingress> {
    let mut settings = match &config.ingress {
        Some(settings) => settings.clone(),
        None => IngressConfig::new(host::name()?),
    };
    let own = [
        ListenerConfig::new("relay", ports.relay, ListenerKind::Relay),
        ListenerConfig::new("submission", ports.submission, ListenerKind::Submission),
        ListenerConfig::new("submissions", ports.submissions, ListenerKind::Submissions),
    ];
    settings.listeners.extend(own);
    settings.certificate_file.get_or_insert_with(|| secrets.certificate.clone());
    settings.key_file.get_or_insert_with(|| secrets.certificate_key.clone());
    if args.trust_loopback {
        settings.networks.push(NetworkConfig {
            cidrs: vec!["127.0.0.0/8".parse()?, "::1/128".parse()?],
            tenant: demo::TENANT.parse()?,
            any_sender: true,
            class: postrider_model::Class::Bulk,
        });
    }
    let sites = SiteResolver::new(Dns::new(&config.delivery.dns)?, &config.delivery.sites);
    let with = postrider_ingress::Collaborators {
        spool: process.spool.clone(),
        snapshot: process.snapshot.clone(),
        cluster_key: secrets.cluster_key.clone(),
        sites,
        registry: process.registry.clone(),
        readiness: process.readiness.clone(),
    };
    Ok(Ingress::build(settings, with).await?)
}

/// Settings of the control service on the port of `up`, with its token where the configuration names none.
fn with_own(mut settings: ControlConfig, listen: SocketAddr, token_file: PathBuf) -> ControlConfig {
    settings.listen = listen;
    if settings.token_file.as_os_str().is_empty() {
        settings.token_file = token_file;
    }
    settings
}

/// What runs beside ingress and delivery.
struct Services {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Services {
    async fn receiver(&mut self, config: &ProcessConfig, ports: &Ports, store: &Store) -> anyhow::Result<SocketAddr> {
        let mut settings = config.receiver.clone();
        settings.listen = ports.receiver;
        settings.ledger.get_or_insert_with(|| store.file("receiver.ndjson"));
        let receiver = Receiver::bind(settings).await?;
        let address = receiver.address()?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = receiver.run(stop).await {
                tracing::error!(error = format!("{error:#}"), "the receiver ended");
            }
        });
        Ok(address)
    }

    async fn control(
        &mut self,
        config: &ProcessConfig,
        ports: &Ports,
        store: &Store,
        secrets: &Secrets,
        process: &Process,
    ) -> anyhow::Result<SocketAddr> {
        let settings = match &config.control {
            Some(settings) => settings.clone(),
            None => ControlConfig::default(),
        };
        let settings = with_own(settings, ports.control, store.file("token"));
        let with = postrider_control::Collaborators {
            spool: process.spool.clone(),
            cluster_key: secrets.cluster_key.clone(),
            registry: process.registry.clone(),
            readiness: process.readiness.clone(),
        };
        let bound = Control::build(&settings, with)?.bind().await?;
        let address = bound.address();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if let Err(error) = bound.run(stop).await {
                tracing::error!(%error, "control ended");
            }
        });
        Ok(address)
    }

    async fn finish(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_table_need_not_name_the_token_that_up_makes() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("postrider.toml");
        let token_of = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let settings = ProcessConfig::load(&file).unwrap().control.unwrap();
            assert_eq!(settings.audit_every_secs, 15);
            with_own(settings, "127.0.0.1:1".parse().unwrap(), "store/token".into()).token_file
        };
        assert_eq!(token_of("[control]\naudit_every_secs = 15\n"), PathBuf::from("store/token"));
        let named = token_of("[control]\naudit_every_secs = 15\ntoken_file = '/etc/token'\n");
        assert_eq!(named, PathBuf::from("/etc/token"));
    }
}
