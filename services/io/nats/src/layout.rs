//! The layout of JetStream: what must exist, made where it is missing and compared where it exists. A stream or consumer
//! with other settings is named, never silently used and never deleted.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_model::ShardLayout;
use postrider_proto::config::v1 as wire;
use prost::Message;
use thiserror::Error;
use tokio::time::Instant;

use crate::bucket::{self, Bucket};
use crate::config::NatsConfig;
use crate::link::Link;

mod settings;
pub(crate) use settings::{Consumer, MOVE_WAIT, TIER_UNACKNOWLEDGED, consumer_of};

mod compare;

/// The key of the recorded layout in the `config` bucket.
pub(crate) const LAYOUT_KEY: &str = "layout";

/// How long a server that is only just starting is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Streams and consumers made or checked at a time.
const AT_ONCE: usize = 8;

/// Why streams or consumers are not as they must be.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// It exists with another setting.
    #[error("{what} {name}: {setting} is {is}, should be {should}. {hint}")]
    Differs {
        /// `stream` or `consumer`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The setting.
        setting: &'static str,
        /// What it is.
        is: String,
        /// What it should be.
        should: String,
        /// What to do.
        hint: &'static str,
    },
    /// JetStream refuses to make it.
    #[error("JetStream refuses {what} {name}: {why}")]
    Refused {
        /// `stream` or `consumer`.
        what: &'static str,
        /// Its name.
        name: String,
        /// What it said.
        why: String,
    },
    /// JetStream's store is too small.
    #[error(
        "JetStream has no room for stream {name} of {bytes} bytes: lower storage_bytes in [nats], or raise the server's \
         max_file_store"
    )]
    NoRoom {
        /// The stream.
        name: String,
        /// What it should hold.
        bytes: i64,
    },
    /// JetStream does not answer, or is not switched on.
    #[error("JetStream does not answer ({why}). Is it enabled (`jetstream {{}}` or --jetstream), and has it a leader?")]
    Silent {
        /// What the last try met.
        why: String,
    },
    /// The recorded shard layout cannot be read.
    #[error("the key `layout` of the config bucket cannot be read: {0}")]
    Recorded(String),
}

/// Either a final error or one that passes.
enum Trouble {
    Final(LayoutError),
    Passing(String),
}

impl From<LayoutError> for Trouble {
    fn from(error: LayoutError) -> Self {
        Self::Final(error)
    }
}

/// Makes and checks everything; returns the recorded layout.
pub(crate) async fn ensure(
    context: &Context,
    link: &Link,
    config: &NatsConfig,
    wish: ShardLayout,
) -> Result<ShardLayout, LayoutError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ensure_once(context, link, config, wish).await {
            Ok(layout) => return Ok(layout),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Passing(why)) if Instant::now() >= deadline => return Err(LayoutError::Silent { why }),
            Err(Trouble::Passing(why)) => {
                tracing::debug!(why, "JetStream is not ready");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}

async fn ensure_once(
    context: &Context,
    link: &Link,
    config: &NatsConfig,
    wish: ShardLayout,
) -> Result<ShardLayout, Trouble> {
    // What shrinks makes room for what grows.
    let mut to_grow = Vec::new();
    for bucket in settings::buckets(config) {
        to_grow.extend(ensure_stream(context, bucket).await?.1);
    }
    let layout = recorded_layout(Bucket::new(context.clone(), link.clone(), bucket::CONFIG), wish).await?;
    if layout != wish {
        tracing::debug!(?layout, ?wish, "the recorded shard layout holds");
    }
    let ensured = stream::iter(settings::streams(&layout, config)).map(|wanted| async move {
        let name = wanted.config.name.clone();
        let (made, growth) = ensure_stream(context, wanted.config).await?;
        ensure_consumers(&made, &name, wanted.consumers).await?;
        Ok::<_, Trouble>(growth)
    });
    let growths: Vec<Option<Config>> = ensured.buffer_unordered(AT_ONCE).try_collect().await?;
    to_grow.extend(growths.into_iter().flatten());
    for changed in &to_grow {
        change_stream(context, changed).await?;
    }
    Ok(layout)
}

async fn recorded_layout(bucket: Bucket, wish: ShardLayout) -> Result<ShardLayout, Trouble> {
    let passing = |error: bucket::BucketError| Trouble::Passing(error.to_string());
    if let Some(entry) = bucket.get(LAYOUT_KEY).await.map_err(passing)? {
        let unreadable = |why: String| Trouble::Final(LayoutError::Recorded(why));
        let layout = wire::Layout::decode(entry.value).map_err(|e| unreadable(e.to_string()))?;
        return ShardLayout::try_from(layout).map_err(|e| unreadable(e.to_string()));
    }
    let record = wire::Layout::from(&wish).encode_to_vec().into();
    match bucket.put(LAYOUT_KEY, record, bucket::Expected::Absent).await {
        Ok(_) => Ok(wish),
        // Another process was first: its record is found in the next round.
        Err(bucket::BucketError::Conflict { .. }) => Err(Trouble::Passing("another process records the layout".into())),
        Err(error) => Err(passing(error)),
    }
}

