//! Operators' rules against envelopes: what has been ordered about one, if anything. Compiled so that without rules it costs
//! nothing, and with hundreds of them an envelope is held against few.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use postrider_model::{
    Campaign, Domain, EnhancedCode, Envelope, MessageId, Outcome, Reply, Rule, RuleAction, RuleFilter, RuleId,
    SiteName, TenantId, Timestamp, WaitReason,
};

#[cfg(test)]
mod tests;

/// What is to be done with an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// To HOLD; as long as that is full to the longest tier, and then it is asked again.
    Suspend {
        /// Because of this rule.
        rule: RuleId,
    },
    /// These recipients have met their end. Others, if there are any, go on.
    End {
        /// [`Outcome::Deleted`] or [`Outcome::Bounced`].
        outcome: Outcome,
        /// Made up, with the operator's reason.
        reply: Reply,
        /// Positions in the envelope; some or all of the pending ones.
        recipients: Vec<u32>,
    },
    /// Its turn is now, whatever was found before this moment.
    Flush {
        /// When the order was given.
        given: Timestamp,
    },
}

/// All rules at one revision. Immutable.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In the order in which they were made.
    rules: Vec<Rule>,
    /// Each rule stands in one of these: under the most telling thing that its filter says.
    by_message: HashMap<MessageId, Vec<usize>>,
    by_campaign: HashMap<Campaign, Vec<usize>>,
    by_recipient_domain: HashMap<Domain, Vec<usize>>,
    by_site: HashMap<SiteName, Vec<usize>>,
    by_tenant: HashMap<TenantId, Vec<usize>>,
    others: Vec<usize>,
}

impl Rules {
    /// Compiles rules.
    pub fn new(rules: &BTreeMap<RuleId, Rule>) -> Self {
        let mut all: Vec<Rule> = rules.values().cloned().collect();
        all.sort_by_key(|rule| rule.made_at);
        let mut compiled = Self::default();
        for (place, Rule { filter, .. }) in all.iter().enumerate() {
            let list = match filter {
                RuleFilter { message: Some(message), .. } => compiled.by_message.entry(*message).or_default(),
                RuleFilter { campaign: Some(campaign), .. } => {
                    compiled.by_campaign.entry(campaign.clone()).or_default()
                }
                RuleFilter { to_domain: Some(domain), .. } => {
                    compiled.by_recipient_domain.entry(domain.clone()).or_default()
                }
                RuleFilter { site: Some(site), .. } => compiled.by_site.entry(site.clone()).or_default(),
                RuleFilter { tenant: Some(tenant), .. } => compiled.by_tenant.entry(tenant.clone()).or_default(),
                _ => &mut compiled.others,
            };
            list.push(place);
        }
        compiled.rules = all;
        compiled
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What they concern.
    pub fn filters(&self) -> impl Iterator<Item = &RuleFilter> {
        self.rules.iter().map(|rule| &rule.filter)
    }

    /// Whether they are compiled from these.
    pub fn are_of(&self, rules: &BTreeMap<RuleId, Rule>) -> bool {
        self.rules.len() == rules.len() && self.rules.iter().all(|rule| rules.get(&rule.id) == Some(rule))
    }

    /// What is ordered about an envelope that waits for `reason` (`None`: nobody knows). What ends it comes before what
    /// holds it, and that before what hurries it. Of rules that hold and that release, the latest counts.
    pub fn order(&self, envelope: &Envelope, reason: Option<WaitReason>, now: Timestamp) -> Option<Order> {
        if self.rules.is_empty() {
            return None;
        }
        let found = self.in_force(envelope, now, |rule| waits(&rule.filter, envelope, reason));
        if let Some(rule) = found.iter().find(|rule| ends(rule.action).is_some()) {
            return Some(end(rule, envelope));
        }
        // What has expired goes to its end, not to HOLD.
        if let Some(rule) = holding(&found).filter(|_| now < envelope.expiry) {
            return Some(Order::Suspend { rule: rule.id.clone() });
        }
        let flush = found.iter().rfind(|rule| rule.action == RuleAction::Flush)?;
        Some(Order::Flush { given: flush.made_at })
    }

    /// The rule that keeps an envelope in HOLD; `None`: it may leave, be it to go on or to meet its end, or because it has
    /// expired. Never `None` where [`Rules::order`] would suspend it again.
    pub fn keeps(&self, envelope: &Envelope, now: Timestamp) -> Option<&RuleId> {
        let is_ended = |rule: &Rule| ends(rule.action).is_some();
        // Why it waited when it was suspended is past.
        let found = self.in_force(envelope, now, |rule| !is_ended(rule) || waits(&rule.filter, envelope, None));
        if envelope.expiry <= now || found.iter().any(|rule| is_ended(rule)) {
            return None;
        }
        holding(&found).map(|rule| &rule.id)
    }

    /// Whether something that `before` kept in HOLD may leave it now.
    pub fn may_free(&self, before: &Self) -> bool {
        let lifts = |rule: &&Rule| rule.action == RuleAction::Release || ends(rule.action).is_some();
        let is_new = |rule: &&Rule| !before.rules.iter().any(|old| old.same_order(rule));
        let is_gone = |rule: &&Rule| !self.rules.iter().any(|new| new.same_order(rule));
        self.rules.iter().filter(lifts).any(|rule| is_new(&rule))
            || before.rules.iter().filter(|rule| rule.action == RuleAction::Suspend).any(|rule| is_gone(&rule))
    }

    /// The next moment after `now` at which a rule ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.rules.iter().filter_map(|rule| rule.until).filter(|&until| until > now).min()
    }

