//! The journal of one shard: records of many settles share a flush. A record counts only when its flush has its PubAck.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_dispatch::settle::SettledThrough;
use postrider_model::{EnvelopeId, Record, ShardId};
use postrider_nats::Spool;
use postrider_runtime::random;
use prometheus::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::fence::SharedFence;

/// Records in one flush.
const FLUSH: usize = 500;

/// The shard's journal has ended with its ownership.
#[derive(Debug)]
pub struct JournalEnded;

struct Line {
    record: Record,
    done: Option<oneshot::Sender<()>>,
}

/// Appends to the journal of one shard. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    lines: mpsc::UnboundedSender<Line>,
    through: Arc<Mutex<SettledThrough>>,
}

impl Journal {
    /// Begins the journal of a shard whose owner before had come to `settled_through`. It ends when `lost` is cancelled.
    pub fn begin(
        spool: Spool,
        shard: ShardId,
        settled_through: u64,
        fence: SharedFence,
        publish: Histogram,
        lost: CancellationToken,
    ) -> Self {
        let (lines, receiver) = mpsc::unbounded_channel();
        let through = Arc::new(Mutex::new(SettledThrough::starting_at(settled_through)));
        let writer = Writer { spool, shard, fence, publish, through: Arc::clone(&through), receiver };
        tokio::spawn(async move { lost.run_until_cancelled(writer.run()).await });
        Self { lines, through }
    }

    /// Appends a record and waits for its PubAck.
    ///
    /// # Errors
    /// If the shard is lost before.
    pub async fn append(&self, record: Record) -> Result<(), JournalEnded> {
        let (done, wait) = oneshot::channel();
        self.lines.send(Line { record, done: Some(done) }).map_err(|_| JournalEnded)?;
        wait.await.map_err(|_| JournalEnded)
    }

    /// Appends a record that nothing waits for. It stands before everything appended later.
    pub fn note(&self, record: Record) {
        if self.lines.send(Line { record, done: None }).is_err() {
            tracing::debug!("a record came after its shard was lost");
        }
    }

    /// The settle of `id` has gone through all its steps.
    pub fn settled(&self, id: &EnvelopeId) {
        self.tracker().settled(id);
    }

    /// Up to which sequence everything is settled, and what else is known about it.
    pub fn tracker(&self) -> MutexGuard<'_, SettledThrough> {
        self.through.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    spool: Spool,
    shard: ShardId,
    fence: SharedFence,
    publish: Histogram,
    through: Arc<Mutex<SettledThrough>>,
    receiver: mpsc::UnboundedReceiver<Line>,
}

impl Writer {
    async fn run(mut self) {
        let mut lines = Vec::with_capacity(FLUSH);
        while self.receiver.recv_many(&mut lines, FLUSH).await > 0 {
            let (records, waiting): (Vec<Record>, Vec<_>) =
                lines.drain(..).map(|line| (line.record, line.done)).unzip();
            let moving: Vec<EnvelopeId> =
                records.iter().filter(|record| record.next.is_some()).map(|record| record.id).collect();
            let flush = self.tracker().flush_begun();
            let began = std::time::Instant::now();
            let unrecorded = self.fence.flush_begun();
            let sequence = self.publish(&records).await;
            drop(unrecorded);
            self.publish.observe(began.elapsed().as_secs_f64());
            self.tracker().recorded(flush, sequence, moving);
            for done in waiting.into_iter().flatten() {
                // A settle that was given up no longer listens.
                if done.send(()).is_err() {
                    tracing::debug!(shard = %self.shard, "a record outlived its settle");
                }
            }
        }
    }

    async fn publish(&self, records: &[Record]) -> u64 {
        let flush = format!("{}-{:032x}", self.shard, u128::from_be_bytes(random::bytes()));
        loop {
            if self.fence.may_act() {
                match self.spool.publish_events(self.shard, records, &flush).await {
                    Ok(sequence) => return sequence,
                    Err(error) => tracing::warn!(shard = %self.shard, %error, "cannot write EVENTS yet; trying again"),
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn tracker(&self) -> MutexGuard<'_, SettledThrough> {
        self.through.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
