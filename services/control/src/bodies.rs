//! Bodies that several parts of a message share are deleted when all of the parts have ended. Who ends a part says so in its
//! record, with the body and how many share it; one control process reads these records, an hour and more after they were
//! written, and deletes what nobody needs any more. It keeps nothing but how far it has come: another process reads what EVENTS
//! holds again. Whatever is missed on the way ages out.

mod ends;

use std::collections::VecDeque;
use std::time::Duration;

use ends::Ends;
use futures_util::{StreamExt, stream};
use postrider_model::{BodyRef, Timestamp};
use postrider_nats::{AuditStore, BucketError, Expected, JournalBatch, JournalReader, ReadError, Spool};
use postrider_proto::control::v1 as api;
use postrider_runtime::clock;
use prost::Message;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

const KEY: &str = "bodies";

/// How often to look for more, and whether anybody does it.
const LOOK: Duration = Duration::from_secs(5);

/// How often it is written down who does it, and how far it has come.
const RENEW: Duration = Duration::from_secs(20);

/// Who has not renewed for so long is gone. Should two do it, they do the same twice.
const GONE: Duration = Duration::from_secs(90);

/// Bodies deleted at a time.
const AT_ONCE: usize = 8;

#[derive(Debug, Error)]
enum CollectError {
    #[error(transparent)]
    Journal(#[from] ReadError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("{0} bodies could not be deleted")]
    Delete(usize),
    #[error("another process does it now")]
    Taken,
}

/// One EVENTS stream, and what was read of it and is too young.
struct Source {
    number: u8,
    reader: JournalReader,
    batches: VecDeque<JournalBatch>,
    /// What ended up to here has been seen.
    through: Timestamp,
}

/// What the process that collects knows.
struct Collector {
    spool: Spool,
    store: AuditStore,
    metrics: Metrics,
    kept: Duration,
    sources: Vec<Source>,
    ends: Ends,
    /// Another has deleted what ended by then.
    deleted_by: Timestamp,
    claim: Claim,
}

struct Claim {
    holder: String,
    revision: u64,
    renewed: Instant,
}

/// Collects until `stop`, if no other process does, and shows what BODY holds.
pub(crate) async fn run(spool: Spool, kept: Duration, metrics: Metrics, stop: CancellationToken) {
    // Two that were begun within the same millisecond under the same number would do the same twice.
    let holder = format!("{}-{}", std::process::id(), clock::now().as_millis());
    let mut collector: Option<Collector> = None;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK.min(kept))).await.is_some() {
        match spool.bodies_held().await {
            Ok(held) => metrics.bodies_held(held),
            Err(error) => tracing::debug!(%error, "what BODY holds is looked at later"),
        }
        let turn = async {
            let mine = match collector.take() {
                Some(mine) => Some(mine),
                None => Collector::claim(&spool, &holder, kept, &metrics).await?,
            };
            if let Some(mut mine) = mine {
                mine.collect(&stop).await?;
                collector = Some(mine);
            }
            Ok::<_, CollectError>(())
        };
        if let Err(error) = turn.await {
            metrics.bodies_open(0);
            tracing::warn!(%error, "shared bodies are collected later");
        }
    }
}

