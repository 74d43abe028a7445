//! Identities: a message, a part of it, and one stay of that part in a stream (an envelope id).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use uuid::Uuid;

use crate::Timestamp;

/// A text that is no id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a message id (a UUID such as 01930b0e-5c1a-7def-8000-0123456789ab)")]
pub struct ParseIdError(String);

/// The id of an accepted message: a UUIDv7 (RFC 9562 section 5.7), so it carries the moment of acceptance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Makes an id from the moment of acceptance and 80 random bits.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random).into_uuid())
    }

    /// The moment the id carries.
    pub fn timestamp(&self) -> Timestamp {
        let bytes = self.0.as_bytes();
        let mut millis = [0u8; 8];
        millis[2..].copy_from_slice(&bytes[..6]);
        Timestamp::from_millis(u64::from_be_bytes(millis))
    }

    /// The 16 bytes as they travel in protobuf.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the 16 bytes of [`MessageId::as_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| ParseIdError(text.to_owned()))
    }
}

/// The number of a part within its message, from 0.
pub type PartNumber = u32;

/// How often an envelope has moved between streams.
pub type Hop = u32;

/// One stay of a part in a stream: `<message>:<part>:<hop>`, also its `Nats-Msg-Id`, so that a repeat is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvelopeId {
    /// The message.
    pub message: MessageId,
    /// The part of it.
    pub part: PartNumber,
    /// The stay.
    pub hop: Hop,
}

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.message, self.part, self.hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_carries_its_moment() {
        let now = Timestamp::from_millis(1_763_786_400_123);
        let id = MessageId::new(now, [7; 10]);
        assert_eq!(id.timestamp(), now);
        assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
        assert_eq!(MessageId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn later_ids_sort_behind_earlier_ones() {
        let early = MessageId::new(Timestamp::from_millis(1), [0xff; 10]);
        let late = MessageId::new(Timestamp::from_millis(2), [0; 10]);
        assert!(early < late);
    }

    #[test]
    fn what_is_no_uuid_is_refused_by_name() {
        let error = "hello".parse::<MessageId>().unwrap_err();
        assert!(error.to_string().contains("\"hello\""));
    }
}
