//! The spool: one connection, the recorded layout, and what is known about the room left. Cheap to clone.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::{Context, ContextBuilder};
use postrider_dispatch::retry::FullTiers;
use postrider_model::{ShardId, ShardLayout, TierDelays, Timestamp};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::bucket::Bucket;
use crate::config::NatsConfig;
use crate::connect::{self, ConnectError};
use crate::group_commit::NotOnDisk;
use crate::layout::{self, LayoutError};
use crate::link::Link;
use crate::room::{self, Room};
use crate::shard_state::{self, ShardStates};
use thiserror::Error;

/// How long an answer of JetStream may take before the request is made again.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the spool could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Streams or consumers are not as they must be.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The door to JetStream. Everything this crate does begins here.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    context: Context,
    config: NatsConfig,
    layout: ShardLayout,
    delays: TierDelays,
    room: Arc<Room>,
    shards: Arc<ShardStates>,
    _upkeep: AbortOnDropHandle<()>,
    _listening: AbortOnDropHandle<()>,
}

impl Spool {
    /// Connects, makes or checks streams and consumers, and begins to watch how full they are. `name` is shown in the
    /// server's list of connections. `layout_if_first` counts only if this is the first start ever: afterwards the
    /// recorded layout is used.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do: server absent or too old, credentials, a stream or consumer with
    /// other settings.
    pub async fn open(config: &NatsConfig, name: &str, layout_if_first: ShardLayout) -> Result<Self, OpenError> {
        let link = connect::connect(config, name).await?;
        let context = ContextBuilder::new().timeout(API_TIMEOUT).max_ack_inflight(5_000).build(link.client.clone());
        let layout = layout::ensure(&context, &link, config, layout_if_first).await?;
        let room = Arc::new(Room::default());
        room::look(&context, &layout, &room).await;
        let upkeep = Upkeep {
            context: context.clone(),
            config: config.clone(),
            layout,
            room: Arc::clone(&room),
            link: link.clone(),
        };
        let upkeep = AbortOnDropHandle::new(tokio::spawn(upkeep.run()));
        let shards = Arc::new(ShardStates::default());
        let listening =
            AbortOnDropHandle::new(tokio::spawn(shard_state::listen(link.client.clone(), Arc::clone(&shards))));
        Ok(Self {
            inner: Arc::new(Inner {
                link,
                context,
                config: config.clone(),
                layout,
                delays: config.tier_delays(),
                room,
                shards,
                _upkeep: upkeep,
                _listening: listening,
            }),
        })
    }

    /// Makes what is missing and checks what is there, once more.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub async fn ensure(&self) -> Result<(), LayoutError> {
        layout::ensure(&self.inner.context, &self.inner.link, &self.inner.config, self.inner.layout).await.map(|_| ())
    }

    /// How the queue is cut into shards, as recorded at the first start.
    pub fn layout(&self) -> ShardLayout {
        self.inner.layout
    }

    /// All shards, transactional ones first.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        self.inner.layout.shards()
    }

    /// How long each tier makes wait.
    pub fn tier_delays(&self) -> TierDelays {
        self.inner.delays
    }

    /// Whether there is a connection now. Part of readiness.
    pub fn connected(&self) -> bool {
        self.inner.link.client.connection_state() == State::Connected
    }

    /// Moves each time the connection is made anew from now on: what was asked before may be lost.
    pub fn reconnects(&self) -> watch::Receiver<u64> {
        let mut reconnects = self.inner.link.reconnects.clone();
        // The first connection is none.
        reconnects.mark_unchanged();
        reconnects
    }

    /// Sends what has been written, hand-backs above all, before the process ends.
    pub async fn flush(&self) {
        if let Err(error) = self.inner.link.client.flush().await {
            tracing::debug!(%error, "not everything was sent");
        }
    }

    /// How full the queue is for new mail that lives for `life`, 0.0 to 1.0, as of the last two seconds: the fullest stream that it
    /// must pass, or the emptiest of the tiers that can stand in for each other. From [`Spool::FULL`] on, it is refused with 452.
    pub fn fullness_for(&self, life: Duration) -> f64 {
        self.inner.room.fullness_for(life, &self.tier_delays())
    }

    /// As [`Spool::fullness_for`], of READY alone: what is moved there need not wait for others.
    pub fn ready_fullness(&self) -> f64 {
        self.inner.room.ready_fullness()
    }

    /// Why nothing counts as stored any more, if the disk has refused what was acknowledged (`sync_folder`).
    pub fn broken(&self) -> Option<NotOnDisk> {
        self.inner.link.commit.as_ref()?.broken()
    }

    /// Whether HOLD takes no more: what is suspended then waits in the longest tier.
    pub fn hold_is_full(&self) -> bool {
        self.inner.room.hold_fullness() > 0.9
    }

    /// Which tiers take hardly any more. What is to be moved goes to others meanwhile.
    pub fn full_tiers(&self) -> FullTiers {
        self.inner.room.full_tiers()
    }

    /// From here on no new mail is taken: the rest is for moves.
    pub const FULL: f64 = 0.8;

    /// How long JetStream has not answered. It is asked every second, so that a server that hangs is noticed long before its
    /// connection counts as lost.
    pub fn silent_for(&self) -> Duration {
        self.inner.room.silent_for()
    }

    /// The servers' clock, which stamps the messages of streams. As good as the round trip; within milliseconds.
    pub fn server_now(&self) -> Timestamp {
        self.inner.room.server_now()
    }

    /// How many servers keep a copy of what is stored.
    pub(crate) fn copies(&self) -> usize {
        self.inner.config.replicas
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.link.client
    }

    pub(crate) fn bucket(&self, name: &'static str) -> Bucket {
        Bucket::new(self.inner.context.clone(), self.inner.link.clone(), name)
    }

    pub(crate) fn link(&self) -> &Link {
        &self.inner.link
    }

    pub(crate) fn context(&self) -> &Context {
        &self.inner.context
    }

    pub(crate) fn shard_states(&self) -> &ShardStates {
        &self.inner.shards
    }

    /// How long a publish or an acknowledgement is tried again.
    pub fn publish_budget(&self) -> Duration {
        self.inner.config.publish_budget()
    }
}

/// What goes on beside everything else, for as long as the spool lives.
struct Upkeep {
    context: Context,
    config: NatsConfig,
    layout: ShardLayout,
    room: Arc<Room>,
    link: Link,
}

impl Upkeep {
    /// Looks how full the streams are. After a reconnect makes again what a restarted server forgot: without its consumer
    /// an acknowledgement is answered by nobody.
    async fn run(self) {
        let mut reconnects = self.link.reconnects.clone();
        reconnects.mark_unchanged();
        loop {
            let look = async {
                tokio::time::sleep(room::REFRESH).await;
                room::look(&self.context, &self.layout, &self.room).await;
            };
            tokio::select! {
                () = look => {}
                Ok(()) = reconnects.changed() => self.restore().await,
            }
        }
    }

    async fn restore(&self) {
        loop {
            match layout::ensure(&self.context, &self.link, &self.config, self.layout).await {
                Ok(_) => return,
                // It has the time that it takes: a cluster that starts anew has no leader for a while.
                Err(error @ LayoutError::Silent { .. }) => {
                    tracing::warn!(%error, "the streams cannot be looked at yet")
                }
                Err(error) => return tracing::error!(%error, "the streams are not as they were"),
            }
        }
    }
}

/// Shows the layout, never credentials.
impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("layout", &self.inner.layout).finish_non_exhaustive()
    }
}
