//! Bodies: how the bytes of a message are stored (zstd where it pays), inline or in a BODY stream as chunks found by
//! sequence. A body that cannot be read is never a reason to bounce: `Gone` is said only after the stream's leader said so.

use std::time::Duration;

use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_model::{Body, BodyRef, ShardId};
use postrider_proto::Packet;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::compression::{compress, decompress};
use crate::publish::PublishError;
use crate::spool::{API_TIMEOUT, Spool};
use crate::subject::{self, StreamName};
use crate::tier::LookError;

/// The largest body, as stored, that travels in its envelope's own record.
pub const INLINE_BYTES: usize = 256 * 1024;

/// The largest message that travels in its envelope's own record, however small it becomes: what is unfolded from there is
/// in nobody's budget of memory.
const INLINE_MESSAGE_BYTES: usize = 1 << 20;

/// The largest message that is unfolded: a bound against a frame that lies about its size.
pub const LARGEST_MESSAGE: usize = 256 << 20;

/// Bytes of a chunk: half of what a server takes by default.
const CHUNK: usize = 512 * 1024;

/// Chunks under way at a time, for one body.
const WINDOW: usize = 4;

/// Rounds of "replica, then leader" before a body counts as gone.
const TRIES: u32 = 3;

/// Why a body could not be read.
#[derive(Debug, Error)]
pub enum BodyError {
    /// The stream's leader says that a chunk does not exist: to the dead letters.
    #[error("chunk {sequence} of {stream} does not exist")]
    Gone {
        /// The stream.
        stream: String,
        /// The chunk.
        sequence: u64,
    },
    /// The bytes are not those that were stored: to the dead letters.
    #[error("the body is damaged: {0}")]
    Damaged(String),
    /// Nobody could be asked: try again later.
    #[error("the body cannot be read now: {0}")]
    Unavailable(String),
}

/// The stored form of a message of which so many copies are kept: a zstd frame where that pays, else the bytes themselves.
fn encode_body(message: Bytes, copies: usize) -> Body {
    match compress(&message, copies) {
        Some(bytes) => Body::Inline { bytes, compressed: true },
        None => Body::Inline { bytes: message, compressed: false },
    }
}

/// The message of an inline body.
///
/// # Errors
/// [`BodyError::Damaged`].
pub fn decode_body(bytes: Bytes, compressed: bool) -> Result<Bytes, BodyError> {
    if compressed { decompress(&bytes, LARGEST_MESSAGE) } else { Ok(bytes) }
}

