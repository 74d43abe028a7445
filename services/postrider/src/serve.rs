//! `postrider ingress|delivery|control --config FILE`: one service a process, against any NATS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use postrider_control::Control;
use postrider_delivery::Delivery;
use postrider_ingress::Ingress;
use postrider_net::{Dns, SiteResolver};
use postrider_runtime::telemetry::LogConfig;
use postrider_runtime::{shutdown, telemetry};
use tokio_util::sync::CancellationToken;

use crate::process::{Process, ProcessConfig};
use crate::receiver::ReceiverArguments;

/// Arguments of a server process.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Environment variables go before the file: POSTRIDER_NATS__URLS='[\"nats://nats:4222\"]',\n\
    POSTRIDER_DELIVERY__EHLO_NAME=mail.example.net. An annotated example stands in deploy/local/cluster.toml.")]
pub struct ServeArgs {
    /// The configuration (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

async fn begin(file: &Path, roles: &[&str]) -> anyhow::Result<(ProcessConfig, Process, CancellationToken)> {
    let config = ProcessConfig::load(file)?;
    telemetry::init(&config.log)?;
    let stop = shutdown::on_signals()?;
    let process = Process::join(&config, roles).await?;
    if let Some(address) = config.metrics.address {
        // The endpoints outlive the service, so that its drain can be watched.
        let bound = process.admin(address, CancellationToken::new()).await?;
        tracing::info!(address = %bound, "metrics and health");
    }
    Ok((config, process, stop))
}

/// `postrider ingress`.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn ingress(args: &ServeArgs) -> anyhow::Result<()> {
    let (config, process, stop) = begin(&args.config, &["ingress"]).await?;
    let settings = config.ingress.clone().context("the table [ingress] is missing")?;
    let sites = SiteResolver::new(Dns::new(&config.delivery.dns)?, &config.delivery.sites);
    let with = postrider_ingress::Collaborators {
        spool: process.spool.clone(),
        snapshot: process.snapshot.clone(),
        cluster_key: config.cluster_key()?,
        sites,
        registry: process.registry.clone(),
        readiness: process.readiness.clone(),
    };
    let bound = Ingress::build(settings, with).await?.bind().await?;
    for (name, address) in bound.addresses() {
        tracing::info!(listener = name, %address, "ingress listens");
    }
    bound.run(stop).await;
    process.membership.leave().await;
    Ok(())
}

/// `postrider delivery`.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn delivery(args: &ServeArgs) -> anyhow::Result<()> {
    let (config, process, stop) = begin(&args.config, &["delivery"]).await?;
    let with = postrider_delivery::Collaborators {
        spool: process.spool.clone(),
        snapshot: process.snapshot.clone(),
        cluster_key: Arc::new(config.cluster_key()?),
        registry: process.registry.clone(),
        readiness: process.readiness.clone(),
        member: process.member.clone(),
        ehlo_name: config.ehlo_name()?,
        standing: process.membership.standing(),
    };
    let delivery = Delivery::build(config.delivery.clone(), with)?;
    tracing::info!(member = %process.member, "delivery starts");
    let ended = delivery.run(stop).await;
    process.membership.leave().await;
    ended
}

/// `postrider control`.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn control(args: &ServeArgs) -> anyhow::Result<()> {
    let (config, process, stop) = begin(&args.config, &["control"]).await?;
    let settings = config.control.clone().context("the table [control] is missing")?;
    let with = postrider_control::Collaborators {
        spool: process.spool.clone(),
        cluster_key: config.cluster_key()?,
        registry: process.registry.clone(),
        readiness: process.readiness.clone(),
    };
    let bound = Control::build(&settings, with)?.bind().await?;
    tracing::info!(address = %bound.address(), "control listens");
    bound.run(stop).await?;
    process.membership.leave().await;
    Ok(())
}

/// `postrider receiver`.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn receiver(args: ReceiverArguments) -> anyhow::Result<()> {
    telemetry::init(&LogConfig::default())?;
    crate::receiver::main(args, shutdown::on_signals()?).await
}
