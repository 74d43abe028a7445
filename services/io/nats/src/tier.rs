//! The tiers as a promoter sees them: the head of a queue, and a batch from it. And how much waits where, for people.

use std::time::Duration;

use async_nats::jetstream::stream::{DirectGetErrorKind, LastRawMessageErrorKind};
use futures_util::TryStreamExt;
use postrider_model::{Class, ShardId, SiteName, TenantId, Tier, Timestamp};
use thiserror::Error;
use tokio::time::Instant;

use crate::handle::{Leased, Undecodable};
use crate::layout::Consumer;
use crate::pull::{RawPuller, Wish, decode};
use crate::spool::Spool;
use crate::stay;
use crate::subject::{self, StreamName};

/// A queue could not be looked at.
#[derive(Debug, Error)]
#[error("cannot look into {stream}: {why}")]
pub struct LookError {
    pub(crate) stream: String,
    pub(crate) why: String,
}

/// What waits in READY (what is in flight included) or in a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The tier; `None` is READY.
    pub tier: Option<Tier>,
    /// The class.
    pub class: Class,
    /// The site.
    pub site: SiteName,
    /// The tenant.
    pub tenant: TenantId,
    /// Envelopes.
    pub count: u64,
}

/// Pulls from a tier.
pub(crate) struct TierPuller {
    raw: RawPuller,
}

impl TierPuller {
    pub(crate) fn new(spool: &Spool, tier: Tier, class: Class) -> Self {
        Self { raw: RawPuller::new(spool, Consumer::Retry(tier, class)) }
    }

    /// What there is now, at most `max_messages`, the longest waiting first.
    pub(crate) async fn pull(&mut self, max_messages: usize) -> Vec<Result<Leased, Undecodable>> {
        let wish = Wish { messages: max_messages, bytes: 16 << 20, expires: Duration::ZERO };
        self.raw.pull_whole(wish).await.into_iter().filter_map(decode).collect()
    }

    /// What nobody had pulled, as of the last pull that brought something.
    pub(crate) fn left(&self) -> u64 {
        self.raw.left()
    }

    /// Until when what was pulled last is ours to move.
    pub(crate) fn ours_until(&self) -> Instant {
        stay::ours_until(self.raw.asked())
    }

    pub(crate) async fn stop(self) {
        self.raw.stop().await;
    }
}

impl Spool {
    /// When the envelope at the head of a tier was stored, by the server's clock; `None` if the tier is empty.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn tier_head(&self, tier: Tier, class: Class) -> Result<Option<Timestamp>, LookError> {
        let name = StreamName::Retry(tier);
        let failed = |why: String| LookError { stream: name.to_string(), why };
        let stream = self.context().get_stream_no_info(name.to_string()).await.map_err(|e| failed(e.to_string()))?;
        let subject = subject::all_retry(tier, class);
        let found = match stream.direct_get_next_for_subject(&subject, Some(1)).await {
            Ok(message) => message.time,
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => return Ok(None),
            Err(error) => {
                tracing::debug!(stream = %name, %error, "asking the leader for the head");
                match stream.get_next_raw_message_by_subject(&subject).await {
                    Ok(message) => message.time,
                    Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => return Ok(None),
                    Err(error) => return Err(failed(error.to_string())),
                }
            }
        };
        let millis = u64::try_from(found.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        Ok(Some(Timestamp::from_millis(millis)))
    }

    /// How much waits where: READY and all tiers, by site, tenant and class. For people and gauges, not for decisions:
    /// it costs milliseconds.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn depths(&self) -> Result<Vec<Depth>, LookError> {
        let layout = self.layout();
        let mut depths = std::collections::BTreeMap::<_, u64>::new();
        let ready = (0..layout.bulk_streams).map(StreamName::ReadyBulk).chain([StreamName::ReadyTransactional]);
        let ready = ready.map(|stream| (stream, None));
        for (stream, tier) in ready.chain(Tier::ALL.map(|tier| (StreamName::Retry(tier), Some(tier)))) {
            for (subject, count) in self.subjects(stream).await? {
                let Some(class) = class_of(&subject) else { continue };
                let Some((site, tenant)) = subject::parse_site_and_tenant(&subject) else { continue };
                *depths.entry((tier, class, site, tenant)).or_default() += count;
            }
        }
        let depth = |((tier, class, site, tenant), count)| Depth { tier, class, site, tenant, count };
        Ok(depths.into_iter().map(depth).collect())
    }

    /// How much of a shard's mail for a site lies in the tiers, by tenant and tier: five questions that cost by the tenants
    /// found.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn tier_depths(
        &self,
        shard: ShardId,
        site: &SiteName,
    ) -> Result<Vec<(TenantId, [u64; Tier::ALL.len()])>, LookError> {
        let mut depths = std::collections::BTreeMap::<TenantId, [u64; Tier::ALL.len()]>::new();
        for tier in Tier::ALL {
            let filter = subject::retry_of_site(tier, shard, site);
            for (subject, count) in self.subjects_like(StreamName::Retry(tier), &filter).await? {
                let Some((_, tenant)) = subject::parse_site_and_tenant(&subject) else { continue };
                depths.entry(tenant).or_default()[tier.index()] += count;
            }
        }
        Ok(depths.into_iter().collect())
    }

    pub(crate) async fn subjects(&self, name: StreamName) -> Result<Vec<(String, u64)>, LookError> {
        self.subjects_like(name, ">").await
    }

    async fn subjects_like(&self, name: StreamName, filter: &str) -> Result<Vec<(String, u64)>, LookError> {
        let failed = |why: String| LookError { stream: name.to_string(), why };
        let stream = self.context().get_stream_no_info(name.to_string()).await.map_err(|e| failed(e.to_string()))?;
        let subjects = stream.info_with_subjects(filter).await.map_err(|e| failed(e.to_string()))?;
        let counted = subjects.map_ok(|(subject, count)| (subject, u64::try_from(count).unwrap_or(u64::MAX)));
        counted.try_collect().await.map_err(|error| failed(error.to_string()))
    }
}

/// `ready.<shard>...` or `retry.<tier>.<class>.<shard>...`
fn class_of(subject: &str) -> Option<Class> {
    let mut tokens = subject.split('.');
    let shard = match tokens.next()? {
        "ready" => tokens.next()?,
        _ => tokens.nth(2)?,
    };
    shard.parse::<ShardId>().ok().map(|shard| shard.class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_stands_in_the_shard() {
        assert_eq!(class_of("ready.t01.google.acme"), Some(Class::Transactional));
        assert_eq!(class_of("retry.1m.b.b07.google.acme"), Some(Class::Bulk));
        assert_eq!(class_of("retry.1m"), None);
    }
}
