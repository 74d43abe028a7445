//! The audit trail: what operators did is recorded before it is carried out.

use std::collections::HashMap;

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

/// What delivery calls the look through the tiers that an order asked for.
const SCAN: &str = "scan";

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
    let given = commands(&found);
    let told = found.into_iter().rev().take(limit).map(|operation| entry(operation, &given));
    Ok(api::ListOperationsResponse { operations: told.collect(), truncated })
}

/// By which commands orders were given.
fn commands(found: &[Operation]) -> HashMap<RuleId, String> {
    let by_order = |operation: &Operation| Some((operation.rule.clone()?, operation.command.clone()));
    // The first entry about an order is the command that gave it.
    found.iter().rev().filter(|operation| operation.command != SCAN).filter_map(by_order).collect()
}

/// Which mail it was about: by filter, by number, or both.
fn which(operation: &Operation) -> String {
    let filter = operation.filter.as_ref().filter(|filter| operation.which.is_empty() || !filter.is_empty());
    let said = [operation.which.clone(), filter.map(ToString::to_string).unwrap_or_default()];
    said.into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join(" ")
}

fn entry(operation: Operation, given: &HashMap<RuleId, String>) -> api::OperationEntry {
    let filter = which(&operation);
    let command = match operation.rule.as_ref().and_then(|rule| given.get(rule)) {
        Some(command) if operation.command == SCAN => format!("{SCAN} for {command}"),
        Some(_) | None => operation.command,
    };
    let counts = operation.counts.into_iter().map(|(place, count)| api::CountAt { place, count });
    api::OperationEntry {
        time: Some(time(operation.at)),
        who: operation.who,
        command,
        filter,
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
                which: String::new(),
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

    /// About this, in words that no filter has.
    pub(crate) fn about(mut self, which: String) -> Self {
        self.operation.which = which;
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