    /// All of them, in the order in which they were made.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// Rules in force whose filter matches, in the order in which they were made.
    fn in_force(&self, envelope: &Envelope, now: Timestamp, also: impl Fn(&Rule) -> bool) -> Vec<&Rule> {
        let mut places: Vec<usize> = Vec::new();
        places.extend(under(&self.by_message, &envelope.message));
        if let Some(campaign) = &envelope.campaign {
            places.extend(under(&self.by_campaign, campaign));
        }
        if !self.by_recipient_domain.is_empty() {
            for (_, recipient) in envelope.pending() {
                places.extend(under(&self.by_recipient_domain, recipient.domain()));
            }
        }
        places.extend(under(&self.by_site, &envelope.state.site));
        places.extend(under(&self.by_tenant, &envelope.tenant));
        places.extend(&self.others);
        places.sort_unstable();
        places.dedup();
        let rules = places.into_iter().filter_map(|place| self.rules.get(place));
        rules.filter(|rule| rule.in_force(now) && matches(&rule.filter, envelope) && also(rule)).collect()
    }
}

fn under<'a, K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized>(map: &'a HashMap<K, Vec<usize>>, key: &Q) -> &'a [usize] {
    if map.is_empty() { &[] } else { map.get(key).map_or(&[], Vec::as_slice) }
}

/// Whether a filter matches an envelope, leaving aside why it waits.
pub fn matches(filter: &RuleFilter, envelope: &Envelope) -> bool {
    fn same<T: PartialEq>(wanted: &Option<T>, is: Option<&T>) -> bool {
        wanted.as_ref().is_none_or(|wanted| is == Some(wanted))
    }
    same(&filter.message, Some(&envelope.message))
        && same(&filter.tenant, Some(&envelope.tenant))
        && same(&filter.class, Some(&envelope.class))
        && same(&filter.campaign, envelope.campaign.as_ref())
        && same(&filter.site, Some(&envelope.state.site))
        && same(&filter.pool, envelope.pool.as_ref())
        && filter.arrived_before.is_none_or(|before| envelope.arrival < before)
        && filter.from_domain.as_ref().is_none_or(|wanted| is_from(envelope, wanted))
        && filter.to_domain.as_ref().is_none_or(|wanted| envelope.pending().any(|(_, to)| to.domain() == wanted))
}

/// Whether an envelope that waits for `reason` (`None`: nobody knows) waits for what the filter says. That it was tried, the
/// envelope says itself.
pub fn waits(filter: &RuleFilter, envelope: &Envelope, reason: Option<WaitReason>) -> bool {
    let tried = envelope.state.last_reply.is_some().then_some(WaitReason::Retry);
    filter.waits_for.is_none_or(|wanted| reason == Some(wanted) || tried == Some(wanted))
}

fn is_from(envelope: &Envelope, wanted: &Domain) -> bool {
    envelope.from_domain.as_ref() == Some(wanted)
        || envelope.sender.mailbox().is_some_and(|sender| sender.domain() == wanted)
}

fn ends(action: RuleAction) -> Option<Outcome> {
    match action {
        RuleAction::Delete => Some(Outcome::Deleted),
        RuleAction::Bounce => Some(Outcome::Bounced),
        RuleAction::Suspend | RuleAction::Release | RuleAction::Flush => None,
    }
}

fn end(rule: &Rule, envelope: &Envelope) -> Order {
    let outcome = ends(rule.action).unwrap_or(Outcome::Deleted);
    let wanted = |to: &Domain| rule.filter.to_domain.as_ref().is_none_or(|domain| domain == to);
    let recipients = envelope.pending().filter(|(_, to)| wanted(to.domain())).map(|(index, _)| index).collect();
    let did = if outcome == Outcome::Bounced { "returned" } else { "deleted" };
    let why = if rule.reason.is_empty() { String::new() } else { format!(": {}", rule.reason) };
    let text = format!("{did} by the operator of the sending system{why}");
    Order::End { outcome, reply: Reply::new(554, Some(EnhancedCode(5, 7, 0)), &text), recipients }
}

/// The rule that holds, if of those that hold and release the latest holds.
fn holding<'r>(found: &[&'r Rule]) -> Option<&'r Rule> {
    let about_hold = |rule: &&&Rule| matches!(rule.action, RuleAction::Suspend | RuleAction::Release);
    found.iter().rfind(about_hold).copied().filter(|rule| rule.action == RuleAction::Suspend)
}
