//! How full the streams are and what the servers' clock says: asked every second, never in the path of a message.

use std::collections::BTreeMap;
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
    /// How full each stream was when it was last seen.
    shares: Mutex<BTreeMap<StreamName, f64>>,
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

    fn see(&self, stream: StreamName, share: f64) {
        let mut shares = self.shares.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shares.insert(stream, share);
        let fullest = |of: &dyn Fn(StreamName) -> bool| {
            shares.iter().filter(|(stream, _)| of(**stream)).map(|(_, share)| *share).fold(0.0, f64::max)
        };
        let is_ready = |stream| matches!(stream, StreamName::ReadyBulk(_) | StreamName::ReadyTransactional);
        let (ready, hold) = (fullest(&is_ready), fullest(&|stream| stream == StreamName::Hold));
        let tiers = Tier::ALL.map(|tier| fullest(&|stream| stream == StreamName::Retry(tier)));
        let alone = fullest(&|stream| !matches!(stream, StreamName::Hold | StreamName::Retry(_)));
        self.write(|state| (state.fullness, state.ready, state.hold, state.tiers) = (alone, ready, hold, tiers));
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
    for stream in watched(layout).into_iter().chain([StreamName::Hold]) {
        let asked_at = Instant::now();
        let info = match context.request::<_, _, StreamInfo>(format!("STREAM.INFO.{stream}"), &()).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%stream, %error, "cannot see how full a stream is");
                continue;
            }
        };
        let round_trip = asked_at.elapsed();
        // An error has neither: of a stream without a leader, the last that was seen counts on.
        if let (Some(limits), Some(used)) = (&info.config, &info.state) {
            room.write(|state| state.answered = Some(Instant::now()));
            room.see(stream, share(used.bytes, limits.max_bytes));
        }
        let said = info.ts.as_deref().and_then(|ts| async_nats::datetime::parse_rfc3339(ts).ok());
        if let Some(said) = said.filter(|_| round_trip < Duration::from_millis(500)) {
            let said = Timestamp::from_millis(u64::try_from(said.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
            room.write(|state| state.server = Some((said, asked_at + round_trip / 2)));
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share of 0 to 1 needs no exact bytes")]
fn share(used: u64, limit: i64) -> f64 {
    if limit <= 0 { 0.0 } else { used as f64 / limit as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_not_seen_is_as_full_as_it_was_and_others_are_as_they_are() {
        let room = Room::default();
        for (stream, share) in
            [(StreamName::Retry(Tier::H1), 0.99), (StreamName::Intake, 0.9), (StreamName::ReadyBulk(0), 0.3)]
        {
            room.see(stream, share);
        }
        assert!(room.full_tiers()[Tier::H1.index()] && room.read().fullness == 0.9 && room.ready_fullness() == 0.3);
        room.see(StreamName::Intake, 0.1);
        assert!(room.full_tiers()[Tier::H1.index()] && room.read().fullness == 0.3);
    }

    #[test]
    fn an_error_says_nothing_of_a_stream() {
        let error = r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":503,"err_code":10118}}"#;
        let info: StreamInfo = serde_json::from_str(error).unwrap();
        assert!(info.config.is_none() && info.state.is_none());
    }
}