/// The stream, and its new settings if it has to grow.
async fn ensure_stream(context: &Context, wanted: Config) -> Result<(Stream, Option<Config>), Trouble> {
    match context.get_stream(&wanted.name).await {
        Ok(found) => return check_stream(context, found, wanted).await,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
            other => return Err(Trouble::Passing(other.to_string())),
        },
    }
    let name = wanted.name.clone();
    let bytes = wanted.max_bytes;
    match context.create_stream(wanted).await {
        Ok(made) => {
            tracing::info!(stream = name, "made");
            Ok((made, None))
        }
        Err(error) => Err(match error.kind() {
            CreateStreamErrorKind::JetStream(error) => match error.error_code() {
                code if is_no_room(code) => LayoutError::NoRoom { name, bytes }.into(),
                // Another process was first: the next round compares.
                ErrorCode::STREAM_NAME_EXIST => Trouble::Passing(error.to_string()),
                // Servers of the cluster are still starting.
                ErrorCode::CLUSTER_NO_PEERS => Trouble::Passing(error.to_string()),
                _ if (500..600).contains(&error.code()) && error.code() != 500 => Trouble::Passing(error.to_string()),
                _ => LayoutError::Refused { what: "stream", name, why: error.to_string() }.into(),
            },
            other => Trouble::Passing(format!("stream {name}: {other}")),
        }),
    }
}

async fn check_stream(context: &Context, found: Stream, wanted: Config) -> Result<(Stream, Option<Config>), Trouble> {
    let is = found.cached_info().config.clone();
    // Older builds kept less.
    let grows = is.name == wanted.name && is.name.starts_with("KV_") && is.max_age < wanted.max_age;
    let max_age = if grows { wanted.max_age } else { is.max_age };
    compare::stream(&Config { max_age, ..is.clone() }, &wanted)?;
    // Without `allow_direct` bodies are not found and nothing can be scanned; with it where we did not ask nothing is lost.
    let allow_direct = is.allow_direct || wanted.allow_direct;
    if is.max_bytes == wanted.max_bytes && is.allow_direct == allow_direct && is.max_age == max_age {
        return Ok((found, None));
    }
    tracing::info!(
        stream = wanted.name,
        from = is.max_bytes,
        to = wanted.max_bytes,
        allow_direct,
        ?max_age,
        "max_bytes, max_age or allow_direct changed"
    );
    let changed = Config { max_bytes: wanted.max_bytes, max_age, allow_direct, ..is };
    if changed.max_bytes > found.cached_info().config.max_bytes {
        return Ok((found, Some(changed)));
    }
    change_stream(context, &changed).await?;
    Ok((found, None))
}

async fn change_stream(context: &Context, changed: &Config) -> Result<(), LayoutError> {
    let Err(error) = context.update_stream(changed).await else { return Ok(()) };
    let name = changed.name.clone();
    Err(match error.kind() {
        CreateStreamErrorKind::JetStream(error) if is_no_room(error.error_code()) => {
            LayoutError::NoRoom { name, bytes: changed.max_bytes }
        }
        other => LayoutError::Refused { what: "stream", name, why: other.to_string() },
    })
}

fn is_no_room(code: ErrorCode) -> bool {
    [ErrorCode::STORAGE_RESOURCES_EXCEEDED, ErrorCode::INSUFFICIENT_RESOURCES].contains(&code)
}

async fn ensure_consumers(made: &Stream, stream_name: &str, wanted: Vec<pull::Config>) -> Result<(), Trouble> {
    if wanted.is_empty() {
        return Ok(());
    }
    let found: HashMap<String, consumer::Config> = made
        .consumers()
        .map_ok(|info| (info.name, info.config))
        .try_collect()
        .await
        .map_err(|error| Trouble::Passing(format!("consumers of {stream_name}: {error}")))?;
    let found = &found;
    stream::iter(wanted)
        .map(Ok::<_, Trouble>)
        .try_for_each_concurrent(AT_ONCE, |wanted| async move {
            let name = wanted.durable_name.clone().unwrap_or_default();
            match found.get(&name) {
                Some(is) => compare::consumer(&name, is, &wanted).map_err(Trouble::Final),
                None => create_consumer(made, wanted).await,
            }
        })
        .await
}

async fn create_consumer<I>(made: &Stream<I>, wanted: pull::Config) -> Result<(), Trouble> {
    use async_nats::jetstream::stream::ConsumerErrorKind;
    let name = wanted.durable_name.clone().unwrap_or_default();
    match made.create_consumer(wanted).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            ConsumerErrorKind::JetStream(error)
                if (400..500).contains(&error.code()) && error.error_code() != ErrorCode::CLUSTER_NO_PEERS =>
            {
                LayoutError::Refused { what: "consumer", name, why: error.to_string() }.into()
            }
            _ => Trouble::Passing(format!("consumer {name}: {error}")),
        }),
    }
}

/// Makes one consumer again, as after the restart of a single server, which forgets consumers in memory. Acknowledged
/// messages stay gone: a work queue keeps no others.
pub(crate) async fn restore_consumer(context: &Context, stream: &str, wanted: pull::Config) -> Result<(), String> {
    let made = context.get_stream_no_info(stream).await.map_err(|e| e.to_string())?;
    match create_consumer(&made, wanted).await {
        Ok(()) => Ok(()),
        Err(Trouble::Final(error)) => Err(error.to_string()),
        Err(Trouble::Passing(why)) => Err(why),
    }
}
