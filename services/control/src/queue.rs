//! The queue over gRPC: asks the delivery members and the streams, and names who did not answer.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use postrider_model::{Class, SiteName, TenantId, Timestamp};
use postrider_nats::{Depth, Spool};
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::delivery_query::Ask;
use postrider_proto::control::v1::queue_service_server::QueueService;
use postrider_runtime::clock;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::summary::{RowFilter, rows};
use crate::wire::{optional, time};

/// How long delivery members have to answer.
const PATIENCE: Duration = Duration::from_secs(1);

const DELIVERY: &str = "delivery";

/// How many times at most the streams are asked for the age of their oldest mail.
const OLDEST_LOOKS: usize = 200;

#[tonic::async_trait]
impl QueueService for Api {
    async fn get_queue_summary(
        &self,
        request: Request<api::GetQueueSummaryRequest>,
    ) -> Result<Response<api::QueueSummary>, Status> {
        let request = request.into_inner();
        let mut told = summary(self, &request).await;
        if let Ok(told) = &mut told
            && request.rates
        {
            crate::rated::add(told, &request, &self.auditor.rates().minute(self.spool.server_now()));
        }
        self.answer("GetQueueSummary", told)
    }
}

async fn summary(api: &Api, request: &api::GetQueueSummaryRequest) -> Result<api::QueueSummary, Status> {
    let filter = RowFilter {
        tenant: optional::<TenantId>("tenant", &request.tenant)?.map(|tenant| tenant.to_string()),
        site: optional::<SiteName>("site", &request.site)?.map(|site| site.to_string()),
        class: optional::<Class>("class", &request.class)?,
    };
    let asked = ask(api, Ask::Summary(api::SummaryQuery {}));
    let spool = &api.spool;
    let (answers, depths, suspended, intake, dead) =
        tokio::join!(asked, spool.depths(), spool.held_depths(), spool.intake_depth(), spool.dead_count());
    let looked = |error: postrider_nats::LookError| Status::unavailable(format!("{error}; try again"));
    let (answers, depths, suspended) = (answers?, depths.map_err(looked)?, suspended.map_err(looked)?);
    let (oldest, suspended) = tokio::join!(oldest(spool, &depths), with_oldest(spool, suspended));
    Ok(api::QueueSummary {
        rows: rows(&answers.answers, &depths, &suspended, &oldest, &filter),
        intake: intake.ok(),
        dead: dead.ok(),
        answered_members: answers.answers.iter().map(|answer| answer.member.clone()).collect(),
        silent_members: answers.silent,
        time: Some(time(clock::now())),
    })
}

/// When the oldest mail in each tier was accepted, in the order of `depths`. Each costs a look into a stream, so only the
/// first are looked at.
async fn oldest(spool: &Spool, depths: &[Depth]) -> Vec<Option<Timestamp>> {
    let looks: Vec<_> = depths.iter().take(OLDEST_LOOKS).map(|depth| spool.oldest_in_tier(depth)).collect();
    stream::iter(looks).buffered(16).collect().await
}

/// The same of what is on hold.
async fn with_oldest(spool: &Spool, suspended: Vec<Depth>) -> Vec<(Depth, Option<Timestamp>)> {
    let looks = suspended.into_iter().enumerate().map(|(number, depth)| async move {
        let oldest = if number < OLDEST_LOOKS { spool.oldest_on_hold(&depth).await } else { None };
        (depth, oldest)
    });
    stream::iter(looks).buffered(16).collect().await
}

/// What the delivery members said, and who said nothing.
pub(crate) struct Answers {
    pub(crate) answers: Vec<api::DeliveryAnswer>,
    pub(crate) silent: Vec<String>,
}

/// Asks all living delivery members.
pub(crate) async fn ask(api: &Api, ask: Ask) -> Result<Answers, Status> {
    let members = api.store.members();
    let living = members.values().filter(|member| member.has_role(DELIVERY)).map(|member| member.id.to_string());
    let mut silent: BTreeSet<String> = living.collect();
    let query = api::DeliveryQuery { ask: Some(ask) };
    let mut answers = api
        .spool
        .ask_delivery(&query, silent.len(), PATIENCE)
        .await
        .map_err(|error| Status::unavailable(format!("{error}; try again")))?;
    for answer in &answers {
        silent.remove(&answer.member);
    }
    answers.sort_by(|one, other| one.member.cmp(&other.member));
    Ok(Answers { answers, silent: silent.into_iter().collect() })
}
