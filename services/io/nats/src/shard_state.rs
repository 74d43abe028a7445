//! What owners say of their shards, and how promoters ask them for credit: core NATS, nothing durable. A state that is not
//! heard or has grown old is as good as none: then everything goes to READY.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;
use postrider_dispatch::shard_state::{Credit, CreditLine, Jam, Jams, STATE_LIVES, ShardState};
use postrider_model::{Envelope, NameError, ShardId, Tier};
use postrider_proto::control::v1 as wire;
use prost::Message as _;
use thiserror::Error;
use tokio::time::Instant;

use crate::question::{AskError, Question, Questions};
use crate::spool::Spool;
use crate::subject;

const ALL: &str = "state.*";

/// How long to wait before subscribing again.
const PAUSE: Duration = Duration::from_secs(1);

/// A question for credit that cannot be read.
#[derive(Debug, Error)]
pub enum CreditError {
    /// Not the bytes of one.
    #[error("not a question for credit")]
    Bytes(#[from] prost::DecodeError),
    /// A name in it.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The states that were heard lately.
#[derive(Debug, Default)]
pub(crate) struct ShardStates {
    heard: Mutex<HashMap<ShardId, Heard>>,
}

/// Of new mail for a site that is being tried, one envelope goes to READY so often.
const PROBE_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    jams: Arc<Jams>,
    probed: Option<Instant>,
}

impl ShardStates {
    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, shard: ShardId, state: ShardState) {
        if state.is_calm() {
            self.lock().remove(&shard);
        } else {
            let mut heard = self.lock();
            let probed = heard.get(&shard).and_then(|heard| heard.probed);
            heard.insert(shard, Heard { at: Instant::now(), jams: Arc::new(state.into()), probed });
        }
    }

    /// Whether it is time to try a site of this shard with one envelope more.
    fn probes(&self, shard: ShardId) -> bool {
        let mut heard = self.lock();
        let Some(heard) = heard.get_mut(&shard) else { return true };
        let probes = heard.probed.is_none_or(|at| at.elapsed() >= PROBE_EVERY);
        if probes {
            heard.probed = Some(Instant::now());
        }
        probes
    }

    fn of(&self, shard: ShardId) -> Option<Heard> {
        self.lock().get(&shard).filter(|heard| heard.at.elapsed() < STATE_LIVES).cloned()
    }
}

