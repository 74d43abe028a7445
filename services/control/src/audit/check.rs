//! The audit that nobody asks for: one control process makes it from time to time, and all show what it came to.

use std::time::Duration;

use postrider_nats::{AuditStore, BucketError, Expected, Spool};
use postrider_proto::control::v1 as api;
use postrider_runtime::clock;
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::{Auditor, Span};
use crate::metrics::Metrics;

const KEY: &str = "check";

/// How often all look whether there is something new.
const LOOK: Duration = Duration::from_secs(10);

/// Checks every `every` until `stop`: whoever finds that the last check is older claims the next one.
pub(crate) async fn run(auditor: Auditor, spool: Spool, every: Duration, metrics: Metrics, stop: CancellationToken) {
    let store = spool.audit_store();
    let look = LOOK.min(every);
    while stop.run_until_cancelled(tokio::time::sleep(look)).await.is_some() {
        if let Err(why) = turn(&auditor, &store, every, &metrics).await {
            tracing::warn!(why, "the audit is tried again");
        }
    }
}

async fn turn(auditor: &Auditor, store: &AuditStore, every: Duration, metrics: &Metrics) -> Result<(), String> {
    let entry = store.get(KEY).await.map_err(|error| error.to_string())?;
    let revision = entry.as_ref().map(|entry| entry.revision);
    let last = entry.and_then(|entry| api::AuditCheck::decode(entry.value).ok()).unwrap_or_default();
    if last.finished_ms > 0 {
        metrics.audited(last.difference, last.finished_ms / 1000);
    }
    let now = clock::now().as_millis();
    if now.saturating_sub(last.begun_ms) < u64::try_from(every.as_millis()).unwrap_or(u64::MAX) {
        return Ok(());
    }
    let claim = api::AuditCheck { begun_ms: now, ..last };
    let expected = revision.map_or(Expected::Absent, Expected::Revision);
    let revision = match store.put(KEY, claim.encode_to_vec().into(), expected).await {
        Ok(revision) => revision,
        // Another process makes it.
        Err(BucketError::Conflict { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let report = auditor.audit(&Span::default()).await.map_err(|status| status.message().to_owned())?;
    let difference = report.hours.iter().map(|hour| hour.difference.unsigned_abs()).sum();
    if difference > 0 {
        let missing: Vec<&str> = report.missing.iter().take(20).map(|it| it.message_id.as_str()).collect();
        tracing::error!(
            difference,
            missing = missing.join(" "),
            "accepted is not ended plus waiting; `postrider audit` names what is missing"
        );
    }
    let finished_ms = clock::now().as_millis();
    metrics.audited(difference, finished_ms / 1000);
    let done = api::AuditCheck { begun_ms: now, finished_ms, difference };
    match store.put(KEY, done.encode_to_vec().into(), Expected::Revision(revision)).await {
        Ok(_) | Err(BucketError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
