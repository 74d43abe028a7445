//! What the owner of a shard lets others know: for which sites, and which tenants there, mail would only wait with it. Whoever
//! is about to publish to READY (ingress, splitter, promoters) sends such mail straight to a tier. All of it is a hint: a
//! state that is old, wrong or missing makes mail wait longer or shorter, and loses or doubles none.

use std::collections::HashMap;
use std::time::Duration;

use postrider_model::{SiteName, TenantId, Tier, TierDelays, Timestamp, WaitReason};

use crate::retry;

/// A state that was heard longer ago than this says nothing any more: its owner repeats it every second.
pub const STATE_LIVES: Duration = Duration::from_secs(5);

/// The longest tier for mail that could go but for others before it.
pub const LONGEST_WAIT: Tier = Tier::H1;

/// What a splitter may use: shorter than the ten minutes for which an owner knows what it has settled, so that a part that
/// was published to READY before a crash, and to a tier after it, is recognised.
pub const LONGEST_FOR_SPLITTER: Tier = Tier::M5;

/// Mail for a site, of all tenants or of one, that would not go soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jam {
    /// The site.
    pub site: SiteName,
    /// Whose mail; `None` is everybody's.
    pub tenant: Option<TenantId>,
    /// Why.
    pub reason: WaitReason,
    /// How long from now until the turn of an envelope that comes now, behind all that waits.
    pub turn_in: Duration,
    /// The site was closed and is being tried: a message now and then may go to READY.
    pub probing: bool,
}

impl Jam {
    /// The tier for an envelope that comes `age` after this was said, at most `longest`. `None` if none ends before its
    /// expiry: then READY is its place.
    pub fn tier(
        &self,
        age: Duration,
        longest: Tier,
        now: Timestamp,
        expiry: Timestamp,
        delays: &TierDelays,
    ) -> Option<Tier> {
        retry::tier_nearest(now.after(self.turn_in.saturating_sub(age)), longest, now, expiry, delays)
    }
}

/// The state of a shard as its owner publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardState {
    /// What would not go soon.
    pub jams: Vec<Jam>,
    /// Promoters ask for credit before they publish to READY.
    pub asks_for_credit: bool,
}

impl ShardState {
    /// Whether there is nothing to say.
    pub fn is_calm(&self) -> bool {
        self.jams.is_empty() && !self.asks_for_credit
    }
}

/// A state, ready to be looked into for each message.
#[derive(Clone, Debug, Default)]
pub struct Jams {
    by_site: HashMap<SiteName, Vec<Jam>>,
    asks_for_credit: bool,
}

impl From<ShardState> for Jams {
    fn from(state: ShardState) -> Self {
        let mut by_site: HashMap<SiteName, Vec<Jam>> = HashMap::new();
        for jam in state.jams {
            by_site.entry(jam.site.clone()).or_default().push(jam);
        }
        Self { by_site, asks_for_credit: state.asks_for_credit }
    }
}

impl Jams {
    /// The jam that mail of a tenant for a site would be in.
    pub fn of(&self, site: &SiteName, tenant: &TenantId) -> Option<&Jam> {
        self.by_site.get(site)?.iter().find(|jam| jam.tenant.as_ref().is_none_or(|whose| whose == tenant))
    }

    /// Whether promoters ask for credit first.
    pub fn asks_for_credit(&self) -> bool {
        self.asks_for_credit
    }
}

/// What a promoter would publish to READY: so many envelopes of one tenant for one site, from one tier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreditLine {
    /// The site.
    pub site: SiteName,
    /// The tenant.
    pub tenant: TenantId,
    /// The tier they are in.
    pub from: Tier,
    /// How many are due.
    pub count: u32,
}

/// What the owner says to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// So many may go to READY.
    pub granted: u32,
    /// The turn of the others is so far off.
    pub turn_in: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jam(tenant: Option<&str>) -> Jam {
        Jam {
            site: "google".parse().unwrap(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            reason: WaitReason::SiteClosed,
            turn_in: Duration::from_secs(900),
            probing: false,
        }
    }

    #[test]
    fn a_jam_of_a_tenant_is_nobody_elses() {
        let jams = Jams::from(ShardState { jams: vec![jam(Some("acme"))], asks_for_credit: true });
        let of = |site: &str, tenant: &str| jams.of(&site.parse().unwrap(), &tenant.parse().unwrap()).is_some();
        assert!(of("google", "acme"));
        assert!(!of("google", "other") && !of("example.net", "acme"));
    }

    #[test]
    fn a_jam_of_everybody_is_every_tenants() {
        let jams = Jams::from(ShardState { jams: vec![jam(None)], asks_for_credit: true });
        assert!(jams.of(&"google".parse().unwrap(), &"acme".parse().unwrap()).is_some());
    }

    #[test]
    fn the_tier_is_the_one_nearest_the_turn_that_ends_before_the_expiry() {
        let now = Timestamp::from_millis(1_000_000);
        let tier = |age, longest, life| {
            let expiry = now.after(Duration::from_secs(life));
            jam(None).tier(Duration::from_secs(age), longest, now, expiry, &TierDelays::default())
        };
        assert_eq!(tier(0, LONGEST_WAIT, 100_000), Some(Tier::M15));
        assert_eq!(tier(800, LONGEST_WAIT, 100_000), Some(Tier::M1));
        assert_eq!(tier(0, LONGEST_FOR_SPLITTER, 100_000), Some(Tier::M5));
        assert_eq!(tier(0, LONGEST_WAIT, 600), Some(Tier::M5));
        assert_eq!(tier(0, LONGEST_WAIT, 60), None);
    }
}