impl Collector {
    /// Takes it over if nobody does it.
    async fn claim(
        spool: &Spool,
        holder: &str,
        kept: Duration,
        metrics: &Metrics,
    ) -> Result<Option<Self>, CollectError> {
        let store = spool.audit_store();
        let entry = store.get(KEY).await?;
        let revision = entry.as_ref().map(|entry| entry.revision);
        let last = entry.and_then(|entry| api::BodyCollection::decode(entry.value).ok()).unwrap_or_default();
        let now = clock::now();
        if last.holder != holder && now.since(Timestamp::from_millis(last.renewed_ms)) < GONE.min(kept * 8) {
            return Ok(None);
        }
        let claim = api::BodyCollection { holder: holder.to_owned(), renewed_ms: now.as_millis(), ..last };
        let expected = revision.map_or(Expected::Absent, Expected::Revision);
        let through = Timestamp::from_millis(claim.through_ms);
        let revision = match store.put(KEY, claim.encode_to_vec().into(), expected).await {
            Ok(revision) => revision,
            Err(BucketError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let source = |number| Source {
            number,
            reader: spool.read_shared_ends(number),
            batches: VecDeque::new(),
            through: Timestamp::default(),
        };
        Ok(Some(Self {
            spool: spool.clone(),
            store,
            metrics: metrics.clone(),
            kept,
            sources: (0..spool.journals()).map(source).collect(),
            ends: Ends::default(),
            deleted_by: through,
            claim: Claim { holder: holder.to_owned(), revision, renewed: Instant::now() },
        }))
    }

    /// Reads on as far as it is old enough, and deletes. What cannot be deleted, or read, makes it begin again.
    async fn collect(&mut self, stop: &CancellationToken) -> Result<(), CollectError> {
        let mut again = true;
        while again && !stop.is_cancelled() {
            again = false;
            for number in 0..self.sources.len() {
                again |= self.read(number).await?;
            }
            self.ends.forget(self.spool.server_now());
            self.metrics.bodies_open(self.ends.open());
            if self.claim.renewed.elapsed() >= RENEW.min(self.kept * 4) {
                self.renew().await?;
            }
        }
        Ok(())
    }

    /// Goes on in one stream. Whether there may be more.
    async fn read(&mut self, number: usize) -> Result<bool, CollectError> {
        let Some(source) = self.sources.get_mut(number) else { return Ok(false) };
        let old = self.spool.server_now().before(self.kept);
        if source.batches.is_empty() {
            let last = self.spool.journal_end(source.number).await?;
            source.batches = source.reader.next().await?.into();
            if source.batches.is_empty() {
                source.reader.pause_if_behind(last).await?;
                if source.reader.is_at(last) {
                    source.through = old;
                }
                return Ok(false);
            }
        }
        let mut free: Vec<BodyRef> = Vec::new();
        while let Some(batch) = source.batches.pop_front_if(|batch| batch.stored <= old) {
            for record in &batch.records {
                if let Some((body, last)) = self.ends.see(record, batch.stored)
                    && last > self.deleted_by
                {
                    free.push(body.clone());
                }
            }
            source.through = batch.stored;
        }
        let more = source.batches.is_empty();
        self.delete(free).await?;
        Ok(more)
    }

    async fn delete(&self, free: Vec<BodyRef>) -> Result<(), CollectError> {
        let failed = stream::iter(free)
            .map(|body| async move {
                match self.spool.delete_chunks(body.stream, &body.sequences).await {
                    Ok(()) => {
                        self.metrics.body_deleted(body.length);
                        false
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a shared body is deleted later");
                        true
                    }
                }
            })
            .buffer_unordered(AT_ONCE)
            .filter(|failed| std::future::ready(*failed))
            .count()
            .await;
        if failed > 0 { Err(CollectError::Delete(failed)) } else { Ok(()) }
    }

    /// Says that we go on, and how far all streams have been read: what ended before that need not be deleted again.
    async fn renew(&mut self) -> Result<(), CollectError> {
        let through = self.sources.iter().map(|source| source.through).min().unwrap_or_default().max(self.deleted_by);
        let claim = api::BodyCollection {
            holder: self.claim.holder.clone(),
            renewed_ms: clock::now().as_millis(),
            through_ms: through.as_millis(),
        };
        let put = self.store.put(KEY, claim.encode_to_vec().into(), Expected::Revision(self.claim.revision)).await;
        self.claim.revision = match put {
            Ok(revision) => revision,
            Err(BucketError::Conflict { .. }) => return Err(CollectError::Taken),
            Err(error) => return Err(error.into()),
        };
        self.claim.renewed = Instant::now();
        Ok(())
    }
}
