//! The audit trail: what operators did is recorded before it is carried out.

use postrider_model::{Operation, RuleFilter, RuleId};
use postrider_nats::OperationsError;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::operation_service_server::OperationService;
use postrider_runtime::clock;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::events::AHEAD;
use crate::filter::Who;
use crate::wire::{moment, time};

/// Entries listed if nobody says how many, and the most.
const LISTED: usize = 100;
const MOST_LISTED: usize = 10_000;

/// The most entries that are read for it.
const MOST_READ: usize = 1_000_000;

#[tonic::async_trait]
impl OperationService for Api {
    async fn list_operations(
        &self,
        request: Request<api::ListOperationsRequest>,
    ) -> Result<Response<api::ListOperationsResponse>, Status> {
        self.answer("ListOperations", list(self, &request.into_inner()).await)
    }
}

async fn list(api: &Api, request: &api::ListOperationsRequest) -> Result<api::ListOperationsResponse, Status> {
    let since = moment("since", request.since.as_ref())?.unwrap_or_default();
    let until = moment("until", request.until.as_ref())?.unwrap_or_else(|| clock::now().after(AHEAD));
    let limit = usize::try_from(request.limit).unwrap_or(MOST_LISTED).min(MOST_LISTED);
    let limit = if limit == 0 { LISTED } else { limit };
    let found = api.spool.operations(since, until, MOST_READ).await;
    let found = found.map_err(|error| Status::unavailable(format!("{error}; try again")))?;
    let truncated = found.len() > limit;
    Ok(api::ListOperationsResponse { operations: found.into_iter().rev().take(limit).map(entry).collect(), truncated })
}

fn entry(operation: Operation) -> api::OperationEntry {
    let counts = operation.counts.into_iter().map(|(place, count)| api::CountAt { place, count });
    api::OperationEntry {
        time: Some(time(operation.at)),
        who: operation.who,
        command: operation.command,
        filter: operation.filter.map(|filter| filter.to_string()).unwrap_or_default(),
        order: operation.rule.map(|rule| rule.to_string()).unwrap_or_default(),
        dry_run: operation.dry_run,
        comment: operation.reason,
        counts: counts.collect(),
        outcome: operation.outcome,
    }
}

/// A command of an operator. Its entries differ in what was counted and what came of it.
pub(crate) struct Command {
    operation: Operation,
}

impl Command {
    /// A command by its name on the command line.
    pub(crate) fn new(command: &str, who: &Who, dry_run: bool) -> Self {
        Self {
            operation: Operation {
                at: clock::now(),
                who: who.0.clone(),
                command: command.to_owned(),
                filter: None,
                rule: None,
                dry_run,
                reason: String::new(),
                counts: Vec::new(),
                outcome: String::new(),
            },
        }
    }

    /// About this mail.
    pub(crate) fn with(mut self, filter: &RuleFilter) -> Self {
        self.operation.filter = Some(filter.clone());
        self
    }

    /// In the operator's words.
    pub(crate) fn because(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.operation.reason);
        self
    }

    /// By this rule.
    pub(crate) fn by(mut self, rule: &RuleId) -> Self {
        self.operation.rule = Some(rule.clone());
        self
    }

    /// Appends an entry. What is not recorded is not done.
    pub(crate) async fn record(&self, api: &Api, counts: &[(&str, u64)], outcome: &str) -> Result<(), Status> {
        let operation = Operation {
            at: clock::now(),
            counts: counts.iter().map(|(place, count)| ((*place).to_owned(), *count)).collect(),
            outcome: outcome.to_owned(),
            ..self.operation.clone()
        };
        tracing::info!(
            who = operation.who,
            command = operation.command,
            dry_run = operation.dry_run,
            outcome = operation.outcome,
            "an operator's command"
        );
        let recorded = api.spool.record_operation(&operation).await;
        recorded.map_err(|error: OperationsError| Status::unavailable(format!("{error}; nothing was done, try again")))
    }
}