impl Spool {
    /// Finds the place of a message's body: inline up to [`INLINE_BYTES`] if a single part has it, else BODY, and then it
    /// is durable when this returns.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn place_body(&self, message: Bytes, sharing: Sharing) -> Result<Body, PublishError> {
        let size = message.len();
        let body = encode_body(message, self.copies());
        match body {
            Body::Inline { bytes, compressed }
                if sharing == Sharing::Shared || bytes.len() > INLINE_BYTES || size > INLINE_MESSAGE_BYTES =>
            {
                self.put_body(bytes, compressed, sharing).await.map(Body::Stored)
            }
            placed => Ok(placed),
        }
    }

    /// Puts a message's body into BODY, however small it is: its envelope is about to move.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn store_body(&self, message: Bytes, sharing: Sharing) -> Result<Body, PublishError> {
        match encode_body(message, self.copies()) {
            Body::Inline { bytes, compressed } => self.put_body(bytes, compressed, sharing).await.map(Body::Stored),
            stored @ Body::Stored(_) => Ok(stored),
        }
    }

    /// Stores bytes (in their stored form) in a BODY stream.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn put_body(&self, bytes: Bytes, compressed: bool, sharing: Sharing) -> Result<BodyRef, PublishError> {
        let hash = xxh3_64(&bytes);
        let number = u8::try_from(hash % u64::from(self.layout().side_streams.max(1))).unwrap_or(0);
        let subject = subject::body(number);
        let id = self.client().new_inbox();
        let length = bytes.len();
        let starts = (0..length.max(1)).step_by(CHUNK);
        let sequences = stream::iter(starts.enumerate())
            .map(|(index, start)| {
                let chunk = bytes.slice(start..(start + CHUNK).min(length));
                let (subject, id) = (&subject, format!("{id}:{index}"));
                async move { self.publish(subject, &id, chunk).await }
            })
            .buffered(WINDOW)
            .try_collect()
            .await?;
        Ok(BodyRef {
            stream: number,
            sequences,
            length: u64::try_from(length).unwrap_or(u64::MAX),
            hash,
            compressed,
            shared: sharing == Sharing::Shared,
            parts: 0,
        })
    }

    /// Stores an inline body in BODY, before its envelope's first move; a stored one stays where it is.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget.
    pub async fn spill_body(&self, body: &Body) -> Result<BodyRef, PublishError> {
        match body {
            Body::Inline { bytes, compressed } => self.put_body(bytes.clone(), *compressed, Sharing::Own).await,
            Body::Stored(stored) => Ok(stored.clone()),
        }
    }

    /// The message, wherever its body is.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn read_body(&self, body: &Body) -> Result<Bytes, BodyError> {
        match body {
            Body::Inline { bytes, compressed } => decode_body(bytes.clone(), *compressed),
            Body::Stored(stored) => decode_body(self.read_stored(stored).await?, stored.compressed),
        }
    }

    async fn read_stored(&self, stored: &BodyRef) -> Result<Bytes, BodyError> {
        let stream = StreamName::Body(stored.stream);
        let mut chunks: Vec<Bytes> = stream::iter(stored.sequences.iter().copied())
            .map(|sequence| self.read_chunk(stream, sequence))
            .buffered(WINDOW)
            .try_collect()
            .await?;
        let bytes = match chunks.len() {
            1 => chunks.swap_remove(0),
            _ => {
                let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
                for chunk in &chunks {
                    whole.extend_from_slice(chunk);
                }
                whole.freeze()
            }
        };
        if u64::try_from(bytes.len()) != Ok(stored.length) || xxh3_64(&bytes) != stored.hash {
            return Err(BodyError::Damaged(format!("length or hash differ from what {stream} was given")));
        }
        Ok(bytes)
    }

    /// A replica that lags answers 404 to a chunk that exists, so the leader has the last word.
    async fn read_chunk(&self, stream: StreamName, sequence: u64) -> Result<Bytes, BodyError> {
        let handle = self
            .context()
            .get_stream_no_info(stream.to_string())
            .await
            .map_err(|e| BodyError::Unavailable(e.to_string()))?;
        let mut last = BodyError::Unavailable("not asked".to_owned());
        let asked = tokio::time::Instant::now();
        for round in 0..TRIES {
            if round > 0 {
                tokio::time::sleep(Duration::from_millis(50) * round).await;
            }
            match handle.direct_get(sequence).await {
                Ok(message) => return Ok(message.payload),
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                Err(error) => tracing::debug!(%stream, sequence, %error, "direct get failed"),
            }
            match handle.get_raw_message(sequence).await {
                Ok(message) => return Ok(message.payload),
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
                    last = BodyError::Gone { stream: stream.to_string(), sequence };
                }
                // Nobody answers: whoever wants the body may come again, and should not be kept.
                Err(error) if asked.elapsed() > API_TIMEOUT => return Err(BodyError::Unavailable(error.to_string())),
                Err(error) => last = BodyError::Unavailable(error.to_string()),
            }
        }
        Err(last)
    }

    /// Reads a packet of READY once more, for a process that has dropped its inline body from memory.
    ///
    /// # Errors
    /// [`BodyError`]; gone means that its envelope was acknowledged.
    pub async fn reread_packet(&self, shard: ShardId, sequence: u64) -> Result<Packet, BodyError> {
        let record = self.read_chunk(subject::ready_stream(&self.layout(), shard), sequence).await?;
        Packet::decode(record).map_err(|error| BodyError::Damaged(error.to_string()))
    }

    /// Deletes a body that only its own, finished part used. One that is gone already is fine; a shared one is left.
    ///
    /// # Errors
    /// What could not be done: the body then ages out.
    pub async fn delete_body(&self, stored: &BodyRef) -> Result<(), BodyError> {
        if stored.shared {
            return Ok(());
        }
        self.delete_chunks(stored.stream, &stored.sequences).await
    }

    /// Deletes chunks of a BODY stream that nothing refers to any more. What is gone already is fine.
    ///
    /// # Errors
    /// What could not be done: the same again may be.
    pub async fn delete_chunks(&self, stream: u8, sequences: &[u64]) -> Result<(), BodyError> {
        let stream = StreamName::Body(stream);
        stream::iter(sequences.iter().copied())
            .map(|sequence| self.delete_message(stream, sequence))
            .buffer_unordered(WINDOW)
            .try_collect()
            .await
    }

    /// Messages and bytes that all BODY streams hold.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn bodies_held(&self) -> Result<(u64, u64), LookError> {
        let mut held = (0, 0);
        for number in 0..self.layout().side_streams {
            let name = StreamName::Body(number).to_string();
            let found = self.context().get_stream(&name).await;
            let found = found.map_err(|error| LookError { stream: name, why: error.to_string() })?;
            let state = &found.cached_info().state;
            held = (held.0 + state.messages, held.1 + state.bytes);
        }
        Ok(held)
    }

    pub(crate) async fn delete_message(&self, stream: StreamName, sequence: u64) -> Result<(), BodyError> {
        // Without overwriting the bytes on disk, which is many times slower.
        let ask = serde_json::json!({ "seq": sequence, "no_erase": true });
        let subject = format!("STREAM.MSG.DELETE.{stream}");
        let answer: serde_json::Value =
            self.context().request(subject, &ask).await.map_err(|e| BodyError::Unavailable(e.to_string()))?;
        let no_message = |code: &serde_json::Value| matches!(code.as_u64(), Some(10037 | 10043 | 10057));
        match answer.get("error") {
            None => Ok(()),
            Some(error) if no_message(&error["err_code"]) => Ok(()),
            Some(error) => Err(BodyError::Unavailable(error["description"].to_string())),
        }
    }
}

/// Whether several parts use a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One part: the body is deleted with it.
    Own,
    /// Several: the body is deleted when all of them have ended.
    Shared,
}
