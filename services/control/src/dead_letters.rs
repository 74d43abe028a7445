//! Dead letters over gRPC: listed, put back to READY as a new hop, or deleted.

use std::collections::BTreeSet;

use postrider_dispatch::rules::matches;
use postrider_dispatch::stay::Stay;
use postrider_model::{EnvelopeState, Record, RuleFilter};
use postrider_nats::{DeadLetter, DeadLetters, DeadState};
use postrider_proto::Packet;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::dead_letter_service_server::DeadLetterService;
use postrider_runtime::clock;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::filter::{Who, parse_without_reason};
use crate::operations::Command;
use crate::wire::time;

/// The most letters of a page.
const PAGE: usize = 1_000;

/// What a dead letter can have died of.
const REASONS: [&str; 3] = ["body-lost", "undecodable", "unknown"];

/// How much of a record is shown.
const HEAD: usize = 256;

#[tonic::async_trait]
impl DeadLetterService for Api {
    async fn list_dead_letters(
        &self,
        request: Request<api::ListDeadLettersRequest>,
    ) -> Result<Response<api::ListDeadLettersResponse>, Status> {
        self.answer("ListDeadLetters", list(self, request.into_inner()).await)
    }

    async fn get_dead_letter(
        &self,
        request: Request<api::GetDeadLetterRequest>,
    ) -> Result<Response<api::DeadLetter>, Status> {
        self.answer("GetDeadLetter", get(self, request.into_inner().number).await)
    }

    async fn requeue_dead_letters(
        &self,
        request: Request<api::ChangeDeadLettersRequest>,
    ) -> Result<Response<api::ChangeDeadLettersResponse>, Status> {
        let who = Who::of(&request);
        self.answer("RequeueDeadLetters", change(self, who, Change::Requeue, request.into_inner()).await)
    }

    async fn delete_dead_letters(
        &self,
        request: Request<api::ChangeDeadLettersRequest>,
    ) -> Result<Response<api::ChangeDeadLettersResponse>, Status> {
        let who = Who::of(&request);
        self.answer("DeleteDeadLetters", change(self, who, Change::Delete, request.into_inner()).await)
    }
}

/// Which letters are wanted.
struct Wanted {
    filter: RuleFilter,
    /// Why they died; empty: whatever.
    reason: String,
}

impl Wanted {
    fn parse(filter: Option<api::QueueFilter>) -> Result<Self, Status> {
        let filter = filter.unwrap_or_default();
        let reason = filter.reason.clone();
        if !reason.is_empty() && !REASONS.contains(&reason.as_str()) {
            return Err(Status::invalid_argument(format!("reason: {reason:?} is none of {}", REASONS.join(" "))));
        }
        Ok(Self { filter: parse_without_reason(filter)?, reason })
    }

    fn is_empty(&self) -> bool {
        self.filter.is_empty() && self.reason.is_empty()
    }

    /// For the audit trail: what a filter of mail that waits cannot say.
    fn which(&self, numbers: &[u64]) -> String {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let mut said = Vec::new();
        if !numbers.is_empty() {
            said.push(format!("dead letters {}", numbers.join(", ")));
        }
        if !self.reason.is_empty() {
            said.push(format!("--reason {}", self.reason));
        }
        said.join(" ")
    }

    fn matches(&self, letter: &DeadLetter) -> bool {
        let timely = self.filter.arrived_before.is_none_or(|before| letter.buried < before);
        let filter = RuleFilter { arrived_before: None, ..self.filter.clone() };
        let known = match &letter.packet {
            Some(packet) => matches(&filter, packet.envelope()),
            None => filter.is_empty(),
        };
        timely && known && (self.reason.is_empty() || self.reason == letter.reason)
    }
}

async fn list(api: &Api, request: api::ListDeadLettersRequest) -> Result<api::ListDeadLettersResponse, Status> {
    let wanted = Wanted::parse(request.filter)?;
    let size = usize::try_from(request.page_size).unwrap_or(PAGE);
    let size = if size == 0 { PAGE } else { size.min(PAGE) };
    let after = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| Status::invalid_argument("page_token: none of ours"))?,
    };
    let mut letters = api.spool.dead_letters(after);
    let mut page = Vec::new();
    let store = api.spool.dead_state().await.ok().map(told_of_all);
    loop {
        let some = letters.next().await.map_err(|error| crate::events::broken(&error))?;
        if some.is_empty() {
            return Ok(api::ListDeadLettersResponse { letters: page, next_page_token: String::new(), store });
        }
        for letter in some.iter().filter(|letter| wanted.matches(letter)) {
            if page.len() == size {
                let next_page_token = page.last().map(|last: &api::DeadLetter| last.number.to_string());
                let next_page_token = next_page_token.unwrap_or_default();
                return Ok(api::ListDeadLettersResponse { letters: page, next_page_token, store });
            }
            page.push(told(letter));
        }
    }
}

