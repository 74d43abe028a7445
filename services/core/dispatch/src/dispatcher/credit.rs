//! What others are told of this process's shards, and how much promoters may bring back: for a site that was closed a few
//! at first, then what it drains soon. The rest hears when its turn may come.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::{ShardId, SiteName, TenantId, Timestamp, WaitReason};

use super::Dispatcher;
use super::jams::{ShardJams, TenantJam};
use super::kept::Kept;
use super::lane::Wait;
use crate::shard_state::{Credit, CreditLine, Jam, ShardState};

/// Of a site that is being tried so many are let in.
const PROBES: u64 = 10;

/// So many are always let in of a tenant at an open site: below that there is nothing to pace.
const FIRST: u64 = 20;

/// What a site is taken to drain in a minute if nothing is known.
const PRESUMED: u64 = 6_000;

/// A jam that would be over within this is none any more.
const OVER: Duration = Duration::from_secs(10);

/// Jams of one shard that others are told of, the deepest first.
const TOLD: usize = 64;

/// How a site stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Closed(Wait),
    /// It was closed, may be tried again, and has not answered yet.
    Probing,
    Open,
}

impl Dispatcher {
    /// What others should know of a shard.
    pub fn shard_state(&mut self, shard: ShardId, now: Timestamp) -> ShardState {
        self.jams.sweep(shard, now);
        let mut jams = Vec::new();
        let Some(known) = self.jams.of(shard) else { return ShardState::default() };
        let (busy, sites): (bool, Vec<SiteName>) = (self.is_busy(shard), known.hot().cloned().collect());
        for site in sites {
            self.tell_of(shard, &site, now, &mut jams);
        }
        jams.sort_by(|(deep, one), (other_deep, other)| {
            other_deep.cmp(deep).then_with(|| (&one.site, &one.tenant).cmp(&(&other.site, &other.tenant)))
        });
        jams.truncate(TOLD);
        let jams: Vec<Jam> = jams.into_iter().map(|(_, jam)| jam).collect();
        ShardState { asks_for_credit: busy || !jams.is_empty(), jams }
    }

    /// Sites of a shard of whose mail it matters how much lies in tiers.
    pub fn jammed_sites(&self, shard: ShardId, now: Timestamp) -> Vec<SiteName> {
        let Some(known) = self.jams.of(shard) else { return Vec::new() };
        let least = self.jam_from() / 2;
        let matters = |site: &SiteName| {
            let jam = known.site(site)?;
            let told = jam.told || jam.tenants.values().any(|tenant| tenant.told);
            (told || jam.sum(|tenant| tenant.moved(now).max(tenant.deep(None))) >= least).then(|| site.clone())
        };
        known.hot().filter_map(matters).collect()
    }

    pub(super) fn jam_from(&self) -> u64 {
        u64::try_from(self.config.jam_from.max(1)).unwrap_or(u64::MAX)
    }

    /// More than half of the room for what comes back is taken.
    fn is_busy(&self, shard: ShardId) -> bool {
        let half = u64::try_from(self.index.capacity(&self.config) / 2).unwrap_or(u64::MAX);
        let pending = self.jams.of(shard).map_or(0, ShardJams::pending);
        pending + self.returned(shard) > half
    }

    fn returned(&self, shard: ShardId) -> u64 {
        u64::try_from(self.index.returned(shard)).unwrap_or(u64::MAX)
    }

    fn crowd(&self, shard: ShardId, site: &SiteName, tenant: &TenantId) -> u64 {
        u64::try_from(self.index.crowd(shard, site, tenant)).unwrap_or(u64::MAX)
    }

