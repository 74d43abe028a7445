//! What each shard has lately moved to tiers, what lies there, and how long its READY is: the memory behind the state that
//! others read. Only counts; what follows from it is decided in `credit`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use postrider_model::{ShardId, SiteName, TenantId, Tier, Timestamp};

/// Moves are counted over one to two of these.
const WINDOW: Duration = Duration::from_secs(10);

/// A site of which nothing was moved for so long, and nothing lies in tiers, is forgotten.
const KEPT: Duration = Duration::from_secs(60);

/// Sites of one shard that are remembered: the others go by READY, and lose nothing but time.
const TRACKED: usize = 2_000;

/// Credit that was given out and has not been used after this long never will be.
const CREDIT_LIVES: Duration = Duration::from_secs(5);

/// READY is long if it would take longer than this to come through, ...
const LONG: Duration = Duration::from_secs(7);
/// ... and holds more than this, ...
const MANY: u64 = 200;
/// ... for so long; ...
const LASTS: Duration = Duration::from_secs(1);
/// ... and it is that until it holds no more than this.
const FEW: u64 = 50;

const SECOND: Duration = Duration::from_secs(1);

/// How often what is over is looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// A number of things lately.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    since: Timestamp,
    now: u64,
    before: u64,
}

impl Recent {
    fn add(&mut self, count: u64, now: Timestamp) {
        self.turn(now);
        self.now += count;
    }

    fn turn(&mut self, now: Timestamp) {
        let age = now.since(self.since);
        if age >= WINDOW {
            self.before = if age < WINDOW * 2 { self.now } else { 0 };
            self.now = 0;
            self.since = now;
        }
    }

    fn count(mut self, now: Timestamp) -> u64 {
        self.turn(now);
        self.now + self.before
    }
}

/// How many a second, by the better of this second and the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    since: Timestamp,
    now: u64,
    before: u64,
}

impl Speed {
    fn add(&mut self, now: Timestamp) {
        self.turn(now);
        self.now += 1;
    }

    fn turn(&mut self, now: Timestamp) {
        let age = now.since(self.since);
        if age >= SECOND {
            self.before = if age < SECOND * 2 { self.now } else { 0 };
            self.now = 0;
            self.since = now;
        }
    }

    fn rate(mut self, now: Timestamp) -> u64 {
        self.turn(now);
        self.now.max(self.before)
    }
}

/// One tenant's mail for one site.
#[derive(Clone, Debug, Default)]
pub(super) struct TenantJam {
    moved: Recent,
    /// What lies in each tier, as of the last look.
    deep: [u64; 5],
    outstanding: u64,
    granted: Timestamp,
    /// Others were told of it.
    pub(super) told: bool,
}

impl TenantJam {
    /// Envelopes moved to tiers lately.
    pub(super) fn moved(&self, now: Timestamp) -> u64 {
        self.moved.count(now)
    }

    /// Envelopes in tiers shorter than this; in all of them if there is none.
    pub(super) fn deep(&self, below: Option<Tier>) -> u64 {
        self.deep.iter().take(below.map_or(self.deep.len(), Tier::index)).sum()
    }

    /// Credit that is given out and not used yet.
    pub(super) fn outstanding(&self, now: Timestamp) -> u64 {
        if now.since(self.granted) > CREDIT_LIVES { 0 } else { self.outstanding }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        !self.told && self.deep(None) == 0 && self.moved(now) == 0 && self.outstanding(now) == 0
    }

    pub(super) fn grant(&mut self, count: u64, now: Timestamp) {
        self.outstanding = self.outstanding(now) + count;
        self.granted = now;
    }
}

/// Mail for one site.
#[derive(Clone, Debug, Default)]
pub(super) struct SiteJam {
    pub(super) tenants: BTreeMap<TenantId, TenantJam>,
    moved: Recent,
    last: Timestamp,
    /// What it drained in a minute when that could be seen last: a lane that is empty is forgotten with its speed.
    speed: u64,
    /// Others were told of it as a whole.
    pub(super) told: bool,
}

impl SiteJam {
    /// What it drains in a minute: what is measured now, or what was before, which loses weight slowly. 0: nothing is known.
    pub(super) fn speed(&mut self, measured: u64) -> u64 {
        if measured > 0 {
            self.speed = measured.max(self.speed - self.speed / 8);
        }
        self.speed
    }

