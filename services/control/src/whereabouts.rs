//! Whether what waits by its records lies in a stream: what somebody deleted there past us has no record of its end. Looked for with
//! patience, for a message may be one of millions; what is not found within it is not said to be gone.

use std::time::Duration;

use postrider_model::{Class, MessageId, PartNumber, RuleFilter, SiteName, TenantId, Tier, Timestamp};
use postrider_nats::{Place, PlaceScan, ReadError, Spool};
use tokio::time::Instant;

/// How long all parts of an answer are looked for together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A copy is there before its original goes; this long later both have been seen by every replica.
const AGAIN: Duration = Duration::from_secs(1);

/// Mail moves in this order without a record, so that what has left one place before it was read is found in a later one.
const PLACES: [Place; 7] = [
    Place::Tier(Tier::M1),
    Place::Tier(Tier::M5),
    Place::Tier(Tier::M15),
    Place::Tier(Tier::H1),
    Place::Tier(Tier::H4),
    Place::Hold,
    Place::Ready,
];

/// A part that waits, as far as its records tell.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    pub(crate) message: MessageId,
    pub(crate) part: PartNumber,
    pub(crate) tenant: TenantId,
    pub(crate) class: Class,
    pub(crate) site: SiteName,
    /// Where its last record sent it.
    pub(crate) place: Place,
    /// About when that was.
    pub(crate) since: Timestamp,
}

/// Whether a part lies nowhere. `false` if it was found, and if that cannot be said in time.
pub(crate) async fn is_gone(spool: &Spool, sought: &Sought, until: Instant) -> bool {
    let look = async {
        let filter = sought.filter();
        if sought.is_in(spool.scan_place_since(sought.place, &filter, sought.since)).await? {
            return Ok(false);
        }
        for pause in [Duration::ZERO, AGAIN] {
            tokio::time::sleep(pause).await;
            for place in PLACES {
                if sought.is_in(spool.scan_place(place, &filter)).await? {
                    return Ok(false);
                }
            }
        }
        Ok::<_, ReadError>(true)
    };
    matches!(tokio::time::timeout_at(until, look).await, Ok(Ok(true)))
}

impl Sought {
    fn filter(&self) -> RuleFilter {
        RuleFilter {
            message: Some(self.message),
            tenant: Some(self.tenant.clone()),
            class: Some(self.class),
            site: Some(self.site.clone()),
            ..RuleFilter::default()
        }
    }

    async fn is_in(&self, mut scan: PlaceScan) -> Result<bool, ReadError> {
        while let Some(chunk) = scan.next().await? {
            let mut envelopes = chunk.iter().map(|found| found.packet.envelope());
            if envelopes.any(|envelope| envelope.message == self.message && envelope.part == self.part) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
