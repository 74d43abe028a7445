//! What is held and why it waits: the answers to the questions of people and metrics. Never changes anything.

use postrider_model::{Class, EnvelopeId, SiteName, TenantId, Timestamp, WaitReason};

/// One (site, tenant, class) of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRow {
    /// The site.
    pub site: SiteName,
    /// The tenant.
    pub tenant: TenantId,
    /// The class.
    pub class: Class,
    /// Envelopes that could go now and are behind others only.
    pub ready: usize,
    /// Envelopes in conversations or being settled.
    pub in_flight: usize,
    /// Envelopes that wait for something else, by reason.
    pub waiting: Vec<(WaitReason, usize)>,
    /// The oldest arrival among them all.
    pub oldest_arrival: Timestamp,
}

/// A part of a message that is held here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPart {
    /// Its id.
    pub id: EnvelopeId,
    /// Where it goes.
    pub site: SiteName,
    /// Why it waits.
    pub reason: WaitReason,
    /// When that is expected to change; an estimate for those behind others.
    pub until: Timestamp,
}
