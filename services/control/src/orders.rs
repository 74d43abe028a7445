//! Orders over gRPC: an operator's command becomes a rule of the configuration, which delivery obeys. Counted if
//! that is quick, and recorded before it is given.

use std::time::Duration;

use postrider_model::{Rule, RuleAction, RuleFilter, RuleId, Timestamp};
use postrider_nats::ConfigKey;
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::order_service_server::OrderService;
use postrider_runtime::clock;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::filter::{Who, parse};
use crate::mail::{self, Tally};
use crate::operations::Command;
use crate::store::Stored;
use crate::wire::{moment, required, time};
use crate::{messages, tenants};

/// How long an order waits until what it concerns is counted.
const COUNTING: Duration = Duration::from_secs(2);

#[tonic::async_trait]
impl OrderService for Api {
    async fn list_mail(
        &self,
        request: Request<api::ListMailRequest>,
    ) -> Result<Response<api::ListMailResponse>, Status> {
        self.answer("ListMail", mail::list(self, request.into_inner()).await)
    }

    async fn order(&self, request: Request<api::OrderRequest>) -> Result<Response<api::OrderResponse>, Status> {
        let who = Who::of(&request);
        self.answer("Order", order(self, &who, request.into_inner()).await)
    }

    async fn list_orders(
        &self,
        request: Request<api::ListOrdersRequest>,
    ) -> Result<Response<api::ListOrdersResponse>, Status> {
        self.answer("ListOrders", list(self, &request.into_inner()).await)
    }

    async fn remove_order(
        &self,
        request: Request<api::RemoveOrderRequest>,
    ) -> Result<Response<api::OrderResponse>, Status> {
        let who = Who::of(&request);
        self.answer("RemoveOrder", remove(self, &who, request.into_inner()).await)
    }
}

async fn order(api: &Api, who: &Who, request: api::OrderRequest) -> Result<api::OrderResponse, Status> {
    let action: RuleAction = required("action", &request.action)?;
    let now = clock::now();
    let filter = parse(request.filter.unwrap_or_default())?;
    if filter.is_empty() && !request.all {
        return Err(Status::invalid_argument(
            "the filter is empty and would concern all mail: say which mail, or `--all` if you mean all of it",
        ));
    }
    let filter = bounded(action, filter, api.spool.server_now());
    let until = moment("until", request.until.as_ref())?;
    if until.is_some_and(|until| until <= now) {
        return Err(Status::invalid_argument("until: is past already"));
    }
    let id: RuleId = match request.id.as_str() {
        "" => required("id", &format!("{action}-{:x}", now.as_millis()))?,
        id => required("id", id)?,
    };
    let name = if request.command.is_empty() { action.as_str() } else { request.command.as_str() };
    let command = Command::new(name, who, request.dry_run).with(&filter).because(&request.comment);
    let scan = request.scan || action == RuleAction::Flush;
    let effect = effect(action, scan).to_owned();
    let tally = look(api, action, &filter, request.dry_run).await?;
    if tally.as_ref().is_some_and(Tally::is_empty) {
        check_names(api, &filter).await?;
    }
    let told = tally.as_ref().map(Tally::told).unwrap_or_default();
    if request.dry_run {
        command.record(api, &told, "counted").await?;
        return Ok(answer(tally, effect));
    }
    let rule = Rule {
        id: id.clone(),
        action,
        filter,
        until,
        scan,
        scanned_at: None,
        made_by: who.0.clone(),
        made_at: now,
        reason: request.comment,
    };
    let command = command.by(&id);
    let _turn = api.store.turn().await;
    command.record(api, &told, "ordered").await?;
    let made = api.store.create(&ConfigKey::Rule(id.clone()), &wire::Rule::from(&rule)).await;
    let lagging_members = carried_out(api, &command, made).await?;
    Ok(api::OrderResponse { id: id.to_string(), lagging_members, ..answer(tally, effect) })
}

/// Waits until what was written is in force, and says where it is not yet. What could not be written is told to the audit trail.
async fn carried_out(api: &Api, command: &Command, written: Result<u64, Status>) -> Result<Vec<String>, Status> {
    match written {
        Ok(revision) => Ok(api.store.applied(revision).await.lagging_members),
        Err(status) => {
            command.record(api, &[], &format!("not carried out: {}", status.message())).await?;
            Err(status)
        }
    }
}

/// What an order concerns. A dry run waits for it; what is meant is not kept waiting, and given without a count if need be.
async fn look(api: &Api, action: RuleAction, filter: &RuleFilter, dry_run: bool) -> Result<Option<Tally>, Status> {
    if dry_run {
        return mail::tally(api, action, filter).await.map(Some);
    }
    match tokio::time::timeout(COUNTING, mail::tally(api, action, filter)).await {
        Ok(Ok(tally)) => Ok(Some(tally)),
        Ok(Err(status)) => {
            tracing::debug!(%status, "an order is given without a count");
            Ok(None)
        }
        Err(_) => Ok(None),
    }
}

/// Refuses names that nobody knows: what matches nothing was probably misspelt.
async fn check_names(api: &Api, filter: &RuleFilter) -> Result<(), Status> {
    if let Some(tenant) = &filter.tenant {
        tenants::find(api, tenant.clone()).await?;
    }
    if let Some(message) = filter.message {
        messages::check_known(api, message).await?;
    }
    Ok(())
}

fn answer(tally: Option<Tally>, effect: String) -> api::OrderResponse {
    let counted = tally.is_some();
    let Tally { counts, held } = tally.unwrap_or_default();
    api::OrderResponse { counts, effect, counted, held, ..api::OrderResponse::default() }
}

