//! Reads a stream from a sequence or a time onwards, in chunks bounded in bytes, by batched DIRECT.GET: no consumer is made,
//! nothing is kept on the server, and after an interruption the next chunk is simply asked again.

use std::time::Duration;

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::{Message, StatusCode};
use futures_util::StreamExt;
use postrider_model::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use crate::spool::{API_TIMEOUT, Spool};
use crate::subject::StreamName;

/// The most messages and bytes of a chunk.
const CHUNK: (usize, usize) = (256, 8 << 20);

/// How long an unwilling server is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream could not be read on.
#[derive(Debug, Error)]
#[error("cannot read {stream}: {why}")]
pub struct ReadError {
    stream: String,
    why: String,
}

impl ReadError {
    pub(crate) fn new(stream: &str, why: String) -> Self {
        Self { stream: stream.to_owned(), why }
    }
}

#[derive(Serialize)]
struct Ask<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<String>,
    batch: usize,
    max_bytes: usize,
    next_by_subj: &'a str,
}

/// Where to go on.
#[derive(Clone, Copy)]
enum Position {
    From(Timestamp),
    After(u64),
}

/// A message of the stream.
pub(crate) struct Stored {
    pub(crate) payload: bytes::Bytes,
    pub(crate) headers: Option<async_nats::HeaderMap>,
    pub(crate) sequence: u64,
    pub(crate) stored: Timestamp,
}

pub(crate) struct Reader {
    spool: Spool,
    stream: String,
    filter: String,
    position: Position,
    behind_since: Option<Instant>,
}

impl Reader {
    pub(crate) fn after(spool: &Spool, stream: StreamName, filter: String, sequence: u64) -> Self {
        Self::new(spool, stream, filter, Position::After(sequence))
    }

    pub(crate) fn from_time(spool: &Spool, stream: StreamName, filter: String, time: Timestamp) -> Self {
        Self::new(spool, stream, filter, Position::From(time))
    }

    fn new(spool: &Spool, stream: StreamName, filter: String, position: Position) -> Self {
        Self { spool: spool.clone(), stream: stream.to_string(), filter, position, behind_since: None }
    }

    /// All that any stream holds behind a sequence.
    pub(crate) fn of(spool: &Spool, stream: &str, sequence: u64) -> Self {
        let position = Position::After(sequence);
        Self { spool: spool.clone(), stream: stream.to_owned(), filter: ">".to_owned(), position, behind_since: None }
    }

    /// Everything up to this sequence has been handed out.
    pub(crate) fn read_through(&self) -> u64 {
        match self.position {
            Position::After(sequence) => sequence,
            Position::From(_) => 0,
        }
    }

    /// The next chunk; empty at the end of what the answering replica has.
    pub(crate) async fn next(&mut self) -> Result<Vec<Stored>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask().await {
                Ok(chunk) => {
                    if let Some(last) = chunk.last() {
                        self.position = Position::After(last.sequence);
                        self.behind_since = None;
                    }
                    return Ok(chunk);
                }
                Err(why) if Instant::now() >= deadline => {
                    return Err(ReadError { stream: self.stream.to_string(), why });
                }
                Err(why) => {
                    tracing::debug!(stream = %self.stream, why, "reading again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// After an empty chunk although there must be more up to `last`: a replica lags. Waits a little, not for ever.
    pub(crate) async fn pause_if_behind(&mut self, last: u64) -> Result<(), ReadError> {
        if self.read_through() >= last {
            return Ok(());
        }
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            let why = format!("replicas do not get to sequence {last}");
            return Err(ReadError { stream: self.stream.to_string(), why });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }

    async fn ask(&self) -> Result<Vec<Stored>, String> {
        let client = self.spool.client();
        let inbox = client.new_inbox();
        let (seq, start_time) = match self.position {
            Position::After(sequence) => (Some(sequence + 1), None),
            Position::From(time) => (None, Some(time.to_string())),
        };
        let ask = Ask { seq, start_time, batch: CHUNK.0, max_bytes: CHUNK.1, next_by_subj: &self.filter };
        let payload = serde_json::to_vec(&ask).map_err(|e| e.to_string())?;
        let exchange = async {
            let mut subscriber = client.subscribe(inbox.clone()).await.map_err(|e| e.to_string())?;
            let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
            client.publish_with_reply(subject, inbox, payload.into()).await.map_err(|e| e.to_string())?;
            let mut chunk = Vec::new();
            while let Some(message) = subscriber.next().await {
                match message.status {
                    None | Some(StatusCode::OK) => chunk.push(stored(message).ok_or("a message without its place")?),
                    // 204 ends a chunk, 404 says that there is nothing.
                    Some(StatusCode::NOT_FOUND) => return Ok(chunk),
                    Some(status) if status.as_u16() == 204 => return Ok(chunk),
                    Some(status) => return Err(format!("{status} {:?}", message.description)),
                }
            }
            Err("the subscription ended".to_owned())
        };
        tokio::time::timeout(API_TIMEOUT, exchange).await.map_err(|_| "no answer".to_owned())?
    }
}

fn stored(message: Message) -> Option<Stored> {
    let headers = message.headers.as_ref()?;
    let sequence = headers.get("Nats-Sequence")?.as_str().parse().ok()?;
    let time = async_nats::datetime::parse_rfc3339(headers.get("Nats-Time-Stamp")?.as_str()).ok()?;
    let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?;
    Some(Stored {
        payload: message.payload,
        headers: message.headers,
        sequence,
        stored: Timestamp::from_millis(millis),
    })
}

/// The last sequence on a subject, as the stream's leader knows it; 0 if there is none.
pub(crate) async fn last_sequence(spool: &Spool, stream: StreamName, subject: &str) -> Result<u64, ReadError> {
    let failed = |why: String| ReadError { stream: stream.to_string(), why };
    let deadline = Instant::now() + PATIENCE;
    let handle = spool.context().get_stream_no_info(stream.to_string()).await.map_err(|e| failed(e.to_string()))?;
    loop {
        let error = match handle.get_last_raw_message_by_subject(subject).await {
            Ok(message) => return Ok(message.sequence),
            Err(error) => error,
        };
        if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) {
            return Ok(0);
        }
        if Instant::now() >= deadline {
            return Err(failed(error.to_string()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
