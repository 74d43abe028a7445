//! Rules that have done their work are removed: those that have ended, and those that all mail which they may concern has met.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_model::{Rule, RuleAction, RuleId, Tier, Timestamp};
use postrider_nats::{BucketError, ConfigKey, Expected, Members, Place};
use postrider_proto::config::v1 as wire;
use postrider_runtime::clock;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Keeper;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What was in a conversation when the rule was made has left it by then.
const CONVERSATIONS: Duration = Duration::from_secs(20 * 60);

/// No message lives longer.
const LONGEST_LIFE: Duration = Duration::from_secs(8 * 86_400);

/// What is known about a rule beyond what it says.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// When every tier was first seen without mail from before the rule.
    tiers_turned: Option<Timestamp>,
}

impl Keeper {
    pub(super) async fn keep_removing(mut self, members: watch::Receiver<Arc<Members>>, stop: CancellationToken) {
        let mut known = BTreeMap::new();
        loop {
            if self.is_chosen(&members) {
                self.remove_what_is_done(&mut known).await;
            } else {
                known.clear();
            }
            // Not with every change of the configuration.
            self.snapshot.mark_unchanged();
            if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    async fn remove_what_is_done(&self, known: &mut BTreeMap<RuleId, Known>) {
        let rules = self.rules();
        known.retain(|id, _| rules.contains_key(id));
        if rules.is_empty() {
            return;
        }
        let now = clock::now();
        let (mut oldest_waiting, mut tiers_empty) = (None, true);
        for tier in Tier::ALL {
            match self.spool.place_state(Place::Tier(tier)).await {
                Ok(state) => {
                    tiers_empty &= state.messages == 0;
                    oldest_waiting = oldest_waiting.into_iter().chain(state.oldest).min();
                }
                Err(error) => return tracing::debug!(%error, "rules are removed later"),
            }
        }
        let oldest_ready = match self.spool.place_state(Place::Ready).await {
            Ok(state) => state.oldest,
            Err(error) => return tracing::debug!(%error, "rules are removed later"),
        };
        for rule in rules.into_values() {
            let known = known.entry(rule.id.clone()).or_default();
            let turned = rule.made_at.after(CONVERSATIONS);
            if now > turned && (tiers_empty || oldest_waiting.is_some_and(|oldest| oldest > turned)) {
                known.tiers_turned.get_or_insert(now);
            }
            if is_done(&rule, *known, oldest_ready, now) {
                self.remove(&rule).await;
            }
        }
    }

    async fn remove(&self, rule: &Rule) {
        let (store, key) = (self.spool.config_store(), ConfigKey::Rule(rule.id.clone()));
        let entry = match store.get(&key).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return,
            Err(error) => return tracing::debug!(rule = %rule.id, %error, "a rule is removed later"),
        };
        let is_it = wire::Rule::decode(entry.value).ok().and_then(|wire| Rule::try_from(wire).ok());
        if is_it.as_ref() != Some(rule) {
            return;
        }
        match store.delete(&key, Expected::Revision(entry.revision)).await {
            Ok(_) => tracing::info!(rule = %rule.id, action = %rule.action, "a rule has done its work, and is removed"),
            Err(BucketError::Conflict { .. }) => {}
            Err(error) => tracing::debug!(rule = %rule.id, %error, "a rule is removed later"),
        }
    }
}

/// Whether a rule concerns nothing any more. `oldest_ready` is when the oldest of READY was stored there.
fn is_done(rule: &Rule, known: Known, oldest_ready: Option<Timestamp>, now: Timestamp) -> bool {
    if !rule.in_force(now) {
        return true;
    }
    let age = now.since(rule.made_at);
    if rule.scan && rule.scanned_at.is_none() {
        return age > LONGEST_LIFE;
    }
    match rule.action {
        // Until somebody removes it, unless it is about one message.
        RuleAction::Suspend => rule.filter.message.is_some() && age > LONGEST_LIFE,
        RuleAction::Release => age > LONGEST_LIFE,
        // What is brought to READY by its scan has met it by then.
        RuleAction::Flush => age > CONVERSATIONS,
        // All of the tiers has turned, and what came from them to READY has been pulled.
        RuleAction::Delete | RuleAction::Bounce => {
            known.tiers_turned.is_some_and(|turned| oldest_ready.is_none_or(|oldest| oldest > turned))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + minutes * 60_000)
    }

    fn rule(action: RuleAction) -> Rule {
        Rule {
            id: "one".parse().unwrap(),
            action,
            filter: postrider_model::RuleFilter::default(),
            until: None,
            scan: false,
            scanned_at: None,
            made_by: String::new(),
            made_at: at(0),
            reason: String::new(),
        }
    }

    fn turned(minutes: u64) -> Known {
        Known { tiers_turned: Some(at(minutes)) }
    }

    #[test]
    fn a_deletion_is_done_once_the_tiers_have_turned_and_ready_after_them() {
        let rule = rule(RuleAction::Delete);
        assert!(!is_done(&rule, Known::default(), None, at(600)));
        assert!(!is_done(&rule, turned(300), Some(at(299)), at(600)));
        assert!(is_done(&rule, turned(300), Some(at(301)), at(600)));
        assert!(is_done(&rule, turned(300), None, at(600)));
    }

    #[test]
    fn a_rule_whose_scan_is_not_done_stays() {
        let rule = Rule { scan: true, ..rule(RuleAction::Flush) };
        assert!(!is_done(&rule, Known::default(), None, at(600)));
        assert!(is_done(&Rule { scanned_at: Some(at(1)), ..rule }, Known::default(), None, at(600)));
    }

    #[test]
    fn a_suspension_stays_until_it_ends() {
        let rule = rule(RuleAction::Suspend);
        assert!(!is_done(&rule, turned(1), None, at(100_000)));
        assert!(is_done(&Rule { until: Some(at(5)), ..rule }, Known::default(), None, at(5)));
    }
}
