//! Counts for people: what lies in INTAKE and among the dead letters, and how old the mail in a tier and on hold is. Never used for
//! decisions.

use async_nats::jetstream::stream::DirectGetErrorKind;
use postrider_model::{Timestamp, escape_token};
use postrider_proto::Packet;

use crate::spool::Spool;
use crate::subject::StreamName;
use crate::tier::{Depth, LookError};

impl Spool {
    /// Messages that are accepted and not cut into parts yet.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn intake_depth(&self) -> Result<u64, LookError> {
        self.messages(StreamName::Intake).await
    }

    /// Dead letters.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn dead_count(&self) -> Result<u64, LookError> {
        self.messages(StreamName::Dead).await
    }

    /// When the mail was accepted that has waited longest in a tier, for one site and tenant; `None` for READY, and if it has
    /// left meanwhile.
    pub async fn oldest_in_tier(&self, depth: &Depth) -> Option<Timestamp> {
        let tier = depth.tier?;
        let (site, tenant) = (escape_token(depth.site.as_str()), escape_token(depth.tenant.as_str()));
        let subject = format!("retry.{tier}.{}.*.{site}.{tenant}", depth.class.letter());
        self.oldest_of(StreamName::Retry(tier), subject).await
    }

    /// When the mail was accepted that has been on hold longest, for one site, tenant and class; `None` if it has left meanwhile.
    pub async fn oldest_on_hold(&self, depth: &Depth) -> Option<Timestamp> {
        let (site, tenant) = (escape_token(depth.site.as_str()), escape_token(depth.tenant.as_str()));
        self.oldest_of(StreamName::Hold, format!("hold.{}.{tenant}.{site}", depth.class.letter())).await
    }

    async fn oldest_of(&self, stream: StreamName, subject: String) -> Option<Timestamp> {
        let stream = self.context().get_stream_no_info(stream.to_string()).await.ok()?;
        match stream.direct_get_next_for_subject(&subject, Some(1)).await {
            Ok(message) => Some(Packet::decode(message.payload).ok()?.envelope().arrival),
            Err(error) => {
                if error.kind() != DirectGetErrorKind::NotFound {
                    tracing::debug!(subject, %error, "cannot look at the oldest envelope");
                }
                None
            }
        }
    }

    async fn messages(&self, name: StreamName) -> Result<u64, LookError> {
        let failed = |why: String| LookError { stream: name.to_string(), why };
        let info = self.context().get_stream(name.to_string()).await.map_err(|error| failed(error.to_string()))?;
        Ok(info.cached_info().state.messages)
    }
}