/// What ends or hurries mail concerns nothing that comes later than `now`, by the server's clock. A message that is named
/// is there already, whatever the clock of who took it said.
fn bounded(action: RuleAction, filter: RuleFilter, now: Timestamp) -> RuleFilter {
    let named = filter.message.map_or(now, |message| message.timestamp().after(Duration::from_millis(1)));
    match action {
        RuleAction::Suspend | RuleAction::Release => filter,
        RuleAction::Delete | RuleAction::Bounce | RuleAction::Flush => {
            RuleFilter { arrived_before: Some(filter.arrived_before.unwrap_or(now.max(named))), ..filter }
        }
    }
}

/// Where and how an order takes effect.
fn effect(action: RuleAction, scan: bool) -> &'static str {
    match (action, scan) {
        (RuleAction::Release, _) => "what is on hold of it goes on within seconds",
        (RuleAction::Flush, _) => "what waits in tiers has its turn at once: they are scanned now",
        (RuleAction::Suspend, true) => "what is ready, and what comes, is suspended at once; the tiers are scanned now",
        (RuleAction::Suspend, false) => {
            "what is ready, and what comes, is suspended at once; what waits in tiers at its next turn (at once with \
             --scan)"
        }
        (RuleAction::Delete | RuleAction::Bounce, true) => {
            "what is ready and what is on hold ends at once; the tiers are scanned now"
        }
        (RuleAction::Delete | RuleAction::Bounce, false) => {
            "what is ready and what is on hold ends at once; what waits in tiers at its next turn (at once with --scan)"
        }
    }
}

/// What follows when an order is removed.
fn removal(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Suspend => "what it kept on hold goes on within seconds, unless another hold keeps it",
        RuleAction::Release => "withdrawn: holds from before it count again for mail at its next turn",
        RuleAction::Delete | RuleAction::Bounce => "withdrawn: what has not met it yet stays in the queue",
        RuleAction::Flush => "withdrawn: what has not had its turn by it waits for its own",
    }
}

async fn list(api: &Api, request: &api::ListOrdersRequest) -> Result<api::ListOrdersResponse, Status> {
    let action: Option<RuleAction> = crate::wire::optional("action", &request.action)?;
    let mut rules = given(api).await?;
    rules.retain(|rule| action.is_none_or(|action| rule.action == action));
    let now = clock::now();
    Ok(api::ListOrdersResponse { orders: rules.into_iter().map(|rule| standing(rule, now)).collect() })
}

/// All orders that are kept, in the order in which they were given.
pub(crate) async fn given(api: &Api) -> Result<Vec<Rule>, Status> {
    let mut rules: Vec<Rule> = api.store.everything().await?.rules.into_iter().map(|stored| stored.value).collect();
    rules.sort_by_key(|rule| rule.made_at);
    Ok(rules)
}

fn standing(rule: Rule, now: Timestamp) -> api::StandingOrder {
    let state = match (rule.in_force(now), rule.scan && rule.scanned_at.is_none()) {
        (false, _) => "ended",
        (true, true) => "scanning",
        (true, false) => "in force",
    };
    api::StandingOrder {
        id: rule.id.to_string(),
        action: rule.action.to_string(),
        filter: rule.filter.to_string(),
        until: rule.until.map(time),
        scan: rule.scan,
        scanned_time: rule.scanned_at.map(time),
        made_by: rule.made_by,
        made_time: Some(time(rule.made_at)),
        comment: rule.reason,
        state: state.to_owned(),
    }
}

async fn remove(api: &Api, who: &Who, request: api::RemoveOrderRequest) -> Result<api::OrderResponse, Status> {
    let id: RuleId = required("id", &request.id)?;
    let key = ConfigKey::Rule(id.clone());
    let _turn = api.store.turn().await;
    let Stored { value: rule, revision } = api.store.get::<wire::Rule, Rule>(&key).await?;
    let name = if request.command.is_empty() { "hold remove" } else { request.command.as_str() };
    let command = Command::new(name, who, request.dry_run).with(&rule.filter).by(&id);
    let effect = removal(rule.action).to_owned();
    // Of a hold, what it may set free.
    let about = if rule.action == RuleAction::Suspend { RuleAction::Release } else { rule.action };
    let tally = look(api, about, &rule.filter, request.dry_run).await?;
    let told = tally.as_ref().map(Tally::told).unwrap_or_default();
    if request.dry_run {
        command.record(api, &told, "counted").await?;
        return Ok(answer(tally, effect));
    }
    command.record(api, &told, "ordered").await?;
    let removed = api.store.delete(&key, revision).await;
    let lagging_members = carried_out(api, &command, removed).await?;
    Ok(api::OrderResponse { id: id.to_string(), lagging_members, ..answer(tally, effect) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_mail_concerns_nothing_that_comes_later() {
        let now = Timestamp::from_millis(5_000);
        let bound = |action| bounded(action, RuleFilter::default(), now).arrived_before;
        assert_eq!(bound(RuleAction::Delete), Some(now));
        assert_eq!(bound(RuleAction::Flush), Some(now));
        assert_eq!(bound(RuleAction::Suspend), None);
        let older = RuleFilter { arrived_before: Some(Timestamp::from_millis(1)), ..RuleFilter::default() };
        assert_eq!(bounded(RuleAction::Bounce, older, now).arrived_before, Some(Timestamp::from_millis(1)));
    }
}
