//! EVENTS: the journal. A flush is one message with many records and, in a header, a filter over their message ids, so that
//! who looks for one message need not read the others.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use postrider_model::{EnvelopeId, MessageId, Move, Record, ShardId};
use postrider_proto::event::v1 as wire;
use postrider_proto::hop_and_move;
use prost::Message;

use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject;

mod filter;
use filter::Filter;

pub(crate) mod reader;
pub use reader::ReadError;
pub(crate) use reader::Reader;

mod journal;
pub use journal::{JournalBatch, JournalReader};

mod scan;
pub use scan::{EventScan, EventTail, ScanFrom};

/// The most records of one message.
const RECORDS: usize = 500;

/// The most bytes of one message.
const BYTES: usize = 512 * 1024;

/// The header of a batch that tells of parts that ended and share their body with others.
const SHARED: &str = "Postrider-Shared";

/// The header that holds the filter.
const IDS: &str = "Postrider-Ids";

/// What a record says to a new owner of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Which hop it is of.
    pub hop: EnvelopeId,
    /// Where the hop goes next.
    pub next: Next,
}

/// Where a hop goes by its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The record moves nothing.
    Nowhere,
    /// There.
    Move(Move),
    /// Only a newer build can tell. The hop has its record: it must not be attempted again, nor acknowledged.
    ForNewer,
}

impl Spool {
    /// Appends records to a shard's journal, in order, in as few messages as the bounds allow. `flush` names the call: the
    /// same again when it is repeated, so that what was stored the first time is not stored twice. Returns the sequence of
    /// the first message: a replay may begin there as long as one of the records is not settled.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget: then some of the records may be there all the same.
    pub async fn publish_events(&self, shard: ShardId, records: &[Record], flush: &str) -> Result<u64, PublishError> {
        let subject = subject::event(shard);
        let mut first = None;
        let mut rest: Vec<wire::Record> = records.iter().map(wire::Record::from).collect();
        for number in 0u32.. {
            if rest.is_empty() {
                break;
            }
            let later = rest.split_off(fitting(&rest));
            let shared = rest.iter().any(|record| record.body.is_some());
            let (ids, payload) = batch(rest);
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, format!("{flush}:{number}"));
            headers.insert(IDS, ids.to_hex());
            if shared {
                headers.insert(SHARED, "1");
            }
            let sequence = self.publish_with(&subject, headers, payload, self.publish_budget()).await?;
            first.get_or_insert(sequence);
            rest = later;
        }
        Ok(first.unwrap_or_default())
    }

    /// Hands every record of a shard that was written after `settled_through` to `see`, with the sequence of its message,
    /// and returns the sequence up to which it has read: nothing that was acknowledged before the call is left out.
    ///
    /// # Errors
    /// [`ReadError`]: begin again.
    pub async fn replay_events(
        &self,
        shard: ShardId,
        settled_through: u64,
        mut see: impl FnMut(u64, Replayed),
    ) -> Result<u64, ReadError> {
        let stream = subject::events_stream(&self.layout(), shard);
        let subject = subject::event(shard);
        // Replicas may lag; the leader knows what must be seen.
        let last = reader::last_sequence(self, stream, &subject).await?;
        let mut reader = reader::Reader::after(self, stream, subject, settled_through);
        while reader.read_through() < last {
            for message in reader.next().await? {
                for record in records(message.payload.clone()).into_iter().filter_map(replayed) {
                    see(message.sequence, record);
                }
            }
            reader.pause_if_behind(last).await?;
        }
        Ok(last.max(settled_through))
    }
}

/// How many of the first records go into one message; at least one.
fn fitting(records: &[wire::Record]) -> usize {
    let mut bytes = 0;
    let fit = records.iter().take(RECORDS).take_while(|record| {
        bytes += record.encoded_len() + 8;
        bytes <= BYTES
    });
    fit.count().max(1)
}

fn batch(records: Vec<wire::Record>) -> (Filter, Bytes) {
    let ids: Vec<&[u8]> = records.iter().map(|record| record.message_id.as_ref()).collect();
    let filter = Filter::of(&ids);
    let batch = wire::Batch { id_filter: filter.as_bytes().to_vec().into(), records };
    (filter, batch.encode_to_vec().into())
}

fn records(payload: Bytes) -> Vec<wire::Record> {
    match wire::Batch::decode(payload) {
        Ok(batch) => batch.records,
        Err(error) => {
            tracing::error!(%error, "a batch of EVENTS cannot be read");
            Vec::new()
        }
    }
}

fn replayed(record: wire::Record) -> Option<Replayed> {
    match hop_and_move(record) {
        Ok((hop, None)) => Some(Replayed { hop, next: Next::Nowhere }),
        Ok((hop, Some(Ok(next)))) => Some(Replayed { hop, next: Next::Move(next) }),
        Ok((hop, Some(Err(error)))) => {
            tracing::warn!(%hop, %error, "a record of EVENTS is for a newer build: its mail is left to one");
            Some(Replayed { hop, next: Next::ForNewer })
        }
        Err(error) => {
            tracing::error!(%error, "a record of EVENTS cannot be read");
            None
        }
    }
}

/// The records of a message; those that cannot be read are logged and skipped.
fn decode(payload: Bytes) -> Vec<Record> {
    let record = |record: wire::Record| match Record::try_from(record) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(%error, "a record of EVENTS cannot be read");
            None
        }
    };
    records(payload).into_iter().filter_map(record).collect()
}

/// Whether a message may hold records of one of these messages.
fn may_hold(headers: Option<&HeaderMap>, ids: &[MessageId]) -> bool {
    let filter = headers.and_then(|headers| headers.get(IDS)).and_then(|text| Filter::from_hex(text.as_str()));
    filter.is_none_or(|filter| ids.iter().any(|id| filter.may_hold(id.as_bytes())))
}