fn told_of_all(state: DeadState) -> api::DeadLetterStore {
    let DeadState { letters, bytes, bytes_limit, discarded } = state;
    api::DeadLetterStore { letters, bytes, bytes_limit, discarded }
}

async fn find(api: &Api, number: u64) -> Result<Option<DeadLetter>, Status> {
    if number == 0 {
        return Ok(None);
    }
    let mut letters = api.spool.dead_letters(number - 1);
    let some = letters.next().await.map_err(|error| crate::events::broken(&error))?;
    Ok(some.into_iter().next().filter(|letter| letter.sequence == number))
}

async fn get(api: &Api, number: u64) -> Result<api::DeadLetter, Status> {
    let letter = find(api, number).await?;
    let letter =
        letter.ok_or_else(|| Status::not_found(format!("there is no dead letter {number}: see `dead-letter list`")))?;
    Ok(api::DeadLetter { head: letter.raw.slice(..letter.raw.len().min(HEAD)), ..told(&letter) })
}

fn told(letter: &DeadLetter) -> api::DeadLetter {
    let dead = api::DeadLetter {
        number: letter.sequence,
        reason: letter.reason.clone(),
        why: letter.why.clone(),
        buried_time: Some(time(letter.buried)),
        size_bytes: u64::try_from(letter.raw.len()).unwrap_or(u64::MAX),
        ..api::DeadLetter::default()
    };
    let Some(packet) = &letter.packet else { return dead };
    let envelope = packet.envelope();
    api::DeadLetter {
        decodable: true,
        message_id: envelope.message.to_string(),
        part: envelope.part,
        hop: envelope.state.hop,
        tenant: envelope.tenant.to_string(),
        class: envelope.class.to_string(),
        campaign: envelope.campaign.as_ref().map(ToString::to_string).unwrap_or_default(),
        site: envelope.state.site.to_string(),
        sender: envelope.sender.to_string(),
        recipients: envelope.pending().map(|(_, recipient)| recipient.to_string()).collect(),
        accept_time: Some(time(envelope.arrival)),
        ..dead
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Requeue,
    Delete,
}

async fn change(
    api: &Api,
    who: Who,
    change: Change,
    request: api::ChangeDeadLettersRequest,
) -> Result<api::ChangeDeadLettersResponse, Status> {
    let wanted = Wanted::parse(request.filter)?;
    if wanted.is_empty() && request.numbers.is_empty() && !request.all {
        return Err(Status::invalid_argument(
            "neither a number nor a filter: say which dead letters, or `--all` if you mean all of them",
        ));
    }
    let name = if change == Change::Requeue { "dead-letter requeue" } else { "dead-letter delete" };
    let which = wanted.which(&request.numbers);
    let command = Command::new(name, &who, request.dry_run).with(&wanted.filter).about(which).because(&request.comment);
    // Counted first, and then changed, page by page: there may be more of them than memory has room for.
    let mut counts = api::ChangeDeadLettersResponse::default();
    let mut through = 0;
    let mut pages = Pages::of(api, &request.numbers);
    while let Some(page) = pages.next(api, &wanted).await? {
        let can = |letter: &&DeadLetter| change == Change::Delete || letter.packet.is_some();
        let changed = count(page.iter().filter(can));
        counts.changed += changed;
        counts.undecodable += count(page.iter()) - changed;
        through = page.iter().map(|letter| letter.sequence).fold(through, u64::max);
    }
    counts.absent = pages.absent;
    command.record(api, &[("dead", counts.changed)], if request.dry_run { "counted" } else { "begun" }).await?;
    if request.dry_run {
        return Ok(counts);
    }
    let mut changed = 0;
    let mut pages = Pages::of(api, &request.numbers);
    while let Some(page) = pages.next(api, &wanted).await? {
        // What is buried from now on was not counted.
        let page: Vec<DeadLetter> = page.into_iter().filter(|letter| letter.sequence <= through).collect();
        let (done, did) = change_page(api, change, &page).await;
        changed += done;
        if let Err(status) = did {
            command.record(api, &[("dead", changed)], &format!("broken off: {}", status.message())).await?;
            return Err(status);
        }
    }
    command.record(api, &[("dead", changed)], "ok").await?;
    Ok(api::ChangeDeadLettersResponse { changed, ..counts })
}

/// Changes the letters of a page, and counts them as removed by an order. How many were, and what kept the others.
async fn change_page(api: &Api, change: Change, page: &[DeadLetter]) -> (u64, Result<(), Status>) {
    let page: Vec<&DeadLetter> =
        page.iter().filter(|letter| change == Change::Delete || letter.packet.is_some()).collect();
    // Before they go, so that at no time they look as if they had been discarded.
    if let Err(error) = count_removed(api, page.len(), 0).await {
        return (0, Err(error));
    }
    for (changed, letter) in page.iter().enumerate() {
        let did = match (change, &letter.packet) {
            (Change::Requeue, Some(packet)) => requeue(api, letter, packet).await,
            _ => delete(api, letter).await,
        };
        if let Err(status) = did {
            if let Err(error) = count_removed(api, changed, page.len()).await {
                tracing::warn!(%error, "dead letters count as removed by an order that did not remove them");
            }
            return (count(page.iter().take(changed)), Err(status));
        }
    }
    (count(page.iter()), Ok(()))
}

/// Counts so many letters as removed, instead of so many.
async fn count_removed(api: &Api, number: usize, instead_of: usize) -> Result<(), Status> {
    let signed = |number| i64::try_from(number).unwrap_or(i64::MAX);
    let by = signed(number) - signed(instead_of);
    if by == 0 {
        return Ok(());
    }
    let counted = api.spool.count_removed_dead_letters(by).await;
    counted.map_err(|error| Status::unavailable(format!("nothing removed: {error}; try again")))
}

fn count<T>(letters: impl Iterator<Item = T>) -> u64 {
    u64::try_from(letters.count()).unwrap_or(u64::MAX)
}

/// The letters that are meant, in pages of bounded size, the oldest first.
struct Pages {
    /// One page each.
    numbers: Option<std::vec::IntoIter<u64>>,
    letters: DeadLetters,
    /// Numbers that no letter has.
    absent: Vec<u64>,
}

impl Pages {
    /// Of these numbers, or of all if there are none.
    fn of(api: &Api, numbers: &[u64]) -> Self {
        let numbers: Vec<u64> = numbers.iter().copied().collect::<BTreeSet<u64>>().into_iter().collect();
        let numbers = (!numbers.is_empty()).then(|| numbers.into_iter());
        Self { numbers, letters: api.spool.dead_letters(0), absent: Vec::new() }
    }

    /// Those of the next page that are wanted; `None` at the end.
    async fn next(&mut self, api: &Api, wanted: &Wanted) -> Result<Option<Vec<DeadLetter>>, Status> {
        let page = match &mut self.numbers {
            None => self.letters.next().await.map_err(|error| crate::events::broken(&error))?,
            Some(numbers) => {
                let Some(number) = numbers.next() else { return Ok(None) };
                let letter = find(api, number).await?;
                if letter.is_none() {
                    self.absent.push(number);
                }
                return Ok(Some(letter.into_iter().filter(|letter| wanted.matches(letter)).collect()));
            }
        };
        let is_end = page.is_empty();
        Ok((!is_end).then(|| page.into_iter().filter(|letter| wanted.matches(letter)).collect()))
    }
}

/// Recorded, then in READY, then gone from the dead letters. Whoever does it again after a crash does the same: the hop is one
/// more than that which died.
async fn requeue(api: &Api, letter: &DeadLetter, packet: &Packet) -> Result<(), Status> {
    let envelope = packet.envelope();
    let state = EnvelopeState { hop: envelope.state.hop + 1, ..envelope.state.clone() };
    let packet = packet.clone().with_state(state);
    let record = requeued(api, &packet);
    let failed =
        |what: &str, why: String| Status::unavailable(format!("dead letter {}: {what}: {why}", letter.sequence));
    let flush = format!("requeue:{}", packet.id());
    let published = api.spool.publish_events(record.shard, std::slice::from_ref(&record), &flush).await;
    published.map_err(|error| failed("not put back", error.to_string()))?;
    api.spool.publish_ready(&packet).await.map_err(|error| failed("not put back", error.to_string()))?;
    let deleted = api.spool.delete_dead_letter(letter.sequence).await;
    deleted.map_err(|error| failed("put back, and still among the dead letters", error.to_string()))
}

async fn delete(api: &Api, letter: &DeadLetter) -> Result<(), Status> {
    let deleted = api.spool.delete_dead_letter(letter.sequence).await;
    deleted.map_err(|error| Status::unavailable(format!("dead letter {}: {error}; try again", letter.sequence)))
}

fn requeued(api: &Api, packet: &Packet) -> Record {
    let envelope = packet.envelope();
    let shard = api.spool.layout().shard_of(envelope.class, &envelope.state.site, envelope.state.slice);
    Stay { envelope, body: packet.body(), shard }.requeued(clock::now())
}