    fn tell_of(&mut self, shard: ShardId, site: &SiteName, now: Timestamp, into: &mut Vec<(u64, Jam)>) {
        let standing = self.standing(shard, site, now);
        let jam_from = self.jam_from();
        let per_minute = self.per_minute(shard, site, now);
        let Some(known) = self.jams.of(shard).and_then(|shard| shard.site(site)) else { return };
        let all = known.sum(|tenant| tenant.moved(now).max(tenant.deep(None)));
        let deep = known.sum(|tenant| tenant.deep(None));
        let closed = standing != Standing::Open && (known.told || all >= jam_from) && all > 0;
        let mut tenants = Vec::new();
        for (tenant, jam) in &known.tenants {
            let waits = jam.deep(None) + self.crowd(shard, site, tenant);
            let turn_in = time_for(waits, per_minute);
            let moved = jam.moved(now) >= jam_from;
            let goes_on = (jam.told || jam.deep(None) >= jam_from) && turn_in > OVER && jam.deep(None) > 0;
            let tells = !closed && (moved || goes_on);
            tenants.push((tenant.clone(), tells, waits, turn_in));
        }
        let Some(known) = self.jams.of_mut(shard).and_then(|shard| shard.site_mut(site)) else { return };
        known.told = closed;
        for (tenant, tells, waits, turn_in) in tenants {
            if let Some(jam) = known.tenants.get_mut(&tenant) {
                jam.told = tells;
            }
            if tells {
                let jam = Jam {
                    site: site.clone(),
                    tenant: Some(tenant),
                    reason: WaitReason::Overflow,
                    turn_in,
                    probing: false,
                };
                into.push((waits, jam));
            }
        }
        if closed {
            let (reason, opens_in) = match standing {
                Standing::Closed(wait) => (wait.reason, wait.until.since(now)),
                Standing::Probing | Standing::Open => (WaitReason::SiteClosed, Duration::ZERO),
            };
            let turn_in = time_for(deep, self.site_per_minute(shard, site, now)).max(opens_in);
            let probing = standing == Standing::Probing;
            into.push((all, Jam { site: site.clone(), tenant: None, reason, turn_in, probing }));
        }
    }

    /// Answers a promoter: how much of each line may come.
    pub fn credit(&mut self, shard: ShardId, lines: &[CreditLine], now: Timestamp) -> Vec<Credit> {
        let capacity = self.index.capacity(&self.config);
        let room = u64::try_from(capacity - capacity / 4).unwrap_or(u64::MAX);
        let known = self.jams.of(shard);
        let on_the_way = known.map_or(0, |known| known.pending() + known.outstanding(now));
        let mut left = room.saturating_sub(self.returned(shard) + on_the_way);
        let mut speeds = BTreeMap::new();
        let credits = lines.iter().map(|line| {
            let speed = *speeds.entry(&line.site).or_insert_with(|| self.per_minute(shard, &line.site, now));
            self.credit_for(shard, line, speed, &mut left, now)
        });
        credits.collect()
    }

    /// One line's credit, where a tenant of this site gets so much in a minute.
    fn credit_for(
        &mut self,
        shard: ShardId,
        line: &CreditLine,
        per_minute: u64,
        left: &mut u64,
        now: Timestamp,
    ) -> Credit {
        let count = u64::from(line.count);
        let standing = self.standing(shard, &line.site, now);
        let crowd = self.crowd(shard, &line.site, &line.tenant);
        let cap = u64::try_from(self.config.tenant_site_capacity / 4 * 3).unwrap_or(u64::MAX).max(1);
        let jam = self.jams.of(shard).and_then(|shard| shard.site(&line.site));
        let own = jam.and_then(|site| site.tenants.get(&line.tenant));
        let outstanding = own.map_or(0, |jam| jam.outstanding(now));
        let before = own.map_or(0, |jam| jam.deep(Some(line.from))) + crowd;
        let wanted = match standing {
            Standing::Closed(_) => 0,
            Standing::Probing => {
                let all = jam.map_or(0, |site| {
                    let of = |tenant| self.crowd(shard, &line.site, tenant);
                    site.tenants.iter().map(|(tenant, jam)| of(tenant) + jam.outstanding(now)).sum()
                });
                PROBES.saturating_sub(all)
            }
            Standing::Open => self.soon(per_minute).max(FIRST).min(cap).saturating_sub(crowd + outstanding),
        };
        let granted = count.min(wanted).min(*left);
        *left -= granted;
        if let Some(known) = self.jams.of_mut(shard).filter(|_| granted > 0)
            && let Some(jam) = known.site_mut(&line.site)
        {
            jam.tenants.entry(line.tenant.clone()).or_default().grant(granted, now);
        }
        let opens_in = match standing {
            Standing::Closed(wait) => wait.until.since(now),
            Standing::Probing | Standing::Open => Duration::ZERO,
        };
        let turn_in = time_for(before, per_minute).max(opens_in);
        Credit { granted: u32::try_from(granted).unwrap_or(u32::MAX), turn_in }
    }

