//! The audit: for each tenant and hour, accepted = ended + waiting, in recipients. Accepted and ended are counted from the
//! journal as it grows; what waits is read from the streams when somebody asks, and by itself from time to time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postrider_model::{Record, TenantId, Timestamp};
use postrider_nats::Spool;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::audit_service_server::AuditService;
use postrider_runtime::clock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::wire::{moment, optional, time};

mod books;
mod check;
pub(crate) use check::run as check;
mod compare;
mod count;
mod fold;
pub(crate) use fold::LEAST_HOURS;
mod keeper;
pub(crate) use keeper::Keep;
mod missing;
mod rates;
pub(crate) use rates::{Rates, RowOf};

#[cfg(test)]
pub(crate) use count::tests::record as test_record;

use books::{Sums, ended};
use compare::{HourOf, Meanwhile, Scan, agrees};
use count::{Change, Hour};
use keeper::{CountError, Keeper};
use missing::{ByName, Named};

/// The most missing parts of an answer.
const MOST_MISSING: usize = 1_000;

/// How often the journal is read on, when there was nothing.
const LOOK: Duration = Duration::from_secs(1);

/// How often sums are written.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Counts the journal, one reader at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor {
    spool: Spool,
    keeper: Arc<Mutex<Option<Keeper>>>,
    keep: Keep,
    rates: Rates,
}

/// Which hours are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    first: Hour,
    before: Option<Timestamp>,
    tenant: Option<TenantId>,
}

impl Span {
    fn wants(&self, (hour, tenant): &HourOf) -> bool {
        *hour >= self.first
            && self.before.is_none_or(|before| hour_start(*hour) < before)
            && self.tenant.as_ref().is_none_or(|wanted| wanted.as_str() == tenant)
    }
}

fn hour_start(hour: Hour) -> Timestamp {
    Timestamp::from_millis(hour.saturating_mul(3_600_000))
}

impl Auditor {
    pub(crate) fn new(spool: &Spool, keep: Keep) -> Self {
        Self { spool: spool.clone(), keeper: Arc::default(), keep, rates: Rates::default() }
    }

    /// What happened within the last minute.
    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Counts until `stop`.
    pub(crate) async fn count(&self, stop: CancellationToken) {
        let mut kept = tokio::time::Instant::now();
        loop {
            let more = match self.step(kept.elapsed() >= KEEP_EVERY).await {
                Ok((more, wrote)) => {
                    if wrote {
                        kept = tokio::time::Instant::now();
                    }
                    more
                }
                Err(error) => {
                    tracing::warn!(%error, "the journal is not counted on; trying again");
                    // What was read and not written is counted again from where the bucket says.
                    *self.keeper.lock().await = None;
                    false
                }
            };
            if stop.is_cancelled() {
                break;
            }
            if !more {
                stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
            }
        }
        if let Some(keeper) = self.keeper.lock().await.as_mut()
            && let Err(error) = keeper.keep().await
        {
            tracing::debug!(%error, "the last sums are left to whoever counts next");
        }
    }

    async fn step(&self, keep: bool) -> Result<(bool, bool), CountError> {
        let mut slot = self.keeper.lock().await;
        let keeper = self.opened(&mut slot).await?;
        let more = keeper.advance(|record, _| self.rates.see(record, self.spool.server_now())).await?;
        if keep {
            keeper.keep().await?;
        }
        Ok((more, keep))
    }

