//! A key-value bucket as this crate uses it: whole values, compare-and-set on revisions, a time to live, and a watch that
//! lists again after every interruption. What the values mean is none of its business.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MARKER_REASON, NATS_MESSAGE_TTL};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::DirectGetErrorKind;
use async_nats::jetstream::{Context, ErrorCode, kv};
use bytes::Bytes;
use futures_util::StreamExt;
use thiserror::Error;

use crate::link::Link;
use crate::spool::API_TIMEOUT;

/// State of the system, written by control.
pub(crate) const CONFIG: &str = "config";
/// Members and owners of shards.
pub(crate) const LEASE: &str = "lease";
/// Hourly sums of what was accepted and what ended.
pub(crate) const AUDIT: &str = "audit";

/// Why a bucket did not do what was asked.
#[derive(Debug, Error)]
pub enum BucketError {
    /// Somebody else wrote meanwhile: read again and decide again.
    #[error("{key} has been changed by somebody else")]
    Conflict {
        /// The key.
        key: String,
    },
    /// No answer, or a refusal that has nothing to do with the value.
    #[error("{key}: {why}")]
    Unavailable {
        /// The key.
        key: String,
        /// What was met.
        why: String,
    },
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Whatever,
    /// No such key, or a deleted one.
    Absent,
    /// This revision.
    Revision(u64),
}

/// A value at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Bytes,
    pub(crate) revision: u64,
}

/// What a watch sees.
#[derive(Clone, Debug)]
pub(crate) enum Seen {
    /// The list begins anew: forget everything.
    Restarted,
    /// A value.
    Put(Entry),
    /// No value any more.
    Gone { key: String, revision: u64 },
    /// Everything that was there when the list began has been seen, up to this revision.
    Complete { revision: u64 },
}

#[derive(Clone)]
pub(crate) struct Bucket {
    context: Context,
    link: Link,
    name: &'static str,
}

impl Bucket {
    pub(crate) fn new(context: Context, link: Link, name: &'static str) -> Self {
        Self { context, link, name }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// The value, or the revision at which it was deleted.
    async fn last(&self, key: &str) -> Result<Option<(Option<Bytes>, u64)>, BucketError> {
        let unavailable = |why: String| BucketError::Unavailable { key: key.to_owned(), why };
        let stream = format!("KV_{}", self.name);
        let stream = self.context.get_stream_no_info(stream).await.map_err(|e| unavailable(e.to_string()))?;
        let found = match stream.direct_get_last_for_subject(self.subject(key)).await {
            // A replica that lags may know of nothing: the leader has the last word.
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
                match stream.get_last_raw_message_by_subject(&self.subject(key)).await {
                    Ok(message) => message,
                    Err(error) => {
                        use async_nats::jetstream::stream::LastRawMessageErrorKind;
                        let absent = matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound);
                        return if absent { Ok(None) } else { Err(unavailable(error.to_string())) };
                    }
                }
            }
            Err(error) => return Err(unavailable(error.to_string())),
            Ok(message) => message,
        };
        let gone = is_marker(&found.headers);
        Ok(Some(((!gone).then_some(found.payload), found.sequence)))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Entry>, BucketError> {
        let found = self.last(key).await?;
        Ok(found.and_then(|(value, revision)| Some(Entry { key: key.to_owned(), value: value?, revision })))
    }

    /// Writes; returns the new revision.
    pub(crate) async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64, BucketError> {
        // What the value builds on is to be on disk before it, and it before whoever builds on it.
        self.until_durable(key).await?;
        let revision = self.write(key, value, expected, HeaderMap::new(), API_TIMEOUT).await?;
        self.until_durable(key).await?;
        Ok(revision)
    }

    async fn until_durable(&self, key: &str) -> Result<(), BucketError> {
        let unavailable = |why: String| BucketError::Unavailable { key: key.to_owned(), why };
        self.link.until_durable().await.map_err(|error| unavailable(error.to_string()))
    }

