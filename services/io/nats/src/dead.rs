//! DEAD: what cannot be decoded or read. Kept, counted, listed, never in anybody's way.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use bytes::Bytes;

use crate::handle::Undecodable;
use crate::publish::PublishError;
use crate::spool::Spool;
use crate::subject;

/// The longest explanation kept with a dead letter.
const EXPLANATION: usize = 512;

impl Spool {
    /// Keeps a record among the dead letters. `id` makes a repeat recognised; `why` is for people.
    ///
    /// # Errors
    /// [`PublishError`], after the configured budget: then the record must stay where it is.
    pub async fn bury(&self, reason: &str, id: &str, why: &str, raw: Bytes) -> Result<(), PublishError> {
        let clean: String = why.chars().map(|c| if c.is_ascii() && !c.is_control() { c } else { ' ' }).collect();
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert("Postrider-Why", clean.chars().take(EXPLANATION).collect::<String>());
        self.publish_with(&subject::dead(reason), headers, raw, self.publish_budget()).await.map(|_| ())
    }

    /// Buries a record that is no packet, then acknowledges it. If it cannot be buried it is handed back, to be tried
    /// again in a minute.
    pub async fn bury_undecodable(&self, dead: Undecodable) {
        let id = format!("{}:{}", dead.subject, dead.sequence);
        tracing::error!(subject = dead.subject, sequence = dead.sequence, reason = dead.reason, "buried a record");
        match self.bury("undecodable", &id, &dead.reason, dead.raw).await {
            Ok(()) => {
                if let Err(error) = dead.handle.ack_confirmed(self.publish_budget()).await {
                    tracing::warn!(%error, "a buried record comes again");
                }
            }
            Err(error) => {
                tracing::error!(%error, "a record could not be buried");
                dead.handle.hand_back_for(std::time::Duration::from_secs(60)).await;
            }
        }
    }
}