/// Listens for as long as the spool lives.
pub(crate) async fn listen(client: Client, states: Arc<ShardStates>) {
    loop {
        match client.subscribe(ALL).await {
            Ok(mut subscriber) => {
                while let Some(message) = subscriber.next().await {
                    let shard = message.subject.strip_prefix("state.").and_then(|shard| shard.parse().ok());
                    match (shard, read_state(message.payload)) {
                        (Some(shard), Ok(state)) => states.note(shard, state),
                        (shard, state) => tracing::debug!(?shard, ?state, "a shard's state cannot be read"),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot listen to the states of shards"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Spool {
    /// Tells everybody how a shard stands; to be repeated every second while there is something to tell.
    ///
    /// # Errors
    /// [`AskError::Unavailable`].
    pub async fn tell_shard_state(&self, shard: ShardId, state: &ShardState) -> Result<(), AskError> {
        let subject = format!("state.{shard}");
        let payload = wire_state(state).encode_to_vec().into();
        let sent = self.client().publish(subject.clone(), payload).await;
        sent.map_err(|error| AskError::Unavailable { subject, why: error.to_string() })
    }

    /// The tier, at most `longest`, for an envelope that would only wait in READY. `None`: READY is its place, as far as is
    /// known here.
    pub fn tier_for(&self, envelope: &Envelope, longest: Tier) -> Option<Tier> {
        if self.shard_states().lock().is_empty() {
            return None;
        }
        let shard = subject::shard_of(&self.layout(), envelope);
        let Heard { at, jams, .. } = self.shard_states().of(shard)?;
        let jam = jams.of(&envelope.state.site, &envelope.tenant)?;
        if jam.probing && self.shard_states().probes(shard) {
            return None;
        }
        jam.tier(at.elapsed(), longest, self.server_now(), envelope.expiry, &self.tier_delays())
    }

    /// What is known of a shard's jams; `None` if nothing is.
    pub(crate) fn jams(&self, shard: ShardId) -> Option<Arc<Jams>> {
        self.shard_states().of(shard).map(|heard| heard.jams)
    }

    /// Promoters' questions for credit in a shard.
    ///
    /// # Errors
    /// [`AskError::Unavailable`].
    pub async fn credit_questions(&self, shard: ShardId) -> Result<Questions, AskError> {
        self.questions(credit(shard)).await
    }

    /// Asks the owner of a shard how much may come, line by line.
    ///
    /// # Errors
    /// [`AskError`]: then the state, if any, must do.
    pub async fn ask_credit(
        &self,
        shard: ShardId,
        lines: &[CreditLine],
        timeout: Duration,
    ) -> Result<Vec<Credit>, AskError> {
        let lines = lines.iter().map(wire_line).collect();
        let payload = wire::CreditRequest { lines }.encode_to_vec().into();
        let answer = self.ask(credit(shard), payload, timeout).await?;
        let unavailable = |why: String| AskError::Unavailable { subject: credit(shard), why };
        let reply = wire::CreditReply::decode(answer).map_err(|error| unavailable(error.to_string()))?;
        let read = |credit: wire::Credit| Credit {
            granted: credit.granted,
            turn_in: Duration::from_millis(credit.turn_in_ms),
        };
        Ok(reply.credits.into_iter().map(read).collect())
    }
}

impl Question {
    /// Reads a promoter's question for credit.
    ///
    /// # Errors
    /// If it is none.
    pub fn credit_lines(&self) -> Result<Vec<CreditLine>, CreditError> {
        let request = wire::CreditRequest::decode(self.payload.clone())?;
        let line = |line: wire::CreditLine| {
            Ok(CreditLine {
                site: line.site.parse()?,
                tenant: line.tenant.parse()?,
                from: line.from.parse()?,
                count: line.count,
            })
        };
        request.lines.into_iter().map(line).collect()
    }

    /// Answers it, in the order of its lines.
    pub async fn answer_credit(self, credits: &[Credit]) {
        let credits =
            credits.iter().map(|credit| wire::Credit { granted: credit.granted, turn_in_ms: millis(credit.turn_in) });
        self.answer(wire::CreditReply { credits: credits.collect() }.encode_to_vec().into()).await;
    }
}

fn credit(shard: ShardId) -> String {
    format!("credit.{shard}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn wire_line(line: &CreditLine) -> wire::CreditLine {
    wire::CreditLine {
        site: line.site.to_string(),
        tenant: line.tenant.to_string(),
        from: line.from.to_string(),
        count: line.count,
    }
}

fn wire_state(state: &ShardState) -> wire::ShardState {
    let jam = |jam: &Jam| wire::Jam {
        site: jam.site.to_string(),
        tenant: jam.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: jam.reason.to_string(),
        turn_in_ms: millis(jam.turn_in),
        probing: jam.probing,
    };
    wire::ShardState { jams: state.jams.iter().map(jam).collect(), asks_for_credit: state.asks_for_credit }
}

fn read_state(bytes: Bytes) -> Result<ShardState, CreditError> {
    let state = wire::ShardState::decode(bytes)?;
    let jam = |jam: wire::Jam| {
        let tenant = (!jam.tenant.is_empty()).then(|| jam.tenant.parse()).transpose()?;
        Ok(Jam {
            site: jam.site.parse()?,
            tenant,
            reason: jam.reason.parse()?,
            turn_in: Duration::from_millis(jam.turn_in_ms),
            probing: jam.probing,
        })
    };
    let jams = state.jams.into_iter().map(jam).collect::<Result<_, NameError>>()?;
    Ok(ShardState { jams, asks_for_credit: state.asks_for_credit })
}

#[cfg(test)]
mod tests {
    use postrider_model::WaitReason;

    use super::*;

    #[test]
    fn a_state_comes_back_from_the_wire() {
        let jam = |tenant: Option<&str>| Jam {
            site: "example.net".parse().unwrap(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            reason: WaitReason::SiteClosed,
            turn_in: Duration::from_secs(77),
            probing: tenant.is_none(),
        };
        let state = ShardState { jams: vec![jam(None), jam(Some("acme"))], asks_for_credit: true };
        assert_eq!(read_state(wire_state(&state).encode_to_vec().into()).unwrap(), state);
        assert!(read_state(Bytes::from_static(b"nonsense")).is_err());
    }
}
