//! The splitter: turns a record of INTAKE into one READY message a part. It resolves nothing, so a repeat after a crash is
//! the same. Any process may run it, any number of them.

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_dispatch::shard_state::LONGEST_FOR_SPLITTER;
use postrider_dispatch::split::{Split, SplitStep};
use postrider_model::Class;
use postrider_proto::{ConvertError, Packet};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::handle::Undecodable;
use crate::intake::{self, IntakeError};
use crate::layout::Consumer;
use crate::publish::PublishError;
use crate::pull::{Raw, RawPuller, Wish};
use crate::spool::Spool;
use crate::stay::Stay;
use crate::subject::StreamName;

/// Records under way at a time, and asked for at a time.
const WINDOW: usize = 16;
const BATCH: usize = 100;

/// How long a record waits when READY takes nothing, or when only a newer build can read it.
const LATER: Duration = Duration::from_secs(5);

/// What the splitter tells about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitterEvent {
    /// Some of its parts are in READY; the message is still in INTAKE.
    Published,
    /// It is in READY only, as so many parts.
    Split {
        /// How many.
        parts: u64,
    },
}

impl Spool {
    /// Splits until `shutdown`, and tells of every message. Each class has a queue of its own.
    pub async fn run_splitter(&self, shutdown: CancellationToken, tell: impl Fn(SplitterEvent) + Send + Sync) {
        let split = |class| self.run_splitter_of(class, shutdown.clone(), &tell);
        join_all(Class::ALL.map(split)).await;
    }

    async fn run_splitter_of(
        &self,
        class: Class,
        shutdown: CancellationToken,
        tell: &(impl Fn(SplitterEvent) + Send + Sync),
    ) {
        let mut puller = RawPuller::new(self, Consumer::Split(class));
        let wish = Wish { messages: BATCH, bytes: 32 << 20, expires: Duration::from_secs(1) };
        loop {
            let batch = tokio::select! {
                batch = puller.pull(wish) => batch,
                () = shutdown.cancelled() => break,
            };
            // Collected first: a closure inside the stream would make the future no longer `Send` for every lifetime.
            let splits: Vec<_> = batch.into_iter().map(|raw| self.split(raw, tell)).collect();
            let mut splits = stream::iter(splits).buffer_unordered(WINDOW);
            while let Some(split) = splits.next().await {
                if let Some(parts) = split {
                    tell(SplitterEvent::Split { parts });
                }
            }
        }
        puller.stop().await;
    }

    async fn split(&self, raw: Raw, tell: &(impl Fn(SplitterEvent) + Sync)) -> Option<u64> {
        let parts = match intake::read(raw.message.headers.as_ref(), raw.message.payload.clone()) {
            Ok(parts) => parts,
            Err(IntakeError::Record(ConvertError::TooNew { needs, reads })) => {
                tracing::warn!(needs, reads, "left a message of INTAKE for a newer build");
                raw.handle.hand_back_for(LATER).await;
                return None;
            }
            Err(error) => {
                self.bury_undecodable(undecodable(raw, error.to_string())).await;
                return None;
            }
        };
        let machine = match Split::new(parts.iter().map(|part| (part.envelope(), part.body()))) {
            Ok(machine) => machine,
            Err(error) => {
                self.bury_undecodable(undecodable(raw, error.to_string())).await;
                return None;
            }
        };
        let Raw { stored, sequence, handle, .. } = raw;
        self.perform(machine, &parts, Stay { stream: StreamName::Intake, sequence, stored, handle }, tell).await
    }

    async fn perform(
        &self,
        mut machine: Split,
        parts: &[Packet],
        stay: Stay,
        tell: &(impl Fn(SplitterEvent) + Sync),
    ) -> Option<u64> {
        let count = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        loop {
            match machine.step() {
                SplitStep::Publish(range) => {
                    if let Err(error) = self.publish_parts(parts.get(range).unwrap_or_default()).await {
                        tracing::warn!(%error, "a message of INTAKE waits");
                        stay.handle.hand_back_for(LATER).await;
                        return None;
                    }
                    tell(SplitterEvent::Published);
                    stay.handle.in_progress().await;
                    machine.done();
                }
                SplitStep::AckIntake => {
                    if let Err(error) = self.end_stay(stay).await {
                        tracing::debug!(%error, "a message of INTAKE comes again");
                    }
                    return Some(count);
                }
                SplitStep::Finished => return Some(count),
            }
        }
    }

    async fn publish_parts(&self, parts: &[Packet]) -> Result<(), PublishError> {
        let published: Vec<_> = parts.iter().map(|part| self.publish_part(part)).collect();
        stream::iter(published).buffer_unordered(parts.len().max(1)).try_collect::<()>().await
    }
}

impl Spool {
    /// To READY; or to a tier where it would only wait, but to a short one: a repeat of this after a crash may choose
    /// otherwise, and the shard's owner must still know then what it has settled.
    async fn publish_part(&self, part: &Packet) -> Result<(), PublishError> {
        match self.tier_for(part.envelope(), LONGEST_FOR_SPLITTER) {
            Some(tier) => self.copy_to_tier(part, tier).await,
            None => self.publish_ready(part).await,
        }
    }
}

fn undecodable(raw: Raw, reason: String) -> Undecodable {
    Undecodable {
        subject: raw.message.subject.to_string(),
        sequence: raw.sequence,
        raw: raw.message.payload.clone(),
        reason,
        handle: raw.handle,
    }
}