    /// Compares. Holds the count still meanwhile.
    pub(crate) async fn audit(&self, span: &Span) -> Result<api::AuditReport, Status> {
        let mut slot = self.keeper.lock().await;
        let report = async {
            let keeper = self.opened(&mut slot).await?;
            keeper.catch_up(|record, _| self.rates.see(record, self.spool.server_now())).await?;
            let totals = keeper.books.totals();
            let mut scan = Scan::default();
            let memory = &keeper.memory;
            let see = |found: postrider_nats::Waiting| {
                if span.tenant.as_ref().is_none_or(|tenant| tenant.as_str() == found.outline.tenant) {
                    scan.see(&found.outline, |part| memory.is_taken(part));
                }
            };
            self.spool.scan_waiting(false, see).await?;
            let mut meanwhile = Meanwhile::default();
            let see = |record: &Record, changes: &[Change]| {
                self.rates.see(record, self.spool.server_now());
                meanwhile.see(record, changes);
            };
            keeper.catch_up(see).await?;
            scan.put_back(meanwhile);
            let shown = |hour| keeper.books.shown(hour);
            scan.show_under(|hour| shown(hour).0);
            let mut notes = keeper.notes();
            let hours: BTreeSet<HourOf> = totals.keys().cloned().chain(scan.hours()).collect();
            let hours: Vec<HourOf> = hours.into_iter().filter(|of| span.wants(of)).collect();
            let none = Sums::default();
            let differ = hours.iter().filter(|of| !agrees(totals.get(*of).unwrap_or(&none), scan.waiting(of)));
            let begins = self.begins().await?;
            let reaches = |of: &HourOf| shown(of.0).1 == 1 && begins.is_none_or(|begins| begins <= hour_start(of.0));
            let by_name: BTreeSet<HourOf> = differ.filter(|of| reaches(of)).cloned().collect();
            let named = missing::look(&self.spool, &by_name).await?;
            notes.extend(named.notes.iter().cloned());
            let row = |of: HourOf| {
                let counted = named.hours.get(&of).filter(|_| by_name.contains(&of));
                let reaches = reaches(&of);
                let (waiting, untaken) = (scan.waiting(&of).count, scan.untaken(&of));
                let sums = totals.get(&of).unwrap_or(&none);
                api::AuditHour { hours: shown(of.0).1, ..row(&of, sums, counted, waiting, untaken, reaches) }
            };
            let hours = hours.into_iter().map(row).collect();
            keeper.keep().await?;
            Ok::<_, CountError>(report(hours, &named, notes))
        };
        report.await.map_err(|error| {
            // What was counted and not written is counted again from where the bucket says.
            *slot = None;
            Status::unavailable(format!("{error}; try again"))
        })
    }

    async fn opened<'a>(&self, slot: &'a mut Option<Keeper>) -> Result<&'a mut Keeper, CountError> {
        let keeper = match slot.take() {
            Some(keeper) => keeper,
            None => Keeper::open(&self.spool, self.keep).await?,
        };
        Ok(slot.insert(keeper))
    }

    /// Since when every EVENTS stream holds all records; `None` if nothing was ever deleted.
    async fn begins(&self) -> Result<Option<Timestamp>, CountError> {
        let mut latest = None;
        for stream in 0..self.spool.journals() {
            latest = latest.max(self.spool.journal_begins(stream).await?);
        }
        Ok(latest)
    }
}

fn row(
    (hour, tenant): &HourOf,
    sums: &Sums,
    by_name: Option<&ByName>,
    waiting: u64,
    in_transit: u64,
    named: bool,
) -> api::AuditHour {
    let counted = by_name.map(|counted| Sums { accepted: counted.accepted, ended: counted.ended.clone(), open: 0 });
    let (sums, waiting) = (counted.as_ref().unwrap_or(sums), by_name.map_or(waiting, |counted| counted.waiting));
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    // Of an hour before the events nobody knows any more what was taken: what was found counts.
    let taken = sums.accepted.saturating_sub(sums.ended()).saturating_sub(waiting).min(in_transit);
    let taken = if named { 0 } else { taken };
    let (waiting, in_transit) = (waiting + taken, in_transit - taken);
    api::AuditHour {
        hour: Some(time(hour_start(*hour))),
        tenant: tenant.clone(),
        accepted: sums.accepted,
        ended: ended(sums),
        waiting,
        in_transit,
        difference: signed(sums.accepted).saturating_sub(signed(sums.ended())).saturating_sub(signed(waiting)),
        named,
        hours: 1,
    }
}

fn report(hours: Vec<api::AuditHour>, named: &Named, notes: Vec<String>) -> api::AuditReport {
    let missing = named.missing.iter().take(MOST_MISSING).map(|it| api::MissingPart {
        message_id: it.message.to_string(),
        part: it.part,
        tenant: it.tenant.clone(),
        recipients: it.recipients,
        accept_time: Some(time(it.message.timestamp())),
        last_event: it.last.0.to_string(),
        last_time: Some(time(it.last.1)),
    });
    api::AuditReport {
        time: Some(time(clock::now())),
        hours,
        missing: missing.collect(),
        missing_parts: u64::try_from(named.missing.len()).unwrap_or(u64::MAX),
        notes,
    }
}

#[tonic::async_trait]
impl AuditService for Api {
    async fn audit(&self, request: Request<api::AuditRequest>) -> Result<Response<api::AuditReport>, Status> {
        self.answer("Audit", audit(self, &request.into_inner()).await)
    }
}

async fn audit(api: &Api, request: &api::AuditRequest) -> Result<api::AuditReport, Status> {
    let since = moment("since", request.since.as_ref())?.unwrap_or_default();
    let before = moment("until", request.until.as_ref())?;
    if before.is_some_and(|before| before <= since) {
        return Err(Status::invalid_argument("until: not after since"));
    }
    let tenant = optional("tenant", &request.tenant)?;
    let report = api.auditor.audit(&Span { first: since.as_secs() / 3600, before, tenant }).await?;
    Ok(report)
}