    pub(super) fn sum(&self, count: impl Fn(&TenantJam) -> u64) -> u64 {
        self.tenants.values().map(count).sum()
    }
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardJams {
    sites: HashMap<SiteName, SiteJam>,
    /// Those among them that may be worth a word to others.
    hot: BTreeSet<SiteName>,
    pending: u64,
    taken: Speed,
    long: bool,
    /// Since when it would be long.
    long_since: Option<Timestamp>,
    swept: Timestamp,
}

impl ShardJams {
    /// Envelopes in READY that have not been pulled, as of the last pull.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether mail at the end of READY waits for long.
    pub(super) fn is_long(&self) -> bool {
        self.long
    }

    pub(super) fn site(&self, site: &SiteName) -> Option<&SiteJam> {
        self.sites.get(site)
    }

    pub(super) fn site_mut(&mut self, site: &SiteName) -> Option<&mut SiteJam> {
        self.sites.get_mut(site)
    }

    pub(super) fn hot(&self) -> impl Iterator<Item = &SiteName> {
        self.hot.iter()
    }

    /// Credit that is given out for any of its sites.
    pub(super) fn outstanding(&self, now: Timestamp) -> u64 {
        let of = |site: &SiteName| self.sites.get(site).map_or(0, |site| site.sum(|tenant| tenant.outstanding(now)));
        self.hot.iter().map(of).sum()
    }

    fn judge(&mut self, now: Timestamp) {
        let through = self.taken.rate(now).max(1).saturating_mul(LONG.as_secs());
        if self.pending <= MANY.max(through) {
            self.long_since = None;
        } else if now.since(*self.long_since.get_or_insert(now)) >= LASTS {
            self.long = true;
        }
        self.long &= self.pending > FEW;
    }
}

/// All shards of this process.
#[derive(Debug, Default)]
pub(super) struct Jams {
    shards: HashMap<ShardId, ShardJams>,
}

impl Jams {
    pub(super) fn of(&self, shard: ShardId) -> Option<&ShardJams> {
        self.shards.get(&shard)
    }

    pub(super) fn of_mut(&mut self, shard: ShardId) -> Option<&mut ShardJams> {
        self.shards.get_mut(&shard)
    }

    pub(super) fn take_shard(&mut self, shard: ShardId) {
        self.shards.insert(shard, ShardJams::default());
    }

    pub(super) fn lose_shard(&mut self, shard: ShardId) {
        self.shards.remove(&shard);
    }

    /// So many are left in READY.
    pub(super) fn pending(&mut self, shard: ShardId, count: u64, now: Timestamp) {
        if let Some(shard) = self.shards.get_mut(&shard) {
            shard.pending = count;
            shard.judge(now);
        }
    }

    /// One came out of READY.
    pub(super) fn arrived(&mut self, shard: ShardId, site: &SiteName, tenant: &TenantId, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(&shard) else { return };
        shard.taken.add(now);
        if let Some(jam) = shard.sites.get_mut(site).and_then(|site| site.tenants.get_mut(tenant)) {
            jam.outstanding = jam.outstanding.saturating_sub(1);
        }
    }

    /// One was moved to a tier, for no reason of its own. From so many on its site is hot.
    pub(super) fn moved(&mut self, shard: ShardId, site: &SiteName, tenant: &TenantId, hot_from: u64, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(&shard) else { return };
        if shard.sites.len() >= TRACKED && !shard.sites.contains_key(site) {
            return;
        }
        let jam = shard.sites.entry(site.clone()).or_default();
        jam.last = now;
        jam.moved.add(1, now);
        jam.tenants.entry(tenant.clone()).or_default().moved.add(1, now);
        if jam.moved.count(now) >= hot_from && !shard.hot.contains(site) {
            shard.hot.insert(site.clone());
        }
    }

    /// So much of a site lies in the tiers.
    pub(super) fn deep(&mut self, shard: ShardId, site: &SiteName, depths: Vec<(TenantId, [u64; 5])>, now: Timestamp) {
        let Some(site) = self.shards.get_mut(&shard).and_then(|shard| shard.sites.get_mut(site)) else { return };
        for jam in site.tenants.values_mut() {
            jam.deep = [0; 5];
        }
        for (tenant, deep) in depths {
            site.tenants.entry(tenant).or_default().deep = deep;
        }
        site.tenants.retain(|_, jam| !jam.is_over(now));
    }

