//! What every server process has, whatever it serves: configuration, logs, the queue, the configuration in force, a place among
//! the members, the admin endpoints. `postrider up` has it too.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use postrider_control::ControlConfig;
use postrider_delivery::DeliveryConfig;
use postrider_ingress::IngressConfig;
use postrider_model::{Domain, MemberId, ShardLayout, Snapshot};
use postrider_nats::{Member, Membership, NatsConfig, PROMOTER, Spool};
use postrider_runtime::telemetry::LogConfig;
use postrider_runtime::{Admin, ClusterKey, Hysteresis, Readiness, clock, host, watch_connection};
use prometheus::Registry;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::receiver::ReceiverConfig;

/// What variables of the environment that set keys begin with.
const PREFIX: &str = "POSTRIDER";

/// A configuration file. One file may serve all processes of a cluster: each reads the tables that concern it.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// `[log]`: format and filter.
    pub log: LogConfig,
    /// `[metrics]`: metrics and health.
    pub metrics: MetricsConfig,
    /// `[cluster]`: what the processes of a cluster have in common.
    pub cluster: ClusterConfig,
    /// `[nats]`: where the queue is.
    pub nats: NatsConfig,
    /// `[ingress]`.
    pub ingress: Option<IngressConfig>,
    /// `[delivery]`.
    pub delivery: DeliveryConfig,
    /// `[control]`.
    pub control: Option<ControlConfig>,
    /// `[receiver]`.
    pub receiver: ReceiverConfig,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `/livez`, `/readyz` and `/metrics` are served; nowhere if absent.
    pub address: Option<SocketAddr>,
}

/// `[cluster]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The file with the cluster key (32 bytes, mode 0600): the same in every process.
    pub secret_key_file: Option<PathBuf>,
    /// The name of this process among the members: its own, and the same again after a restart. By default the host name
    /// and what it serves.
    pub member: String,
    /// How the queue is cut at the very first start: `cluster` (64 + 16 shards) or `single` (4 + 1).
    pub layout: Layout,
}

/// How the queue is cut at the very first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// 64 + 16 shards on 4 + 1 streams.
    #[default]
    Cluster,
    /// 4 + 1 shards on one stream each.
    Single,
}

impl From<Layout> for ShardLayout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Cluster => Self::CLUSTER,
            Layout::Single => Self::SINGLE,
        }
    }
}

impl ProcessConfig {
    /// Reads a file; variables of the environment go before it.
    ///
    /// # Errors
    /// Names the file, the line or key, and the nearest known key.
    pub fn load(file: &Path) -> anyhow::Result<Self> {
        let config: Self = postrider_runtime::load_config(file, PREFIX)?;
        config.check().with_context(|| file.display().to_string())?;
        Ok(config)
    }

    /// What the environment says, without a file.
    ///
    /// # Errors
    /// Names the variable, and the nearest known key.
    pub fn of_the_environment() -> anyhow::Result<Self> {
        let said =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let config: Self = postrider_runtime::parse_config("", "the environment", PREFIX, said)?;
        config.check().context("the environment")?;
        Ok(config)
    }

    /// What can be said before anything is started.
    fn check(&self) -> anyhow::Result<()> {
        let delays = self.nats.tier_delays_secs;
        if !(delays[0] > 0.0 && delays.is_sorted_by(|one, next| one < next)) {
            bail!("nats.tier_delays_secs must grow from tier to tier, from more than 0: it is {delays:?}");
        }
        self.delivery.shaping.build().map(drop)
    }

    /// The cluster key.
    ///
    /// # Errors
    /// If it is not configured or cannot be read.
    pub fn cluster_key(&self) -> anyhow::Result<ClusterKey> {
        let file = self.cluster.secret_key_file.as_ref().context(
            "cluster.secret_key_file is missing: name the file with the 32 bytes that all processes share (`postrider up` \
             makes one as <data>/secret.key; or: head -c 32 /dev/urandom > secret.key && chmod 600 secret.key)",
        )?;
        Ok(ClusterKey::load(file)?)
    }

    /// The name of this process among the members.
    ///
    /// # Errors
    /// If the name is malformed.
    pub fn member(&self, role: &str) -> anyhow::Result<MemberId> {
        let name = if self.cluster.member.is_empty() {
            format!("{}-{role}", host::name()?.as_str().replace(['.', '_'], "-"))
        } else {
            self.cluster.member.clone()
        };
        name.parse().context("cluster.member")
    }

    /// The name for EHLO.
    ///
    /// # Errors
    /// If the name is malformed.
    pub fn ehlo_name(&self) -> anyhow::Result<Domain> {
        if self.delivery.ehlo_name.is_empty() {
            return Ok(host::name()?);
        }
        self.delivery.ehlo_name.parse().context("delivery.ehlo_name")
    }
}

/// A process that has reached its queue and is a member.
pub struct Process {
    /// The queue.
    pub spool: Spool,
    /// The configuration in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Its metrics.
    pub registry: Registry,
    /// Whether it can work.
    pub readiness: Readiness,
    /// Its membership.
    pub membership: Membership,
    /// Its name.
    pub member: MemberId,
    /// How long NATS may be out of reach before the process is not ready, and how long it must be back.
    patience: Hysteresis,
}

impl Process {
    /// Reaches the queue, makes or checks its layout, and joins the members.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do.
    pub async fn join(config: &ProcessConfig, roles: &[&str]) -> anyhow::Result<Self> {
        let role = roles.first().copied().unwrap_or("process");
        let member = config.member(role)?;
        let name = format!("postrider {role} {member}");
        let spool = Spool::open(&config.nats, &name, config.cluster.layout.into()).await?;
        let snapshot = spool.watch_snapshot().await;
        let promotes = roles.contains(&"delivery") && config.delivery.promote;
        let me = Member {
            id: member.clone(),
            roles: roles.iter().copied().chain(promotes.then_some(PROMOTER)).map(ToOwned::to_owned).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_revision: 0,
            started: clock::now(),
        };
        let membership = spool.join(me, snapshot.clone());
        let registry = Registry::new();
        let readiness = Readiness::new();
        let patience = config.ingress.as_ref().map_or_else(Hysteresis::default, |ingress| ingress.timeouts.patience());
        Ok(Self { spool, snapshot, registry, readiness, membership, member, patience })
    }

    /// Serves health and metrics, and watches the connection to NATS.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn admin(&self, address: SocketAddr, shutdown: CancellationToken) -> anyhow::Result<SocketAddr> {
        let admin = Admin::bind(address, self.registry.clone(), self.readiness.clone())
            .await
            .with_context(|| format!("metrics and health cannot listen on {address}"))?;
        let bound = admin.local_address()?;
        let flag = self.readiness.flag("nats");
        let (spool, patience, stop) = (self.spool.clone(), self.patience.clone(), shutdown.clone());
        tokio::spawn(async move { watch_connection(|| spool.connected(), &flag, patience, &stop).await });
        tokio::spawn(async move {
            if let Err(error) = admin.run(shutdown).await {
                tracing::error!(%error, "metrics and health ended");
            }
        });
        Ok(bound)
    }
}
