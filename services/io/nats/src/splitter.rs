//! The splitter: turns a record of INTAKE into one READY message a part. It resolves nothing, so a repeat after a crash is
//! the same. Any process may run it, any number of them.

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_dispatch::promote::Placement;
use postrider_dispatch::shard_state::LONGEST_FOR_SPLITTER;
use postrider_dispatch::split::{Split, SplitStep};
use postrider_model::{Class, Timestamp};
use postrider_proto::{ConvertError, Packet};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::handle::{Repeat, Undecodable};
use crate::intake::{self, IntakeError};
use crate::layout::Consumer;
use crate::publish::PublishError;
use crate::pull::{Raw, RawPuller, Wish};
use crate::spool::Spool;
use crate::stay::{Stay, ours_until};
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
        let mut reconnects = self.reconnects();
        let mut connected = self.server_now();
        let wish = Wish { messages: BATCH, bytes: 4 << 20, expires: Duration::from_secs(1) };
        loop {
            let batch = tokio::select! {
                batch = puller.pull(wish) => batch,
                () = shutdown.cancelled() => break,
            };
            if reconnects.has_changed().unwrap_or(false) {
                reconnects.mark_unchanged();
                connected = self.server_now();
            }
            let until = ours_until(puller.asked());
            // Collected first: a closure inside the stream would make the future no longer `Send` for every lifetime.
            let splits: Vec<_> = batch.into_iter().map(|raw| self.split(raw, (until, connected), tell)).collect();
            let mut splits = stream::iter(splits).buffer_unordered(WINDOW);
            while let Some(split) = splits.next().await {
                if let Some(parts) = split {
                    tell(SplitterEvent::Split { parts });
                }
            }
        }
        puller.stop().await;
    }

    async fn split(
        &self,
        raw: Raw,
        (until, connected): (Instant, Timestamp),
        tell: &(impl Fn(SplitterEvent) + Sync),
    ) -> Option<u64> {
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
        let is_repeat = match handle.may_be_a_repeat() {
            Repeat::No => false,
            Repeat::AfterARestart => stored < connected,
            Repeat::Likely => true,
        };
        let parts = self.place_parts(&parts, is_repeat);
        let stay = Stay { stream: StreamName::Intake, sequence, stored, handle, until };
        self.perform(machine, &parts, stay, tell).await
    }

    /// Where each part goes: to READY, or to a tier where it would only wait. What may be in READY already, from a splitter that
    /// died, goes there, where the owner of its shard knows it; and what goes to a tier comes last, so that it is hardly ever
    /// there and then, by a repeat, in READY too.
    fn place_parts<'a>(&self, parts: &'a [Packet], is_repeat: bool) -> Vec<(&'a Packet, Placement)> {
        let place = |part: &'a Packet| {
            let tier = if is_repeat { None } else { self.tier_for(part.envelope(), LONGEST_FOR_SPLITTER) };
            (part, tier.map_or(Placement::Ready, Placement::Tier))
        };
        let (mut placed, later): (Vec<_>, Vec<_>) =
            parts.iter().map(place).partition(|(_, place)| *place == Placement::Ready);
        placed.extend(later);
        placed
    }

    async fn perform(
        &self,
        mut machine: Split,
        parts: &[(&Packet, Placement)],
        mut stay: Stay,
        tell: &(impl Fn(SplitterEvent) + Sync),
    ) -> Option<u64> {
        let count = u64::try_from(parts.len()).unwrap_or(u64::MAX);
        loop {
            match machine.step() {
                SplitStep::Publish(range) => {
                    if let Err(error) = self.publish_parts(parts.get(range).unwrap_or_default(), stay.until).await {
                        tracing::warn!(%error, "a message of INTAKE waits");
                        // What may be stored after all comes again when the ack wait is over.
                        if !error.is_in_doubt() {
                            stay.handle.hand_back_for(LATER).await;
                        }
                        return None;
                    }
                    tell(SplitterEvent::Published);
                    let now = Instant::now();
                    if now >= stay.until {
                        tracing::warn!("a message of INTAKE has taken longer than it may, and comes again");
                        return None;
                    }
                    stay.handle.in_progress().await;
                    stay.until = ours_until(now);
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

    async fn publish_parts(&self, parts: &[(&Packet, Placement)], until: Instant) -> Result<(), PublishError> {
        let published: Vec<_> = parts.iter().map(|(part, place)| self.publish_part(part, *place, until)).collect();
        stream::iter(published).buffer_unordered(parts.len().max(1)).try_collect::<()>().await
    }

    async fn publish_part(&self, part: &Packet, place: Placement, until: Instant) -> Result<(), PublishError> {
        match (place, self.move_leased(part, place, until).await) {
            (Placement::Tier(_), Err(PublishError::Full { .. })) => {
                self.move_leased(part, Placement::Ready, until).await
            }
            (_, published) => published,
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
