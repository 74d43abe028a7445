//! Messages over gRPC: found in the journal, told with what delivery members say now.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::{Mailbox, MessageId, Outcome, PartNumber, Record, TenantId, Timestamp};
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::delivery_query::Ask;
use postrider_proto::control::v1::message_service_server::MessageService;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::events::{ALL_TIMES, Export, broken};
use crate::flat::EventFilter;
use crate::life::{Known, life, unheld};
use crate::orders;
use crate::queue::ask;
use crate::whereabouts::{PATIENCE, is_gone};
use crate::wire::{moment, optional, required};

/// How long events are kept.
const KEPT: Duration = Duration::from_secs(8 * 86_400);

/// Clocks of processes differ by less than this, as a rule.
const SKEW: Duration = Duration::from_secs(60);

/// A clock that was set forth by mistake is ahead by less than this.
const SET_FORTH: Duration = Duration::from_secs(2 * 3_600);

/// The most records of an answer: a message to a thousand recipients that are each tried thirty times.
const MOST_RECORDS: usize = 50_000;

/// The most messages of one header Message-ID that are told.
const MOST_LIVES: usize = 20;

/// Messages found if nobody says how many, and the most.
const FOUND: usize = 100;
const MOST_FOUND: usize = 10_000;

#[tonic::async_trait]
impl MessageService for Api {
    async fn get_messages(
        &self,
        request: Request<api::GetMessagesRequest>,
    ) -> Result<Response<api::GetMessagesResponse>, Status> {
        self.answer("GetMessages", get(self, &request.into_inner()).await)
    }

    async fn find_messages(
        &self,
        request: Request<api::FindMessagesRequest>,
    ) -> Result<Response<api::FindMessagesResponse>, Status> {
        self.answer("FindMessages", find(self, &request.into_inner()).await)
    }
}

async fn get(api: &Api, request: &api::GetMessagesRequest) -> Result<api::GetMessagesResponse, Status> {
    let id = request.id.trim();
    if id.is_empty() {
        return Err(Status::invalid_argument("id is missing"));
    }
    let now = api.spool.server_now();
    if let Ok(message) = id.parse::<MessageId>() {
        let records = recorded(api, message, MOST_RECORDS).await?;
        let told = tell(api, message, &records, now, Instant::now() + PATIENCE).await?;
        return Ok(api::GetMessagesResponse { messages: vec![told] });
    }
    let since = moment("since", request.since.as_ref())?.unwrap_or_else(|| now.before(KEPT));
    let header = id.trim_start_matches('<').trim_end_matches('>');
    let found = by_header(api, header, since).await?;
    let mut messages = Vec::new();
    let until = Instant::now() + PATIENCE;
    for (message, records) in found {
        messages.push(tell(api, message, &records, now, until).await?);
    }
    if messages.is_empty() {
        return Err(Status::not_found(format!(
            "nothing is recorded since {since} about a message with the Message-ID <{header}> (our own ids are UUIDs)"
        )));
    }
    Ok(api::GetMessagesResponse { messages })
}

/// What is recorded about a message. Its id bears the time of the clock of who took it, and records lie where the servers'
/// clock put them: if its acceptance is not found near the time in its id, that clock may have been ahead.
async fn recorded(api: &Api, message: MessageId, most: usize) -> Result<Vec<Record>, Status> {
    let (taken, now) = (message.timestamp(), api.spool.server_now());
    let scan = async |since| {
        let records = api.spool.scan_events(since, ALL_TIMES, &[message]).collect(most).await;
        records.map_err(|error| broken(&error))
    };
    let near = scan(taken.before(SKEW)).await?;
    let accepted = |record: &Record| record.outcomes.iter().any(|it| it.outcome == Outcome::Accepted);
    if near.len() >= most || near.iter().any(accepted) {
        return Ok(near);
    }
    scan(taken.min(now).before(SET_FORTH)).await
}

/// The records of the latest messages with a header Message-ID, in the order of acceptance.
async fn by_header(api: &Api, header: &str, since: Timestamp) -> Result<BTreeMap<MessageId, Vec<Record>>, Status> {
    let mut found: BTreeMap<MessageId, Vec<Record>> = BTreeMap::new();
    let mut count = 0;
    let mut scan = api.spool.scan_events(since, ALL_TIMES, &[]);
    while let Some(record) = scan.next().await.map_err(|error| broken(&error))? {
        if record.header_message_id != header || count >= MOST_RECORDS {
            continue;
        }
        count += 1;
        found.entry(record.id.message).or_default().push(record);
        if found.len() > MOST_LIVES {
            found.pop_first();
        }
    }
    Ok(found)
}

