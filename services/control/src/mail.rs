//! Mail as it lies in the streams, for people: listed or counted by a filter. Looked through from end to end, as far as the filter
//! does not narrow it.

use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_dispatch::rules::{matches, waits};
use postrider_model::{RuleAction, RuleFilter, WaitReason};
use postrider_nats::{BodyError, Found, Place};
use postrider_proto::Packet;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::delivery_query::Ask;
use tonic::Status;

use crate::api::Api;
use crate::events::broken;
use crate::filter::parse;
use crate::queue::{Answers, ask};
use crate::wire::time;

/// Parts listed if nobody says how many, and the most.
const LISTED: usize = 100;
const MOST_LISTED: usize = 10_000;

/// Packets read at a time.
const READING: usize = 50;

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
    let limit = usize::try_from(request.limit).unwrap_or(MOST_LISTED).min(MOST_LISTED);
    let limit = if limit == 0 { LISTED } else { limit };
    if known_to_owners_only(&filter) {
        return list_by_owners(api, &filter, limit).await;
    }
    let mut mail = Vec::new();
    for place in Place::OF_PACKETS {
        let mut scan = api.spool.scan_place(place, &filter);
        while let Some(chunk) = scan.next().await.map_err(|error| broken(&error))? {
            for found in chunk.iter().filter(|found| fits(&filter, place, found)) {
                if mail.len() == limit {
                    return Ok(api::ListMailResponse { mail, truncated: true });
                }
                mail.push(told(place, &found.packet));
            }
        }
    }
    Ok(api::ListMailResponse { mail, truncated: false })
}

/// What only the owners of shards know is in READY: they say where, and it is read there.
async fn list_by_owners(api: &Api, filter: &RuleFilter, limit: usize) -> Result<api::ListMailResponse, Status> {
    let asked = ask_owners(api, filter, limit).await?;
    if !asked.silent.is_empty() {
        let silent = asked.silent.join(", ");
        return Err(Status::unavailable(format!("did not answer, and may hold some of it: {silent}; try again")));
    }
    let truncated = asked.answers.iter().map(|answer| answer.matching).sum::<u64>() > count_of(limit);
    let places = asked.answers.into_iter().flat_map(|answer| answer.ready);
    let reads = places.take(limit).map(async |place| {
        let Ok(shard) = place.shard.parse() else { return Ok(None) };
        match api.spool.reread_packet(shard, place.sequence).await {
            Ok(packet) if matches(filter, packet.envelope()) => Ok(Some(told(Place::Ready, &packet))),
            // It has gone meanwhile.
            Ok(_) | Err(BodyError::Gone { .. }) => Ok(None),
            Err(error) => Err(Status::unavailable(format!("{error}; try again"))),
        }
    });
    let mail: Vec<_> =
        stream::iter(reads).buffered(READING).try_filter_map(async |mail| Ok(mail)).try_collect().await?;
    Ok(api::ListMailResponse { mail, truncated })
}

/// How much of what the owners of shards hold matches, and at most so many places in READY of each.
async fn ask_owners(api: &Api, filter: &RuleFilter, limit: usize) -> Result<Answers, Status> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    ask(api, Ask::Matches(api::MatchesQuery { filter: Some(filter.into()), limit })).await
}

fn count_of(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn told(place: Place, packet: &Packet) -> api::Mail {
    let envelope = packet.envelope();
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
            let asked = ask_owners(api, filter, 0).await?;
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
        count += count_of(matching);
    }
    Ok(count)
}