    /// Whether a tenant has no more waiting for a site, here and in tiers, than is always let in.
    pub(super) fn has_little(&self, entry: &Kept) -> bool {
        let jam = self.jams.of(entry.shard).and_then(|shard| shard.site(&entry.site)?.tenants.get(&entry.tenant));
        jam.map_or(0, |jam| jam.deep(None)) + self.crowd(entry.shard, &entry.site, &entry.tenant) <= FIRST
    }

    /// What drains in half the time that an envelope may wait in the index: what is more would only be moved again.
    fn soon(&self, per_minute: u64) -> u64 {
        let millis = u64::try_from(self.config.index_wait.as_millis() / 2).unwrap_or(u64::MAX);
        per_minute.saturating_mul(millis) / 60_000
    }

    /// How a site stands for a shard's class, all its lanes in this process taken together.
    fn standing(&self, shard: ShardId, site: &SiteName, now: Timestamp) -> Standing {
        let mut opens: Option<Wait> = None;
        let mut tried = false;
        for id in self.lanes.of_site(site) {
            let Some(lane) = self.lanes.lane(id) else { continue };
            // A limit that is used up for a moment closes nothing: a site that is served at its full rate always waits a little.
            let is_shut = |wait: &Wait| matches!(wait.reason, WaitReason::SiteClosed | WaitReason::SourceUnavailable);
            let lasts = |wait: &Wait| is_shut(wait) || wait.until.since(now) >= OVER;
            match self.blocks(id, shard.class, now).filter(lasts).max_by_key(|wait| wait.until) {
                Some(wait) => opens = opens.filter(|first| first.until <= wait.until).or(Some(wait)),
                None if lane.failures > 0 && lane.established == 0 => tried = true,
                None => return Standing::Open,
            }
        }
        match (tried, opens) {
            (true, _) => Standing::Probing,
            (false, Some(wait)) => Standing::Closed(wait),
            (false, None) => Standing::Open,
        }
    }

    /// What a site drains in a minute.
    fn site_per_minute(&mut self, shard: ShardId, site: &SiteName, now: Timestamp) -> u64 {
        let speeds = self.lanes.of_site(site).filter_map(|id| self.lanes.lane(id)?.pace.per_minute(now));
        let measured = speeds.sum::<u64>();
        let known = self.jams.of_mut(shard).and_then(|shard| shard.site_mut(site));
        match known.map_or(measured, |site| site.speed(measured)) {
            0 => PRESUMED,
            speed => speed,
        }
    }

    /// What it drains of one tenant in a minute, if all that have mail waiting get the same, and what those with less do not
    /// need goes to the others.
    fn per_minute(&mut self, shard: ShardId, site: &SiteName, now: Timestamp) -> u64 {
        let all = self.site_per_minute(shard, site, now);
        let known = self.jams.of(shard).and_then(|shard| shard.site(site));
        let waits = |(_, jam): &(&TenantId, &TenantJam)| jam.told || jam.deep(None) > 0;
        let of = |(tenant, jam): (&TenantId, &TenantJam)| jam.deep(None) + self.crowd(shard, site, tenant);
        let waiting = known.map(|site| site.tenants.iter().filter(waits).map(of).collect()).unwrap_or_default();
        fair_share(all, waiting).max(1)
    }
}

/// What each of them gets at most, so that all of it is used and nobody gets less than another who has no more waiting.
fn fair_share(all: u64, mut waiting: Vec<u64>) -> u64 {
    waiting.sort_unstable();
    let (mut left, mut heads) = (all, u64::try_from(waiting.len()).unwrap_or(u64::MAX));
    for waits in waiting {
        let share = left / heads;
        if waits > share {
            return share;
        }
        (left, heads) = (left - waits, heads - 1);
    }
    // There is enough for everybody.
    all
}

fn time_for(count: u64, per_minute: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(60_000) / per_minute.max(1))
}

#[cfg(test)]
mod tests {
    use super::fair_share;

    #[test]
    fn what_small_tenants_do_not_need_goes_to_the_others() {
        assert_eq!(fair_share(600, vec![]), 600);
        assert_eq!(fair_share(600, vec![1_000, 1_000, 1_000]), 200);
        assert_eq!(fair_share(600, vec![100_000, 1, 2, 3]), 594);
        assert_eq!(fair_share(600, vec![100_000, 50_000, 100]), 250);
        assert_eq!(fair_share(600, vec![10, 20]), 600);
    }
}