/// Tells of a message. What waits is looked for in the streams until a moment.
async fn tell(
    api: &Api,
    message: MessageId,
    records: &[Record],
    now: Timestamp,
    until: Instant,
) -> Result<api::MessageLife, Status> {
    let asked = ask(api, Ask::Waiting(message.as_bytes().to_vec().into())).await?;
    let held: Vec<(String, api::WaitingPart)> = asked
        .answers
        .into_iter()
        .flat_map(|answer| answer.parts.into_iter().map(move |part| (answer.member.clone(), part)))
        .collect();
    let known = Known { message, records, held: &held, silent: &asked.silent, orders: &[], gone: &[], now };
    match life(&known) {
        // Orders concern what waits alone, and are not read for anything else.
        Some(told) if told.parts.iter().any(|part| part.waiting.is_some()) => {
            let orders = orders::given(api).await?;
            let gone = gone(api, &known, until).await?;
            Ok(life(&Known { orders: &orders, gone: &gone, ..known }).unwrap_or(told))
        }
        Some(told) => Ok(told),
        None => Err(not_recorded(api, message, &asked.silent, now)),
    }
}

/// The parts that wait by their records and lie nowhere.
async fn gone(api: &Api, known: &Known<'_>, until: Instant) -> Result<Vec<PartNumber>, Status> {
    let mut gone = Vec::new();
    for sought in unheld(known) {
        if is_gone(&api.spool, &sought, until).await {
            gone.push(sought.part);
        }
    }
    // Of what was recorded while we looked, the look says nothing.
    if !gone.is_empty() && recorded(api, known.message, MOST_RECORDS).await?.len() != known.records.len() {
        gone.clear();
    }
    Ok(gone)
}

/// Refuses a message of which nothing is known, as [`MessageService::get_messages`] does.
pub(crate) async fn check_known(api: &Api, message: MessageId) -> Result<(), Status> {
    let now = api.spool.server_now();
    if !recorded(api, message, 1).await?.is_empty() {
        return Ok(());
    }
    tell(api, message, &[], now, Instant::now()).await.map(drop)
}

fn not_recorded(api: &Api, message: MessageId, silent: &[String], now: Timestamp) -> Status {
    let accepted = message.timestamp();
    if now.since(accepted) > KEPT {
        return Status::not_found(format!("message {message}: events of {accepted} are not kept any more"));
    }
    let mut text = format!("message {message}: nothing is recorded about it");
    if now.since(accepted) < Duration::from_secs(600) {
        text.push_str("; if it was accepted a moment ago, no delivery process has taken it yet");
        if !api.store.members().values().any(|member| member.has_role("delivery")) {
            text.push_str("; no delivery process is alive");
        }
    }
    if !silent.is_empty() {
        text.push_str(&format!("; did not answer, and may hold it: {}", silent.join(", ")));
    }
    Status::not_found(text)
}

async fn find(api: &Api, request: &api::FindMessagesRequest) -> Result<api::FindMessagesResponse, Status> {
    let to: Mailbox = required("to", &request.to)?;
    let tenant: Option<TenantId> = optional("tenant", &request.tenant)?;
    let now = api.spool.server_now();
    let since = moment("since", request.since.as_ref())?.unwrap_or_else(|| now.before(KEPT));
    let until = moment("until", request.until.as_ref())?.unwrap_or(ALL_TIMES);
    let limit = usize::try_from(request.limit).unwrap_or(MOST_FOUND).min(MOST_FOUND);
    let limit = if limit == 0 { FOUND } else { limit };
    let mut export = Export::new(api.spool.scan_events(since, until, &[]), EventFilter::to(to, tenant));
    // Ids carry the moment of acceptance: the order of ids is that of messages.
    let mut found: BTreeMap<(String, String), api::FoundMessage> = BTreeMap::new();
    let mut truncated = false;
    while let Some(events) = export.batch().await? {
        for event in events {
            found.insert((event.message_id.clone(), event.recipient.clone()), found_message(event));
            if found.len() > limit {
                found.pop_first();
                truncated = true;
            }
        }
    }
    Ok(api::FindMessagesResponse { messages: found.into_values().rev().collect(), truncated })
}

fn found_message(event: api::Event) -> api::FoundMessage {
    let reply =
        (event.code > 0).then_some(api::SmtpReply { code: event.code, enhanced: event.enhanced, text: event.text });
    api::FoundMessage {
        message_id: event.message_id,
        header_message_id: event.header_message_id,
        tenant: event.tenant,
        class: event.class,
        campaign: event.campaign,
        sender: event.sender,
        recipient: event.recipient,
        accept_time: event.accept_time,
        event: event.event,
        event_time: event.time,
        reply,
    }
}
