//! OPERATIONS: the audit trail. One entry for each command of an operator; nothing here reads it to decide anything.

use postrider_model::{Operation, Timestamp};
use postrider_proto::config::v1 as wire;
use prost::Message;
use thiserror::Error;

use crate::events::{ReadError, Reader};
use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject::{self, StreamName};

/// Why the audit trail could not be written or read.
#[derive(Debug, Error)]
pub enum OperationsError {
    /// The entry is not there.
    #[error("the command could not be recorded: {0}")]
    Write(#[from] PublishError),
    /// The entries cannot be had now.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Spool {
    /// Appends an entry; durable when this returns.
    ///
    /// # Errors
    /// [`OperationsError::Write`]: then the command should not be carried out.
    pub async fn record_operation(&self, operation: &Operation) -> Result<(), OperationsError> {
        let bytes = wire::Operation::from(operation).encode_to_vec();
        self.publish(subject::OPERATION, &self.client().new_inbox(), bytes.into()).await?;
        Ok(())
    }

    /// The entries from `since` to `until` (both included), the oldest first, at most `limit` of them. An entry that this
    /// build cannot read is left out, with a line in the log.
    ///
    /// # Errors
    /// [`OperationsError::Read`].
    pub async fn operations(
        &self,
        since: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Operation>, OperationsError> {
        let mut reader = Reader::from_time(self, StreamName::Operations, subject::OPERATION.to_owned(), since);
        let mut found = Vec::new();
        loop {
            let chunk = reader.next().await?;
            if chunk.is_empty() {
                return Ok(found);
            }
            for stored in chunk {
                if stored.stored > until || found.len() >= limit {
                    return Ok(found);
                }
                let sequence = stored.sequence;
                match wire::Operation::decode(stored.payload).map_err(Into::into).and_then(Operation::try_from) {
                    Ok(operation) => found.push(operation),
                    Err(error) => tracing::warn!(sequence, %error, "an entry of the audit trail cannot be read"),
                }
            }
        }
    }
}
