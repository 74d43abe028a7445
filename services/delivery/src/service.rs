//! The delivery service: builds its parts and runs them together.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use postrider_dispatch::dispatcher::Dispatcher;
use postrider_dispatch::sites;
use postrider_model::{Domain, Envelope, MemberId, Snapshot};
use postrider_nats::{PROMOTER, Spool, Standing};
use postrider_net::{Dialer, Dns, SiteResolver, tls};
use postrider_runtime::{ClusterKey, Readiness, ReadinessFlag, clock, random};
use prometheus::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arrivals::Arrivals;
use crate::config::DeliveryConfig;
use crate::connect::Connector;
use crate::fence::SharedFence;
use crate::finish::Finisher;
use crate::keeper::{Keeper, Scans};
use crate::limits::OwnedLimits;
use crate::metrics::Metrics;
use crate::ownership::Ownership;
use crate::questions;
use crate::session::SessionSettings;
use crate::shard_states;
use crate::worker::{Input, Tools, Worker, WorkerTask};

/// No transaction takes longer: its message's lease would run out.
const LONGEST_TRANSACTION: Duration = Duration::from_secs(14 * 60);

/// What delivery is given.
pub struct Collaborators {
    /// The queue.
    pub spool: Spool,
    /// The configuration in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Opens DKIM keys.
    pub cluster_key: Arc<ClusterKey>,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where readiness is shown.
    pub readiness: Readiness,
    /// The name of this process.
    pub member: MemberId,
    /// The name for EHLO.
    pub ehlo_name: Domain,
    /// How its membership stands.
    pub standing: watch::Receiver<Standing>,
}

/// The service.
pub struct Delivery {
    config: DeliveryConfig,
    spool: Spool,
    member: MemberId,
    standing: watch::Receiver<Standing>,
    tools: Tools,
    arrivals: Arrivals,
    keeper: Keeper,
    inputs: mpsc::Sender<Input>,
    worker: WorkerTask,
    ready: ReadinessFlag,
}

impl Delivery {
    /// Puts the parts together; nothing runs yet.
    ///
    /// # Errors
    /// Names the setting that is wrong.
    pub fn build(config: DeliveryConfig, with: Collaborators) -> anyhow::Result<Self> {
        let shaping = config.shaping.build()?;
        let labels: BTreeSet<String> = sites::configured_sites()
            .map(ToString::to_string)
            .chain(shaping.sites.keys().map(ToString::to_string))
            .collect();
        let metrics = Metrics::register(&with.registry, labels).context("delivery's metrics")?;
        let resolver = SiteResolver::new(Dns::new(&config.dns).context("delivery.dns")?, &config.sites);
        let fence = SharedFence::default();
        let connector = Connector {
            resolver: resolver.clone(),
            dialer: Dialer::direct(&config.dialer),
            settings: SessionSettings {
                tls: tls::opportunistic_client()?,
                longest_reply: Duration::from_secs(config.longest_reply_secs.max(1)),
                longest_transaction: LONGEST_TRANSACTION,
                fence: fence.clone(),
            },
            ehlo_name: with.ehlo_name,
            connect_timeout: Duration::from_secs(config.connect_timeout_secs.max(1)),
            most_addresses: config.most_addresses.max(1),
        };
        let tools = Tools {
            spool: with.spool.clone(),
            connector,
            finisher: Finisher::new(with.snapshot.clone(), with.cluster_key),
            fence: fence.clone(),
            limits: OwnedLimits::new(shaping, fence),
            metrics: metrics.clone(),
            complaints: Arc::default(),
            source: config.source_address,
        };
        let seed = u64::from_be_bytes(random::bytes());
        let dispatcher = Dispatcher::new(config.dispatcher(with.spool.tier_delays()), seed);
        let (worker, inputs, rules) = Worker::prepare(dispatcher, tools.clone(), seed, with.snapshot.clone());
        let keeper = Keeper {
            spool: with.spool.clone(),
            me: with.member.clone(),
            snapshot: with.snapshot.clone(),
            fence: tools.fence.clone(),
            scans: Scans::default(),
        };
        Ok(Self {
            config,
            keeper,
            spool: with.spool,
            member: with.member,
            standing: with.standing,
            tools,
            arrivals: Arrivals { resolver, snapshot: with.snapshot, rules },
            inputs,
            worker,
            ready: with.readiness.flag("delivery"),
        })
    }

    /// Runs until `shutdown`, then lets conversations end and gives the shards back.
    ///
    /// # Errors
    /// If this process may not be a member any more.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // The helpers outlive the shards: a shard that is given back still needs the worker.
        let helpers = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(self.worker.run(helpers.clone()));
        tasks.spawn(questions::answer(
            self.spool.clone(),
            self.member.clone(),
            self.inputs.clone(),
            Arc::clone(&self.keeper.scans),
            self.tools.source,
            helpers.clone(),
        ));
        tasks.spawn(questions::gauges(self.tools.metrics.clone(), self.inputs.clone(), helpers.clone()));
        tasks.spawn(questions::stream_gauges(self.tools.metrics.clone(), self.spool.clone(), helpers.clone()));
        tasks.spawn(shard_states::tell(self.spool.clone(), self.inputs.clone(), helpers.clone()));
        tasks.spawn(shard_states::look(self.spool.clone(), self.inputs.clone(), helpers.clone()));
        tasks.spawn(self.keeper.run(shutdown.clone()));
        if self.config.promote {
            let (spool, stop, metrics) = (self.spool.clone(), shutdown.clone(), self.tools.metrics.clone());
            let rules = self.arrivals.rules.clone();
            let is_wanted = move |envelope: &Envelope| rules.borrow().order(envelope, None, clock::now()).is_some();
            let tell = move |event| metrics.promoter(&event);
            let members = self.spool.lease_store().watch_members();
            let promoters = move || members.borrow().values().filter(|member| member.has_role(PROMOTER)).count();
            tasks.spawn(async move { spool.run_promoters(stop, promoters, is_wanted, tell).await });
            let (spool, stop, metrics) = (self.spool.clone(), shutdown.clone(), self.tools.metrics.clone());
            tasks.spawn(async move { spool.run_splitter(stop, move |event| metrics.splitter(&event)).await });
        }
        let ownership = Ownership::new(self.member, self.tools, self.arrivals, self.inputs, self.ready);
        let drain = Duration::from_secs(self.config.drain_secs);
        let ownership = ownership.run(self.standing, shutdown.clone(), drain);
        tokio::pin!(ownership);
        let result = loop {
            tokio::select! {
                ended = &mut ownership => break ended,
                // Without its worker a member would own shards and deliver nothing: better to end, and be replaced.
                Some(ended) = tasks.join_next(), if !shutdown.is_cancelled() => {
                    if !shutdown.is_cancelled() {
                        break Err(anyhow::anyhow!("a part of delivery ended by itself: {ended:?}"));
                    }
                }
            }
        };
        shutdown.cancel();
        helpers.cancel();
        while tasks.join_next().await.is_some() {}
        result
    }
}
