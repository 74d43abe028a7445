//! What is held and why it waits: the answers to the questions of people and metrics. Never changes anything.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::{Class, EnvelopeId, MessageId, SiteName, TenantId, Timestamp, WaitReason};

use super::Dispatcher;
use super::index::{Indexed, Stage};
use super::lane::Wait;

/// A limit owner that takes longer than this is said to be what is waited for.
const PROMPT: Duration = Duration::from_secs(1);

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
    /// When that is expected to change; an estimate for those behind others. Not before now.
    pub until: Timestamp,
}

impl Dispatcher {
    /// What is held, by site, tenant and class. Looks at every envelope: for people and metrics, not for the straight line.
    pub fn summary(&self) -> Vec<SummaryRow> {
        let mut rows: BTreeMap<_, (SummaryRow, BTreeMap<WaitReason, usize>)> = BTreeMap::new();
        for held in self.index.all() {
            let entry = &held.entry;
            let (row, waiting) = rows.entry((&entry.site, &entry.tenant, entry.class)).or_insert_with(|| {
                let row = SummaryRow {
                    site: entry.site.clone(),
                    tenant: entry.tenant.clone(),
                    class: entry.class,
                    ready: 0,
                    in_flight: 0,
                    waiting: Vec::new(),
                    oldest_arrival: entry.arrival,
                };
                (row, BTreeMap::new())
            });
            row.oldest_arrival = row.oldest_arrival.min(entry.arrival);
            match self.wait_of(held, self.now).reason {
                WaitReason::Behind => row.ready += 1,
                WaitReason::InFlight => row.in_flight += 1,
                reason => *waiting.entry(reason).or_default() += 1,
            }
        }
        let finish = |(mut row, waiting): (SummaryRow, BTreeMap<_, _>)| {
            row.waiting = waiting.into_iter().collect();
            row
        };
        rows.into_values().map(finish).collect()
    }

    /// Why the parts of a message that are held here wait, and until when.
    pub fn waiting(&self, message: &MessageId, now: Timestamp) -> Vec<WaitingPart> {
        let part = |held: &Indexed| {
            let Wait { until, reason } = self.wait_of(held, now);
            WaitingPart { id: held.entry.id, site: held.entry.site.clone(), reason, until: until.max(now) }
        };
        self.index.of_message(*message).map(part).collect()
    }

    pub(super) fn wait_of(&self, held: &Indexed, now: Timestamp) -> Wait {
        match held.stage {
            Stage::Waiting { until, reason } | Stage::Settling { until, reason, .. } => Wait { until, reason },
            Stage::Bound(conversation) | Stage::InFlight(conversation) => {
                let until = self.conversations.get(&conversation).map_or(now, |talk| talk.permit.until);
                Wait { until, reason: WaitReason::InFlight }
            }
            Stage::Ready(_) => self.wait_in_line(held, now),
        }
    }

    fn wait_in_line(&self, held: &Indexed, now: Timestamp) -> Wait {
        let class = held.entry.class;
        if let Some(block) = self.blocks(held.lane, class, now).next() {
            return block;
        }
        let unanswered = self
            .lanes
            .both(held.lane)
            .filter(|(lane, _)| lane.established == 0)
            .and_then(|(_, path)| path.asked[class])
            .filter(|asked| now.since(*asked) > PROMPT);
        match unanswered {
            Some(_) => Wait { until: now.after(PROMPT), reason: WaitReason::LimitOwner },
            None => Wait { until: held.turn, reason: WaitReason::Behind },
        }
    }
}
