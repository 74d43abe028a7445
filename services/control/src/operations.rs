//! The audit trail: what operators did is recorded before it is carried out.

use postrider_model::{Operation, RuleFilter, RuleId};
use postrider_nats::OperationsError;
use postrider_runtime::clock;
use tonic::Status;

use crate::api::Api;
use crate::filter::Who;

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
