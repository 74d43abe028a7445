//! Events over gRPC, as streams of batches: what happened in a span of time, and what happens from now on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use postrider_model::Timestamp;
use postrider_nats::{EventScan, EventTail, ReadError, ScanFrom};
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::event_service_server::EventService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::flat::{EventFilter, Seen};
use crate::wire::moment;

/// Events of one message of a stream.
const BATCH: usize = 500;

/// How far back a tail without a time begins.
const TAIL: Duration = Duration::from_secs(600);

/// How many events a tail shows if nobody says.
const SHOWN: usize = 100;

/// The most events a tail without follow shows.
const MOST_SHOWN: usize = 100_000;

/// How long a batch of a followed tail may wait for more to come.
const GATHER: Duration = Duration::from_millis(50);

/// Until now, and what was recorded by a process whose clock is ahead: a scan ends with what is stored.
pub(crate) const ALL_TIMES: Timestamp = Timestamp::from_millis(u64::MAX);

/// The clock of another process may be ahead of ours by so much: what it has recorded until now is wanted too.
pub(crate) const AHEAD: Duration = Duration::from_secs(1);

type Batches = Pin<Box<dyn Stream<Item = Result<api::EventBatch, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Api {
    type TailEventsStream = Batches;
    type ExportEventsStream = Batches;

    async fn tail_events(&self, request: Request<api::TailEventsRequest>) -> Result<Response<Batches>, Status> {
        self.answer("TailEvents", tail(self, request.into_inner()).await)
    }

    async fn export_events(&self, request: Request<api::ExportEventsRequest>) -> Result<Response<Batches>, Status> {
        self.answer("ExportEvents", export(self, request.into_inner()))
    }
}

async fn tail(api: &Api, request: api::TailEventsRequest) -> Result<Batches, Status> {
    let filter = EventFilter::parse(request.filter)?;
    let since = moment("since", request.since.as_ref())?;
    if request.follow {
        let from = since.map_or(ScanFrom::Now, ScanFrom::Time);
        let tail = api.spool.tail_events(from).await.map_err(|error| broken(&error))?;
        let follow = Follow { tail, filter, seen: Seen::default(), closing: api.closing.clone() };
        return Ok(Box::pin(futures_util::stream::unfold(follow, Follow::next)));
    }
    let now = api.spool.server_now();
    let limit = usize::try_from(request.limit).unwrap_or(MOST_SHOWN).min(MOST_SHOWN);
    let limit = if limit == 0 { SHOWN } else { limit };
    let scan = api.spool.scan_events(since.unwrap_or_else(|| now.before(TAIL)), ALL_TIMES, &[]);
    let mut export = Export::new(scan, filter);
    let mut latest = VecDeque::new();
    while let Some(events) = export.batch().await? {
        latest.extend(events);
        latest.drain(..latest.len().saturating_sub(limit));
    }
    let mut latest: Vec<api::Event> = latest.into();
    let mut batches = Vec::new();
    while !latest.is_empty() {
        let later = latest.split_off(latest.len().min(BATCH));
        batches.push(Ok(api::EventBatch { events: latest }));
        latest = later;
    }
    Ok(Box::pin(futures_util::stream::iter(batches)))
}

fn export(api: &Api, request: api::ExportEventsRequest) -> Result<Batches, Status> {
    let filter = EventFilter::parse(request.filter)?;
    let since = moment("since", request.since.as_ref())?.unwrap_or_default();
    let until = moment("until", request.until.as_ref())?.unwrap_or(ALL_TIMES);
    if until < since {
        return Err(Status::invalid_argument(format!("until {until} is before since {since}")));
    }
    let export = Export::new(api.spool.scan_events(since, until, &[]), filter);
    let closing = api.closing.clone();
    Ok(Box::pin(futures_util::stream::unfold(Some((export, closing)), async |state| {
        let (mut export, closing) = state?;
        match closing.run_until_cancelled(export.batch()).await {
            Some(Ok(Some(events))) => Some((Ok(api::EventBatch { events }), Some((export, closing)))),
            Some(Ok(None)) => None,
            Some(Err(status)) => Some((Err(status), None)),
            None => Some((Err(stopping()), None)),
        }
    })))
}

/// Events of a span of time, each told once.
pub(crate) struct Export {
    scan: EventScan,
    filter: EventFilter,
    seen: Seen,
}

impl Export {
    pub(crate) fn new(scan: EventScan, filter: EventFilter) -> Self {
        Self { scan, filter, seen: Seen::default() }
    }

    /// The next events, about [`BATCH`] of them; `None` at the end.
    pub(crate) async fn batch(&mut self) -> Result<Option<Vec<api::Event>>, Status> {
        let mut events = Vec::new();
        while events.len() < BATCH {
            let Some(record) = self.scan.next().await.map_err(|error| broken(&error))? else { break };
            let at: Timestamp = record.at;
            events.extend(self.filter.of(&record).into_iter().filter(|event| self.seen.is_new(event, at)));
        }
        Ok(Some(events).filter(|events| !events.is_empty()))
    }
}

/// A tail that goes on.
struct Follow {
    tail: EventTail,
    filter: EventFilter,
    seen: Seen,
    closing: CancellationToken,
}

impl Follow {
    async fn next(mut self) -> Option<(Result<api::EventBatch, Status>, Self)> {
        let closing = self.closing.clone();
        match closing.run_until_cancelled(self.gather()).await? {
            Ok(events) => Some((Ok(api::EventBatch { events }), self)),
            Err(status) => Some((Err(status), self)),
        }
    }

    /// Waits for an event, and takes those with it that come within a moment.
    async fn gather(&mut self) -> Result<Vec<api::Event>, Status> {
        let mut events = Vec::new();
        loop {
            let record = if events.is_empty() {
                self.tail.next().await
            } else {
                match tokio::time::timeout(GATHER, self.tail.next()).await {
                    Ok(record) => record,
                    Err(_) => return Ok(events),
                }
            };
            let record = record.map_err(|error| broken(&error))?;
            let new = self.filter.of(&record).into_iter().filter(|event| self.seen.is_new(event, record.at));
            events.extend(new);
            if events.len() >= BATCH {
                return Ok(events);
            }
        }
    }
}

/// The journal could not be read on.
pub(crate) fn broken(error: &ReadError) -> Status {
    Status::unavailable(format!("the journal cannot be read: {error}; try again"))
}

fn stopping() -> Status {
    Status::unavailable("the control service is being stopped; try again")
}
