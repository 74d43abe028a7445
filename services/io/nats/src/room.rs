//! How full the streams are and what the servers' clock says: asked every second, never in the path of a message.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::Context;
use postrider_dispatch::retry::{FullTiers, fullness_for_new};
use postrider_model::{ShardLayout, Tier, TierDelays, Timestamp};
use serde::Deserialize;

use crate::subject::StreamName;

/// How often to look.
pub(crate) const REFRESH: Duration = Duration::from_secs(1);

/// A tier that is fuller than this is left alone: what is copied there by everybody until the next look has room still.
const FULL_TIER: f64 = 0.97;

/// What is known now.
#[derive(Default)]
pub(crate) struct Room {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Of the fullest stream that has no other beside it.
    fullness: f64,
    /// Of READY.
    ready: f64,
    /// Of HOLD.
    hold: f64,
    /// Of each tier.
    tiers: [f64; Tier::ALL.len()],
    /// What the server's clock said, and when that was by a clock of ours that nobody sets.
    server: Option<(Timestamp, Instant)>,
    /// When JetStream last answered.
    answered: Option<Instant>,
}

/// Milliseconds since the epoch by this machine's clock.
fn local_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Room {
    pub(crate) fn fullness_for(&self, life: Duration, delays: &TierDelays) -> f64 {
        let state = self.read();
        state.fullness.max(fullness_for_new(&state.tiers, life, delays))
    }

    pub(crate) fn ready_fullness(&self) -> f64 {
        self.read().ready
    }

    pub(crate) fn hold_fullness(&self) -> f64 {
        self.read().hold
    }

    pub(crate) fn full_tiers(&self) -> FullTiers {
        self.read().tiers.map(|share| share > FULL_TIER)
    }

    pub(crate) fn silent_for(&self) -> Duration {
        self.read().answered.map_or(Duration::ZERO, |answered| answered.elapsed())
    }

    pub(crate) fn server_now(&self) -> Timestamp {
        match self.read().server {
            // Ours may be set by an hour meanwhile.
            Some((said, at)) => said.after(at.elapsed()),
            None => local_now(),
        }
    }

    fn read(&self) -> State {
        *self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

/// The part of STREAM.INFO that matters here; `ts` is the server's clock.
#[derive(Deserialize)]
struct StreamInfo {
    ts: Option<String>,
    config: Option<Limits>,
    state: Option<Used>,
}

#[derive(Deserialize)]
struct Limits {
    max_bytes: i64,
}

#[derive(Deserialize)]
struct Used {
    bytes: u64,
}

/// Streams whose filling up stops mail. EVENTS, DEAD and OPERATIONS discard what is old; what HOLD cannot take stays in the
/// tiers.
fn watched(layout: &ShardLayout) -> Vec<StreamName> {
    let mut streams = vec![StreamName::ReadyTransactional, StreamName::Intake];
    streams.extend((0..layout.bulk_streams).map(StreamName::ReadyBulk));
    streams.extend((0..layout.side_streams).map(StreamName::Body));
    streams.extend(Tier::ALL.map(StreamName::Retry));
    streams
}

/// Asks once.
pub(crate) async fn look(context: &Context, layout: &ShardLayout, room: &Room) {
    let mut fullest = 0.0f64;
    let (mut hold, mut ready) = (0.0f64, 0.0f64);
    let mut unseen = false;
    let mut tiers = [0.0f64; Tier::ALL.len()];
    for stream in watched(layout).into_iter().chain([StreamName::Hold]) {
        let asked_at = Instant::now();
        let info = match context.request::<_, _, StreamInfo>(format!("STREAM.INFO.{stream}"), &()).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%stream, %error, "cannot see how full a stream is");
                unseen = true;
                continue;
            }
        };
        let round_trip = asked_at.elapsed();
        room.write(|state| state.answered = Some(Instant::now()));
        if let (Some(limits), Some(used)) = (&info.config, &info.state) {
            let share = share(used.bytes, limits.max_bytes);
            match stream {
                StreamName::Hold => hold = share,
                StreamName::ReadyBulk(_) | StreamName::ReadyTransactional => {
                    (ready, fullest) = (ready.max(share), fullest.max(share));
                }
                StreamName::Retry(tier) => tiers[tier.index()] = share,
                _ => fullest = fullest.max(share),
            }
        }
        let said = info.ts.as_deref().and_then(|ts| async_nats::datetime::parse_rfc3339(ts).ok());
        if let Some(said) = said.filter(|_| round_trip < Duration::from_millis(500)) {
            let said = Timestamp::from_millis(u64::try_from(said.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
            room.write(|state| state.server = Some((said, asked_at + round_trip / 2)));
        }
    }
    room.write(|state| {
        // Of a stream without a leader, the last that was seen counts on.
        let known = |before: f64, now: f64| if unseen { now.max(before) } else { now };
        state.fullness = known(state.fullness, fullest);
        state.ready = known(state.ready, ready);
        state.hold = known(state.hold, hold);
        state.tiers = std::array::from_fn(|tier| known(state.tiers[tier], tiers[tier]));
    });
}

#[allow(clippy::cast_precision_loss, reason = "a share of 0 to 1 needs no exact bytes")]
fn share(used: u64, limit: i64) -> f64 {
    if limit <= 0 { 0.0 } else { used as f64 / limit as f64 }
}
