//! INTAKE: a message of several parts as one record, so that one acknowledgement is the `250` for all of them.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;
use postrider_model::{Class, MessageId};
use postrider_proto::{Packet, decode_intake, encode_intake};

use crate::compression::{compress, decompress};
use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject;

/// Parts repeat each other: a record of thousands compresses to a tenth, so it still is one message.
const COMPRESS_FROM: usize = 16 * 1024;

/// The most bytes a record may unfold to.
pub(crate) const LARGEST: usize = 64 << 20;

/// Says that the payload is a zstd frame.
pub(crate) const ENCODING: &str = "Postrider-Encoding";
pub(crate) const ZSTD: &str = "zstd";

impl Spool {
    /// Records a message of several parts, behind others of its class. The splitter turns the record into READY messages; doing that twice gives the
    /// same.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget; [`PublishError::TooLarge`] if there are too many recipients.
    pub async fn publish_intake(
        &self,
        message: &MessageId,
        class: Class,
        parts: &[Packet],
    ) -> Result<(), PublishError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, message.to_string());
        let record = encode_intake(parts);
        let payload = match compress(&record, self.copies()).filter(|_| record.len() >= COMPRESS_FROM) {
            Some(smaller) => {
                headers.insert(ENCODING, ZSTD);
                smaller
            }
            None => record,
        };
        self.publish_with(&subject::intake(class), headers, payload, self.publish_budget()).await.map(|_| ())
    }
}

/// Reads a record of INTAKE.
pub(crate) fn read(headers: Option<&HeaderMap>, payload: Bytes) -> Result<Vec<Packet>, IntakeError> {
    let encoding = headers.and_then(|headers| headers.get(ENCODING)).map(|value| value.as_str());
    let record = match encoding {
        None => payload,
        Some(ZSTD) => decompress(&payload, LARGEST).map_err(|why| IntakeError::Encoding(why.to_string()))?,
        Some(other) => return Err(IntakeError::Encoding(format!("unknown encoding {other:?}"))),
    };
    Ok(decode_intake(record)?)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("{0}")]
    Encoding(String),
    #[error(transparent)]
    Record(#[from] postrider_proto::ConvertError),
}
