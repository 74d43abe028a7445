//! The queue over gRPC: asks the delivery members and the streams, and names who did not answer.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_model::{Class, SiteName, TenantId};
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

#[tonic::async_trait]
impl QueueService for Api {
    async fn get_queue_summary(
        &self,
        request: Request<api::GetQueueSummaryRequest>,
    ) -> Result<Response<api::QueueSummary>, Status> {
        self.answer("GetQueueSummary", summary(self, &request.into_inner()).await)
    }
}

async fn summary(api: &Api, request: &api::GetQueueSummaryRequest) -> Result<api::QueueSummary, Status> {
    let filter = RowFilter {
        tenant: optional::<TenantId>("tenant", &request.tenant)?.map(|tenant| tenant.to_string()),
        site: optional::<SiteName>("site", &request.site)?.map(|site| site.to_string()),
        class: optional::<Class>("class", &request.class)?,
    };
    let asked = ask(api, Ask::Summary(api::SummaryQuery {}));
    let (answers, depths) = tokio::join!(asked, api.spool.depths());
    let looked = |error: postrider_nats::LookError| Status::unavailable(format!("{error}; try again"));
    let answers = answers?;
    Ok(api::QueueSummary {
        rows: rows(&answers.answers, &depths.map_err(looked)?, &filter),
        // The spool does not tell these two yet.
        intake: None,
        dead: None,
        answered_members: answers.answers.iter().map(|answer| answer.member.clone()).collect(),
        silent_members: answers.silent,
        time: Some(time(clock::now())),
    })
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
