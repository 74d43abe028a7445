//! Conversions of operators' rules and of the entries of the audit trail.

use postrider_model::{Operation, Rule, RuleFilter, Timestamp};

use crate::config::v1 as wire;
use crate::convert::{self, ConvertError, optional, text};
use crate::envelope::v1::Class;

impl From<&RuleFilter> for wire::RuleFilter {
    fn from(filter: &RuleFilter) -> Self {
        Self {
            tenant: text(filter.tenant.as_ref()),
            class: filter.class.map_or(Class::Unspecified, convert::wire_class).into(),
            campaign: text(filter.campaign.as_ref()),
            site: text(filter.site.as_ref()),
            pool: text(filter.pool.as_ref()),
            to_domain: text(filter.to_domain.as_ref()),
            from_domain: text(filter.from_domain.as_ref()),
            arrived_before_ms: millis(filter.arrived_before),
            waits_for: text(filter.waits_for.as_ref()),
            message_id: filter.message.as_ref().map(convert::wire_message_id).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::RuleFilter> for RuleFilter {
    type Error = ConvertError;

    /// Strict: a field that this build cannot read would make the filter wider than it was meant.
    fn try_from(filter: wire::RuleFilter) -> Result<Self, ConvertError> {
        let class = match Class::try_from(filter.class) {
            Ok(Class::Unspecified) => None,
            Ok(Class::Bulk | Class::Transactional) | Err(_) => Some(convert::class(filter.class)?),
        };
        let message = match filter.message_id.is_empty() {
            true => None,
            false => Some(convert::message_id(&filter.message_id)?),
        };
        Ok(Self {
            tenant: optional(&filter.tenant)?,
            class,
            campaign: optional(&filter.campaign)?,
            site: optional(&filter.site)?,
            pool: optional(&filter.pool)?,
            to_domain: optional(&filter.to_domain)?,
            from_domain: optional(&filter.from_domain)?,
            arrived_before: moment(filter.arrived_before_ms),
            waits_for: optional(&filter.waits_for)?,
            message,
        })
    }
}

impl From<&Rule> for wire::Rule {
    fn from(rule: &Rule) -> Self {
        Self {
            id: rule.id.to_string(),
            action: rule.action.to_string(),
            filter: Some((&rule.filter).into()),
            until_ms: millis(rule.until),
            scan: rule.scan,
            scanned_ms: millis(rule.scanned_at),
            made_by: rule.made_by.clone(),
            made_ms: rule.made_at.as_millis(),
            reason: rule.reason.clone(),
        }
    }
}

impl TryFrom<wire::Rule> for Rule {
    type Error = ConvertError;

    fn try_from(rule: wire::Rule) -> Result<Self, ConvertError> {
        Ok(Self {
            id: rule.id.parse()?,
            action: rule.action.parse()?,
            filter: rule.filter.ok_or(ConvertError::Missing("filter"))?.try_into()?,
            until: moment(rule.until_ms),
            scan: rule.scan,
            scanned_at: moment(rule.scanned_ms),
            made_by: rule.made_by,
            made_at: Timestamp::from_millis(rule.made_ms),
            reason: rule.reason,
        })
    }
}

impl From<&Operation> for wire::Operation {
    fn from(operation: &Operation) -> Self {
        let count = |(place, count): &(String, u64)| wire::PlaceCount { place: place.clone(), count: *count };
        Self {
            at_ms: operation.at.as_millis(),
            who: operation.who.clone(),
            command: operation.command.clone(),
            filter: operation.filter.as_ref().map(Into::into),
            rule: text(operation.rule.as_ref()),
            dry_run: operation.dry_run,
            reason: operation.reason.clone(),
            counts: operation.counts.iter().map(count).collect(),
            outcome: operation.outcome.clone(),
            which: operation.which.clone(),
        }
    }
}

impl TryFrom<wire::Operation> for Operation {
    type Error = ConvertError;

    fn try_from(operation: wire::Operation) -> Result<Self, ConvertError> {
        Ok(Self {
            at: Timestamp::from_millis(operation.at_ms),
            who: operation.who,
            command: operation.command,
            filter: operation.filter.map(TryInto::try_into).transpose()?,
            rule: optional(&operation.rule)?,
            dry_run: operation.dry_run,
            reason: operation.reason,
            counts: operation.counts.into_iter().map(|count| (count.place, count.count)).collect(),
            outcome: operation.outcome,
            which: operation.which,
        })
    }
}

/// 0 is no moment.
fn millis(moment: Option<Timestamp>) -> u64 {
    moment.map_or(0, Timestamp::as_millis)
}

fn moment(millis: u64) -> Option<Timestamp> {
    (millis > 0).then(|| Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use postrider_model::{Class, MessageId, RuleAction, WaitReason};

    use super::*;

    fn rule() -> Rule {
        let filter = RuleFilter {
            tenant: Some("acme".parse().unwrap()),
            class: Some(Class::Bulk),
            campaign: Some("spring sale".parse().unwrap()),
            site: Some("google".parse().unwrap()),
            pool: Some("warm".parse().unwrap()),
            to_domain: Some("example.net".parse().unwrap()),
            from_domain: Some("acme.example".parse().unwrap()),
            arrived_before: Some(Timestamp::from_millis(7)),
            waits_for: Some(WaitReason::Retry),
            message: Some(MessageId::from_bytes([3; 16])),
        };
        Rule {
            id: "hold-1".parse().unwrap(),
            action: RuleAction::Suspend,
            filter,
            until: Some(Timestamp::from_millis(9)),
            scan: true,
            scanned_at: Some(Timestamp::from_millis(8)),
            made_by: "admin".to_owned(),
            made_at: Timestamp::from_millis(5),
            reason: "a complaint".to_owned(),
        }
    }

    #[test]
    fn a_rule_comes_back_as_it_was() {
        assert_eq!(Rule::try_from(wire::Rule::from(&rule())).unwrap(), rule());
        let open = Rule { filter: RuleFilter::default(), until: None, scanned_at: None, ..rule() };
        assert_eq!(Rule::try_from(wire::Rule::from(&open)).unwrap(), open);
    }

    #[test]
    fn a_filter_that_cannot_be_read_whole_is_not_read_at_all() {
        for break_it in [
            |filter: &mut wire::RuleFilter| filter.class = 77,
            |filter: &mut wire::RuleFilter| filter.waits_for = "a later reason".to_owned(),
            |filter: &mut wire::RuleFilter| filter.message_id = vec![1, 2].into(),
        ] {
            let mut broken = wire::Rule::from(&rule());
            break_it(broken.filter.get_or_insert_default());
            assert!(Rule::try_from(broken).is_err());
        }
        assert!(Rule::try_from(wire::Rule { filter: None, ..(&rule()).into() }).is_err());
    }

    #[test]
    fn an_operation_comes_back_as_it_was() {
        let operation = Operation {
            at: Timestamp::from_millis(5),
            who: "admin".to_owned(),
            command: "queue delete".to_owned(),
            filter: Some(rule().filter),
            which: "dead letters 2, 7".to_owned(),
            rule: Some(rule().id),
            dry_run: true,
            reason: String::new(),
            counts: vec![("ready".to_owned(), 3)],
            outcome: "ok".to_owned(),
        };
        assert_eq!(Operation::try_from(wire::Operation::from(&operation)).unwrap(), operation);
    }
}