    /// Writes a value that vanishes by itself. The answer is waited for as long as `patience`.
    pub(crate) async fn put_for(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Duration,
        patience: Duration,
    ) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_TTL, format!("{}s", ttl.as_secs().max(1)));
        self.write(key, value, expected, headers, patience).await
    }

    /// Deletes; returns the revision of the deletion.
    pub(crate) async fn delete(&self, key: &str, expected: Expected) -> Result<u64, BucketError> {
        let mut headers = HeaderMap::new();
        headers.insert("KV-Operation", "DEL");
        self.write(key, Bytes::new(), expected, headers, API_TIMEOUT).await
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        mut headers: HeaderMap,
        patience: Duration,
    ) -> Result<u64, BucketError> {
        let expected = match expected {
            Expected::Whatever => None,
            Expected::Revision(revision) => Some(revision),
            // A deleted key leaves a marker, and the marker has a revision.
            Expected::Absent => match self.last(key).await? {
                None => Some(0),
                Some((None, revision)) => Some(revision),
                Some((Some(_), _)) => return Err(BucketError::Conflict { key: key.to_owned() }),
            },
        };
        if let Some(revision) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
        }
        let unavailable = |why: String| BucketError::Unavailable { key: key.to_owned(), why };
        let sent = self.link.request(self.subject(key), headers, value, patience).await;
        let answer = sent.map_err(|e| unavailable(e.to_string()))?;
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(ack.sequence),
            Ok(Response::Err { error }) if is_conflict(error.error_code()) => {
                Err(BucketError::Conflict { key: key.to_owned() })
            }
            Ok(Response::Err { error }) => Err(unavailable(error.to_string())),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    /// Lists, then follows, for as long as `see` wants to; lists again after every interruption.
    pub(crate) async fn watch(&self, keys: &str, mut see: impl FnMut(Seen)) {
        let mut reconnects = self.link.reconnects.clone();
        let mut pause = Duration::from_millis(20);
        loop {
            reconnects.mark_unchanged();
            tokio::select! {
                ended = self.follow(keys, &mut see) => match ended {
                    Ok(()) => pause = Duration::from_millis(20),
                    Err(error) => tracing::debug!(bucket = self.name, error, "watching again"),
                },
                _ = reconnects.changed() => pause = Duration::from_millis(20),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    async fn follow(&self, keys: &str, see: &mut impl FnMut(Seen)) -> Result<(), String> {
        let store = self.context.get_key_value(self.name).await.map_err(|e| e.to_string())?;
        let last = store.stream.cached_info().state.last_sequence;
        let mut watch = store.watch_with_history(keys).await.map_err(|e| e.to_string())?;
        see(Seen::Restarted);
        // An empty bucket sends nothing; otherwise the entry that has none behind it completes the list.
        let mut complete = self.is_empty(keys).await.map_err(|e| e.to_string())?;
        if complete {
            see(Seen::Complete { revision: last });
        }
        while let Some(entry) = watch.next().await {
            let entry = entry.map_err(|e| e.to_string())?;
            let (revision, current) = (entry.revision, entry.seen_current);
            match entry.operation {
                kv::Operation::Put => {
                    see(Seen::Put(Entry { key: entry.key, value: entry.value, revision }));
                }
                kv::Operation::Delete | kv::Operation::Purge => see(Seen::Gone { key: entry.key, revision }),
            }
            if current && !complete {
                complete = true;
                see(Seen::Complete { revision: revision.max(last) });
            }
        }
        Ok(())
    }

    async fn is_empty(&self, keys: &str) -> Result<bool, BucketError> {
        let unavailable = |why: String| BucketError::Unavailable { key: keys.to_owned(), why };
        let stream = format!("KV_{}", self.name);
        let stream = self.context.get_stream_no_info(stream).await.map_err(|e| unavailable(e.to_string()))?;
        let mut subjects =
            stream.info_with_subjects(self.subject(keys)).await.map_err(|e| unavailable(e.to_string()))?;
        Ok(subjects.next().await.is_none())
    }

    /// How much of its bytes it holds, 0.0 to 1.0.
    pub(crate) async fn fullness(&self) -> Result<f64, BucketError> {
        let name = format!("KV_{}", self.name);
        let unavailable = |why: String| BucketError::Unavailable { key: name.clone(), why };
        let stream = self.context.get_stream(&name).await.map_err(|e| unavailable(e.to_string()))?;
        let info = stream.cached_info();
        let most = u32::try_from(info.config.max_bytes / 1_024).unwrap_or(u32::MAX).max(1);
        let holds = u32::try_from(info.state.bytes / 1_024).unwrap_or(u32::MAX);
        Ok(f64::from(holds) / f64::from(most))
    }

    /// Everything there is now.
    pub(crate) async fn list(&self, keys: &str) -> Result<Vec<Entry>, BucketError> {
        let unavailable = |why: String| BucketError::Unavailable { key: keys.to_owned(), why };
        if self.is_empty(keys).await? {
            return Ok(Vec::new());
        }
        let store = self.context.get_key_value(self.name).await.map_err(|e| unavailable(e.to_string()))?;
        let mut watch = store.watch_with_history(keys).await.map_err(|e| unavailable(e.to_string()))?;
        let mut entries = Vec::new();
        loop {
            let next = tokio::time::timeout(API_TIMEOUT, watch.next()).await;
            let entry = match next {
                Ok(Some(Ok(entry))) => entry,
                Ok(Some(Err(error))) => return Err(unavailable(error.to_string())),
                Ok(None) => return Err(unavailable("the list broke off".to_owned())),
                Err(_) => return Err(unavailable("no answer".to_owned())),
            };
            let done = entry.seen_current;
            if entry.operation == kv::Operation::Put {
                entries.push(Entry { key: entry.key, value: entry.value, revision: entry.revision });
            }
            if done {
                return Ok(entries);
            }
        }
    }
}

fn is_marker(headers: &HeaderMap) -> bool {
    headers.get(NATS_MARKER_REASON).is_some()
        || headers.get("KV-Operation").is_some_and(|operation| operation.as_str() != "PUT")
}

fn is_conflict(code: ErrorCode) -> bool {
    [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT].contains(&code)
}
