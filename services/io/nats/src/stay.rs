//! The end of a record's stay where it was moved from. A consumer that was made again, as after the restart of a single server,
//! never confirms what the one before it handed out: then the record is taken out by its sequence.

use std::time::Duration;

use async_nats::jetstream::stream::RawMessageErrorKind;
use postrider_model::{ShardId, Timestamp};
use tokio::time::Instant;

use crate::body::BodyError;
use crate::handle::Handle;
use crate::layout::MOVE_WAIT;
use crate::spool::Spool;
use crate::subject::{self, StreamName};

/// A confirmation that takes longer does not come, or costs more than taking the record out by its sequence.
const PROMPT: Duration = Duration::from_secs(2);

/// What is published at the last moment is stored before the ack wait is over.
const MARGIN: Duration = Duration::from_secs(5);

/// A record of a work queue that is leased.
pub(crate) struct Stay {
    pub(crate) stream: StreamName,
    pub(crate) sequence: u64,
    pub(crate) stored: Timestamp,
    pub(crate) handle: Handle,
    /// Until when it is ours to move: whoever was frozen past that may not know what another has made of it.
    pub(crate) until: Instant,
}

/// Until when what was asked for at `asked` may be moved: for as long as nobody else is handed it, and some time before for what
/// is on its way.
pub(crate) fn ours_until(asked: Instant) -> Instant {
    asked + MOVE_WAIT - MARGIN
}

impl Spool {
    /// Ends a stay, whoever may have been handed the record meanwhile: it is elsewhere by now.
    ///
    /// # Errors
    /// Nobody answers: the record comes again, and its id shows that it is a repeat.
    pub(crate) async fn end_stay(&self, stay: Stay) -> Result<(), BodyError> {
        let Stay { stream, sequence, stored, handle, until: _ } = stay;
        if handle.ack_confirmed(PROMPT).await.is_ok() {
            return Ok(());
        }
        self.take_out(stream, sequence, stored).await
    }

    /// Ends the stay of a record of READY whose acknowledgement was asked for and not confirmed: its consumer may have been made
    /// anew since, and knows nothing of it. For the owner of the shard, when all that the record led to is stored.
    ///
    /// # Errors
    /// Nobody answers: try again.
    pub async fn end_unconfirmed(&self, shard: ShardId, handle: &Handle) -> Result<(), BodyError> {
        match handle.place() {
            Some((sequence, stored)) => {
                self.take_out(subject::ready_stream(&self.layout(), shard), sequence, stored).await
            }
            None => handle.confirm_ack(PROMPT).await.map_err(|error| BodyError::Unavailable(error.to_string())),
        }
    }

    /// Takes a record out by its sequence, if it is there still.
    async fn take_out(&self, stream: StreamName, sequence: u64, stored: Timestamp) -> Result<(), BodyError> {
        let unavailable = |why: String| BodyError::Unavailable(why);
        let queue = self.context().get_stream_no_info(stream.to_string()).await;
        let queue = queue.map_err(|error| unavailable(error.to_string()))?;
        // A server that lost the end of its store gives the same sequences to others.
        match queue.get_raw_message(sequence).await {
            Ok(found) if found.time.unix_timestamp_nanos() / 1_000_000 == i128::from(stored.as_millis()) => {
                self.delete_message(stream, sequence).await
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(()),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}
