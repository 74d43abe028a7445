//! Mail as it lies in the streams, for people: listed or counted by a filter. Looked through from end to end, as far as the filter
//! does not narrow it.

use postrider_dispatch::rules::{matches, waits};
use postrider_model::{RuleAction, RuleFilter, WaitReason};
use postrider_nats::{Found, Place};
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::delivery_query::Ask;
use tonic::Status;

use crate::api::Api;
use crate::events::broken;
use crate::filter::parse;
use crate::queue::ask;
use crate::wire::time;

/// Parts listed if nobody says how many, and the most.
const LISTED: usize = 100;
const MOST_LISTED: usize = 10_000;

fn fits(filter: &RuleFilter, place: Place, found: &Found) -> bool {
    let envelope = found.packet.envelope();
    let reason = (place == Place::Hold).then_some(WaitReason::Held);
    matches(filter, envelope) && waits(filter, envelope, reason)
}

/// Whether only the index of a shard's owner knows what waits for this.
fn known_to_owners_only(filter: &RuleFilter) -> bool {
    filter.waits_for.is_some_and(|reason| !matches!(reason, WaitReason::Retry | WaitReason::Held))
}

pub(crate) async fn list(api: &Api, request: api::ListMailRequest) -> Result<api::ListMailResponse, Status> {
    let filter = parse(request.filter.unwrap_or_default())?;
    if known_to_owners_only(&filter) {
        return Err(Status::invalid_argument(
            "reason: only `retry` and `held` can be listed; others are counted by `queue summary`, and told of one message by \
             `message show`",
        ));
    }
    let limit = usize::try_from(request.limit).unwrap_or(MOST_LISTED).min(MOST_LISTED);
    let limit = if limit == 0 { LISTED } else { limit };
    let mut mail = Vec::new();
    for place in Place::OF_PACKETS {
        let mut scan = api.spool.scan_place(place, &filter);
        while let Some(chunk) = scan.next().await.map_err(|error| broken(&error))? {
            for found in chunk.iter().filter(|found| fits(&filter, place, found)) {
                if mail.len() == limit {
                    return Ok(api::ListMailResponse { mail, truncated: true });
                }
                mail.push(told(place, found));
            }
        }
    }
    Ok(api::ListMailResponse { mail, truncated: false })
}

fn told(place: Place, found: &Found) -> api::Mail {
    let envelope = found.packet.envelope();
    api::Mail {
        message_id: envelope.message.to_string(),
        part: envelope.part,
        place: place.to_string(),
        tenant: envelope.tenant.to_string(),
        class: envelope.class.to_string(),
        campaign: envelope.campaign.as_ref().map(ToString::to_string).unwrap_or_default(),
        site: envelope.state.site.to_string(),
        pool: envelope.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
        sender: envelope.sender.to_string(),
        recipients: envelope.pending().map(|(_, recipient)| recipient.to_string()).collect(),
        accept_time: Some(time(envelope.arrival)),
        attempt: envelope.state.attempt,
        last_reply: envelope.state.last_reply.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// What an order would concern.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// How many parts, by place.
    pub(crate) counts: Vec<api::CountAt>,
    /// Parts on hold that match, where the order does nothing about them.
    pub(crate) held: u64,
}

impl Tally {
    /// Whether nothing matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0 && self.counts.iter().all(|at| at.count == 0)
    }

    /// For the audit trail.
    pub(crate) fn told(&self) -> Vec<(&str, u64)> {
        self.counts.iter().map(|at| (at.place.as_str(), at.count)).collect()
    }
}

/// How many parts an order would concern. Mail in INTAKE is not looked at: it is in READY within moments.
pub(crate) async fn tally(api: &Api, action: RuleAction, filter: &RuleFilter) -> Result<Tally, Status> {
    match action {
        // It is about HOLD alone.
        RuleAction::Release => Ok(Tally { counts: count_held(api, filter).await?, held: 0 }),
        // What is on hold stays there.
        RuleAction::Flush => {
            let places = Place::OF_PACKETS.into_iter().filter(|place| *place != Place::Hold);
            let counts = count(api, places, filter).await?;
            Ok(Tally { counts, held: count_at(api, Place::Hold, filter).await? })
        }
        RuleAction::Suspend | RuleAction::Delete | RuleAction::Bounce => {
            Ok(Tally { counts: count(api, Place::OF_PACKETS, filter).await?, held: 0 })
        }
    }
}

async fn count(
    api: &Api,
    places: impl IntoIterator<Item = Place>,
    filter: &RuleFilter,
) -> Result<Vec<api::CountAt>, Status> {
    let mut counts = Vec::new();
    for place in places {
        let count = if place == Place::Ready && known_to_owners_only(filter) {
            let asked = ask(api, Ask::Count(filter.into())).await?;
            asked.answers.iter().map(|answer| answer.matching).sum()
        } else {
            count_at(api, place, filter).await?
        };
        counts.push(api::CountAt { place: place.to_string(), count });
    }
    Ok(counts)
}

/// How many parts match in HOLD.
async fn count_held(api: &Api, filter: &RuleFilter) -> Result<Vec<api::CountAt>, Status> {
    // Why it waited when it was suspended is past.
    let filter = RuleFilter { waits_for: None, ..filter.clone() };
    let count = count_at(api, Place::Hold, &filter).await?;
    Ok(vec![api::CountAt { place: Place::Hold.to_string(), count }])
}

async fn count_at(api: &Api, place: Place, filter: &RuleFilter) -> Result<u64, Status> {
    let mut count = 0;
    let mut scan = api.spool.scan_place(place, filter);
    while let Some(chunk) = scan.next().await.map_err(|error| broken(&error))? {
        let matching = chunk.iter().filter(|found| fits(filter, place, found)).count();
        count += u64::try_from(matching).unwrap_or(u64::MAX);
    }
    Ok(count)
}
