//! Which mail an operator means, and who the operator is.

use postrider_model::{RuleFilter, WaitReason};
use postrider_proto::control::v1 as api;
use tonic::{Request, Status};

use crate::wire::{moment, optional};

/// Who calls: the name of the token, for the audit trail.
#[derive(Clone, Debug)]
pub(crate) struct Who(pub(crate) String);

impl Who {
    /// The caller, as authentication has noted it.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self("unknown".to_owned()))
    }
}

/// A filter of mail that waits.
pub(crate) fn parse(filter: api::QueueFilter) -> Result<RuleFilter, Status> {
    let waits_for: Option<WaitReason> = match filter.reason.as_str() {
        "" => None,
        reason => Some(reason.parse().map_err(|_| {
            let all = WaitReason::ALL.map(WaitReason::as_str).join(" ");
            Status::invalid_argument(format!("reason: {reason:?} is none of {all}"))
        })?),
    };
    Ok(RuleFilter { waits_for, ..parse_without_reason(filter)? })
}

/// A filter of dead letters: their reasons are others.
pub(crate) fn parse_without_reason(filter: api::QueueFilter) -> Result<RuleFilter, Status> {
    Ok(RuleFilter {
        tenant: optional("tenant", &filter.tenant)?,
        class: optional("class", &filter.class)?,
        campaign: optional("campaign", &filter.campaign)?,
        site: optional("site", &filter.site)?,
        pool: optional("pool", &filter.pool)?,
        to_domain: optional("to-domain", &filter.to_domain)?,
        from_domain: optional("from-domain", &filter.from_domain)?,
        arrived_before: moment("accepted_before", filter.accepted_before.as_ref())?,
        waits_for: None,
        message: optional("message", &filter.message_id)?,
    })
}
