//! What an operator orders about mail that waits or is to come: a rule, kept in the `config` bucket until it has done its work. The
//! owners of shards obey; nothing is ever purged.

use std::fmt;

use crate::keyword::keyword;
use crate::{Campaign, Class, Domain, MessageId, PoolName, RuleId, SiteName, TenantId, Timestamp, WaitReason};

/// An order about all mail that its filter matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// What is to be done.
    pub action: RuleAction,
    /// With which mail.
    pub filter: RuleFilter,
    /// Not in force from then on; `None`: until it is removed.
    pub until: Option<Timestamp>,
    /// Also what waits in tiers is to be looked at, at once.
    pub scan: bool,
    /// When that was done.
    pub scanned_at: Option<Timestamp>,
    /// Who gave the order.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// Why, in the operator's words; empty: not said.
    pub reason: String,
}

impl Rule {
    /// Whether it is in force at a moment.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether `other` orders the same: all but the note about its scan.
    pub fn same_order(&self, other: &Self) -> bool {
        self.id == other.id
            && self.action == other.action
            && self.filter == other.filter
            && self.until == other.until
            && self.made_at == other.made_at
    }
}

/// What a rule orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// To HOLD, until the rule ends.
    Suspend,
    /// Out of HOLD, whatever older rules say.
    Release,
    /// Ended without a word.
    Delete,
    /// Ended with a failure that the sender hears of.
    Bounce,
    /// Its turn is now.
    Flush,
}

impl RuleAction {
    /// All actions.
    pub const ALL: [Self; 5] = [Self::Suspend, Self::Release, Self::Delete, Self::Bounce, Self::Flush];

    /// The name: `suspend release delete bounce flush`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Release => "release",
            Self::Delete => "delete",
            Self::Bounce => "bounce",
            Self::Flush => "flush",
        }
    }

    /// Whether it stays until somebody removes it, or it ends. The others have done their work once all mail that they may
    /// concern has met them.
    pub const fn stays(self) -> bool {
        matches!(self, Self::Suspend)
    }
}

keyword!(RuleAction, "action", "is none of suspend release delete bounce flush");

/// Which mail: what is said must all be so. Empty: all mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of this class.
    pub class: Option<Class>,
    /// Of this campaign.
    pub campaign: Option<Campaign>,
    /// For this site.
    pub site: Option<SiteName>,
    /// Of this pool.
    pub pool: Option<PoolName>,
    /// With a recipient at this domain that is still to be served.
    pub to_domain: Option<Domain>,
    /// From this domain: of the envelope sender, or of the header From.
    pub from_domain: Option<Domain>,
    /// Accepted before. Always set for what is deleted, bounced and flushed: it concerns nothing that comes later.
    pub arrived_before: Option<Timestamp>,
    /// Waiting for this. `retry` is seen of all mail that was tried; what else waits, and why, only the index of the shard's
    /// owner knows.
    pub waits_for: Option<WaitReason>,
    /// This message.
    pub message: Option<MessageId>,
}

impl RuleFilter {
    /// Whether it matches all mail.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// As flags of the command line: `--tenant acme --site google`.
impl fmt::Display for RuleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                parts.push(format!("--{flag} {value}"));
            }
        };
        add("message", self.message.map(|id| id.to_string()));
        add("tenant", self.tenant.as_ref().map(ToString::to_string));
        add("class", self.class.map(|class| class.to_string()));
        add("campaign", self.campaign.as_ref().map(|campaign| format!("{:?}", campaign.as_str())));
        add("site", self.site.as_ref().map(ToString::to_string));
        add("pool", self.pool.as_ref().map(ToString::to_string));
        add("to-domain", self.to_domain.as_ref().map(ToString::to_string));
        add("from-domain", self.from_domain.as_ref().map(ToString::to_string));
        add("reason", self.waits_for.map(|reason| reason.to_string()));
        add("arrived-before", self.arrived_before.map(|time| time.to_string()));
        if parts.is_empty() { f.write_str("everything") } else { f.write_str(&parts.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_print_and_parse() {
        for action in RuleAction::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        assert!("purge".parse::<RuleAction>().is_err());
    }

    #[test]
    fn a_filter_prints_as_flags() {
        let filter = RuleFilter {
            tenant: Some("acme".parse().unwrap()),
            campaign: Some("spring sale".parse().unwrap()),
            ..RuleFilter::default()
        };
        assert_eq!(filter.to_string(), "--tenant acme --campaign \"spring sale\"");
        assert_eq!(RuleFilter::default().to_string(), "everything");
    }
}
