//! A look behind the scenes: what JetStream's streams still hold. For tests that want the queue empty at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::jetstream;

/// Streams that mail passes through, by the beginnings of their names.
const PASSED: [&str; 5] = ["READY_", "RETRY_", "INTAKE", "HOLD", "DEAD"];

/// Waits until nothing is left in the streams that mail passes through, and nothing is unacknowledged.
///
/// # Errors
/// Names what is left.
pub fn until_empty(nats: SocketAddr, patience: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(format!("nats://{nats}")).await?);
        let begun = Instant::now();
        loop {
            let left = left(&context).await?;
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > patience {
                bail!("the queue is not empty after {} s: {}", patience.as_secs(), left.join(", "));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
}

/// What the streams that mail passes through hold, by name; empty ones are left out.
///
/// # Errors
/// If NATS does not answer.
pub fn held(nats: SocketAddr) -> Result<BTreeMap<String, u64>> {
    use futures_util::TryStreamExt;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(format!("nats://{nats}")).await?);
        let streams: Vec<_> = context.streams().try_collect().await?;
        let held = streams.into_iter().filter(|stream| stream.state.messages > 0);
        let held = held.map(|stream| (stream.config.name, stream.state.messages));
        Ok(held.filter(|(name, _)| PASSED.iter().any(|passed| name.starts_with(passed))).collect())
    })
}

/// How many messages a stream has ever taken.
///
/// # Errors
/// If it cannot be asked.
pub fn stored(nats: SocketAddr, stream: &str) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(format!("nats://{nats}")).await?);
        Ok(context.get_stream(stream).await?.cached_info().state.last_sequence)
    })
}

/// Which share of its bytes a stream uses, 0.0 to 1.0.
///
/// # Errors
/// If it cannot be asked.
#[allow(clippy::cast_precision_loss, reason = "a share of 0 to 1 needs no exact bytes")]
pub fn fullness(nats: SocketAddr, stream: &str) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(format!("nats://{nats}")).await?);
        let info = context.get_stream(stream).await?.cached_info().clone();
        Ok(info.state.bytes as f64 / info.config.max_bytes.max(1) as f64)
    })
}

async fn left(context: &jetstream::Context) -> Result<Vec<String>> {
    use futures_util::TryStreamExt;
    let streams: Vec<_> = context.streams().try_collect().await?;
    let mut left = Vec::new();
    for stream in streams {
        let name = stream.config.name;
        if stream.state.messages == 0 || !PASSED.iter().any(|passed| name.starts_with(passed)) {
            continue;
        }
        let handle = context.get_stream_no_info(&name).await?;
        let consumers: Vec<_> = handle.consumers().try_collect().await?;
        let unacked: Vec<String> = consumers
            .iter()
            .filter(|consumer| consumer.num_ack_pending > 0 || consumer.num_pending > 0)
            .map(|c| format!("{} unacked {} pending {}", c.name, c.num_ack_pending, c.num_pending))
            .collect();
        left.push(format!("{name} holds {} ({})", stream.state.messages, unacked.join("; ")));
    }
    Ok(left)
}

/// The name of the server that leads a stream.
///
/// # Errors
/// If the stream is not there or has no leader.
pub fn leader(nats: SocketAddr, stream: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(format!("nats://{nats}")).await?);
        let info = context.get_stream(stream).await?.cached_info().clone();
        let leader = info.cluster.and_then(|cluster| cluster.leader);
        leader.with_context(|| format!("stream {stream} has no leader"))
    })
}