    /// Forgets what is over, now and then.
    pub(super) fn sweep(&mut self, shard: ShardId, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(&shard).filter(|shard| now.since(shard.swept) >= SWEEP) else { return };
        shard.swept = now;
        shard.sites.retain(|_, site| {
            let is_over = !site.told && now.since(site.last) > KEPT && site.sum(|jam| jam.deep(None)) == 0;
            site.tenants.retain(|_, jam| !jam.is_over(now));
            !is_over
        });
        let sites = &shard.sites;
        shard.hot.retain(|site| sites.contains_key(site));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId { class: postrider_model::Class::Bulk, index: 0 };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn ready_is_long_if_it_takes_seconds_to_come_through_until_it_is_nearly_empty() {
        let (mut jams, site, tenant) = (Jams::default(), "google".parse().unwrap(), "acme".parse().unwrap());
        jams.take_shard(SHARD);
        for n in 0..10_000 {
            jams.arrived(SHARD, &site, &tenant, at(n));
        }
        let mut long = |pending, millis: u64| {
            jams.pending(SHARD, pending, at(10_000 + millis));
            jams.of(SHARD).unwrap().is_long()
        };
        assert!(!long(6_000, 0) && !long(6_000, 900), "a thousand a second come through");
        assert!(!long(9_000, 900) && !long(6_000, 950), "for a moment only");
        assert!(!long(9_000, 1_000) && !long(9_000, 1_900));
        assert!(long(9_000, 2_000) && long(60, 5_000) && !long(50, 6_000));
    }

    #[test]
    fn a_burst_that_comes_through_quickly_is_never_long() {
        let (mut jams, site, tenant) = (Jams::default(), "google".parse().unwrap(), "acme".parse().unwrap());
        jams.take_shard(SHARD);
        jams.arrived(SHARD, &site, &tenant, at(0));
        for batch in 0..20 {
            let now = at(9_000 + batch * 150);
            for _ in 0..1_000 {
                jams.arrived(SHARD, &site, &tenant, now);
            }
            jams.pending(SHARD, (19 - batch) * 1_000, now);
            assert!(!jams.of(SHARD).unwrap().is_long(), "batch {batch}");
        }
    }

    #[test]
    fn what_was_moved_long_ago_does_not_count() {
        let mut recent = Recent::default();
        recent.add(5, at(0));
        assert_eq!([at(9_000), at(11_000), at(31_000)].map(|now| recent.count(now)), [5, 5, 0]);
    }

    #[test]
    fn credit_that_is_not_used_comes_back() {
        let mut jam = TenantJam::default();
        jam.grant(10, at(0));
        jam.grant(5, at(4_000));
        assert_eq!([jam.outstanding(at(8_000)), jam.outstanding(at(10_000))], [15, 0]);
    }

    #[test]
    fn a_shard_remembers_so_many_sites_and_no_more_until_one_is_forgotten() {
        let (mut jams, tenant) = (Jams::default(), "acme".parse().unwrap());
        jams.take_shard(SHARD);
        let mut moved = |number: usize, millis: u64| {
            let site = format!("site{number}.example").parse().unwrap();
            jams.moved(SHARD, &site, &tenant, 1, at(millis));
            jams.sweep(SHARD, at(millis));
            let shard = jams.of(SHARD).unwrap();
            let count = shard.site(&site).map(|jam| jam.moved.count(at(millis)));
            (shard.sites.len(), shard.hot.len(), count)
        };
        for number in 1..=TRACKED {
            assert_eq!(moved(number, 0), (number, number, Some(1)));
        }
        assert_eq!(moved(TRACKED + 1, 0), (TRACKED, TRACKED, None), "one too many");
        assert_eq!(moved(7, 0), (TRACKED, TRACKED, Some(2)), "one that is known goes on");
        assert_eq!(moved(7, 70_000), (1, 1, Some(1)), "the others are over");
        assert_eq!(moved(TRACKED + 1, 70_000), (2, 2, Some(1)));
    }
}
