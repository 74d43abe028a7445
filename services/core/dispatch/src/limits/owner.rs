//! Gives out permits so that no limit of a path is ever exceeded. It does not know who asks: who must wait leaves a *claim*,
//! and those with a weaker one leave room for it.
//!
//! Permits live ten seconds at most and are renewed; what is neither renewed nor released counts until its end. On a path
//! with a message rate a permit also says how many recipients may be named at MAIL, in small portions (a twentieth of the
//! limit) that live a fortieth of its window: see [`Window`] for why that keeps the limit exact and nearly all of it usable.
//! Where a portion would not outlive the opening of a connection, the first permit carries none and is renewed when the
//! connection stands. And where portions end before the asker has begun anything with them, because he is far away or busy, each
//! lives four times as long as the one before: the limit stays exact, only less of it is usable.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use postrider_model::{Class, Timestamp, WaitReason};

use super::claim::{ConnectionClaim, RateClaim};
use super::window::Window;
use super::{Ask, Grant, Path, PathLimits, Permit, PermitId, Rate, Shaping};

/// The longest a permit lives without a renewal.
pub const LONGEST_PERMIT: Duration = Duration::from_secs(10);
/// The shortest life of a portion of a rate: what a question to another process may take.
const SHORTEST_PORTION: Duration = Duration::from_millis(20);
/// Portions that live shorter than this are not given to connections that are still to be opened.
const OPENING: Duration = Duration::from_secs(5);
/// Portions that end too soon for the asker are not made to live longer than this: more than he waits for an answer.
const LONGEST_STRETCHED: Duration = Duration::from_secs(5);
/// Nobody keeps a claim for longer. A part that would have to wait longer for all of its recipients gets what there is.
const LONGEST_CLAIM: Duration = Duration::from_secs(60);
/// What a backlog gets at a time of the last twentieth of a rate: the limit's even pace for so long.
const SPREAD_STEP: Duration = Duration::from_millis(10);
/// The shortest window of which the last twentieth is spread.
const SPREAD_FROM: Duration = Duration::from_secs(60);
/// After how long to ask again for a connection: they come free without a moment that is known before.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Gives out permits for the paths whose limits it owns: one for each limit shard that this process owns.
#[derive(Debug)]
pub struct LimitOwner {
    shaping: Shaping,
    epoch: u64,
    since: Timestamp,
    last_number: u64,
    permits: HashMap<PermitId, Issued>,
    ends: BTreeSet<(Timestamp, PermitId)>,
    paths: HashMap<Path, Use>,
    /// Every path of `paths` once: two are looked at in each call, so that idle ones are forgotten.
    rounds: VecDeque<Path>,
}

/// A permit that is out.
#[derive(Debug)]
struct Issued {
    path: Path,
    /// Which share of the connections it is counted in.
    class: Class,
    until: Timestamp,
    /// Recipients granted so far, and how many of them are known to be used or taken back.
    portion: Option<Portion>,
    used: u32,
    /// How often its portions ended before anything was begun with them: each time the next lives four times as long.
    late: u32,
}

/// Recipients that were granted and not yet accounted for.
#[derive(Clone, Copy, Debug)]
struct Portion {
    messages: u32,
    until: Timestamp,
    rate: Rate,
}

/// What is used of a path's limits.
#[derive(Debug, Default)]
struct Use {
    /// Connections that anybody may have.
    common: u32,
    /// Connections of the share of transactional mail.
    reserved: u32,
    window: Window,
    /// Nothing of the last twentieth of the rate for a backlog before.
    spread_until: Timestamp,
    connection_claim: Option<ConnectionClaim>,
    rate_claim: Option<RateClaim>,
}

impl LimitOwner {
    /// An owner that begins now, in the given epoch of its shard's lease. Of what the owner before it gave out it knows
    /// nothing: it takes every rate as used up evenly until now. Permits of the owner before must have ended: `now` is no
    /// earlier than that owner's fence.
    pub fn new(shaping: Shaping, epoch: u64, now: Timestamp) -> Self {
        Self {
            shaping,
            epoch,
            since: now,
            last_number: since_number(now),
            permits: HashMap::new(),
            ends: BTreeSet::new(),
            paths: HashMap::new(),
            rounds: VecDeque::new(),
        }
    }

    /// Connections of a path that are permitted now.
    pub fn connections(&self, path: &Path) -> u32 {
        self.paths.get(path).map_or(0, |used| used.common + used.reserved)
    }

    /// Paths that are remembered.
    #[cfg(test)]
    pub(super) fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Asks for one connection and some messages over it. No permit lives beyond `fence_until` (the last renewal of this
    /// process's membership plus its TTL), so that a successor that waited for it finds none alive.
    pub fn acquire(&mut self, ask: &Ask, now: Timestamp, fence_until: Timestamp) -> Grant {
        self.tidy(now);
        let until = now.after(LONGEST_PERMIT).min(fence_until);
        if until <= now {
            return Grant::Wait { until: now.after(ASK_AGAIN), reason: WaitReason::LimitOwner };
        }
        let limits = *self.shaping.of(&ask.path.site);
        let used = match self.paths.get_mut(&ask.path) {
            Some(used) => used,
            None => {
                self.rounds.push_back(ask.path.clone());
                self.paths.entry(ask.path.clone()).or_default()
            }
        };
        let Some(class) = used.connection(ask, &limits, now) else {
            return Grant::Wait { until: now.after(ASK_AGAIN), reason: WaitReason::ConnectionLimit };
        };
        let portion = match limits.message_rate {
            None => None,
            Some(rate) => match used.portion(ask, (rate, 0), self.since, now, until) {
                Ok(portion) if portion_life(rate, 0) < OPENING => Some(Portion { messages: 0, until: now, ..portion }),
                Ok(portion) => Some(portion),
                Err(until) => return Grant::Wait { until, reason: WaitReason::RateLimit },
            },
        };
        match class {
            Class::Bulk => used.common += 1,
            Class::Transactional => used.reserved += 1,
        }
        used.take(portion, ask);
        used.connection_claim.take_if(|claim| claim.is_met_by(ask));
        self.last_number += 1;
        let id = PermitId { epoch: self.epoch, number: self.last_number };
        self.ends.insert((until, id));
        self.permits.insert(id, Issued { path: ask.path.clone(), class, until, portion, used: 0, late: 0 });
        Grant::Granted(permit(id, class, until, portion, &limits))
    }

    /// Asks to keep a connection and for more messages over it. `used` counts all recipients at MAIL since the permit was
    /// acquired; what was granted and not used is taken back. A permit that is not known (its owner was another, or it
    /// ended) is acquired anew: the answer then bears another id.
    pub fn renew(&mut self, id: PermitId, used: u32, ask: &Ask, now: Timestamp, fence_until: Timestamp) -> Grant {
        self.tidy(now);
        let limits = *self.shaping.of(&ask.path.site);
        let until = now.after(LONGEST_PERMIT).min(fence_until);
        let Some(held) = self.permits.get_mut(&id).filter(|held| held.path == ask.path) else {
            return self.acquire(ask, now, fence_until);
        };
        let Some(path) = self.paths.get_mut(&ask.path) else {
            return Grant::Wait { until: now.after(ASK_AGAIN), reason: WaitReason::LimitOwner };
        };
        path.account(held, used, now);
        if until <= now {
            return Grant::Wait { until: now.after(ASK_AGAIN), reason: WaitReason::LimitOwner };
        }
        let portion = match limits.message_rate {
            None => None,
            Some(rate) if ask.messages == 0 => Some(Portion { messages: 0, until: now, rate }),
            Some(rate) => match path.portion(ask, (rate, held.late), self.since, now, until) {
                Ok(portion) => Some(portion),
                Err(until) => return Grant::Wait { until, reason: WaitReason::RateLimit },
            },
        };
        path.take(portion, ask);
        self.ends.remove(&(held.until, id));
        self.ends.insert((until, id));
        (held.until, held.portion) = (until, portion);
        Grant::Granted(permit(id, held.class, until, portion, &limits))
    }

    /// The connection ended; `used` as in [`LimitOwner::renew`]. Unknown permits are none of our business.
    pub fn release(&mut self, id: PermitId, used: u32, now: Timestamp) {
        self.tidy(now);
        let Some(mut held) = self.permits.remove(&id) else { return };
        self.ends.remove(&(held.until, id));
        if let Some(path) = self.paths.get_mut(&held.path) {
            path.account(&mut held, used, now);
            path.disconnect(held.class);
        }
    }

    /// Ends the permits whose time is over, and forgets paths that nobody uses.
    fn tidy(&mut self, now: Timestamp) {
        while let Some(&(until, id)) = self.ends.first().filter(|(until, _)| *until <= now) {
            self.ends.remove(&(until, id));
            if let Some(held) = self.permits.remove(&id)
                && let Some(path) = self.paths.get_mut(&held.path)
            {
                path.disconnect(held.class);
            }
        }
        for _ in 0..2 {
            let Some(path) = self.rounds.pop_front() else { return };
            if self.paths.get_mut(&path).is_some_and(|used| used.is_idle(now)) {
                self.paths.remove(&path);
            } else {
                self.rounds.push_back(path);
            }
        }
    }
}

impl Use {
    /// The share a new connection would be counted in; `None` if there is none free.
    fn connection(&mut self, ask: &Ask, limits: &PathLimits, now: Timestamp) -> Option<Class> {
        let all = limits.connections.max(1);
        let open_to_all = all - limits.reserved_connections().min(all - 1);
        let free = all.saturating_sub(self.common + self.reserved);
        let free_to_all = open_to_all.saturating_sub(self.common).min(free);
        self.connection_claim.take_if(|claim| claim.until <= now);
        let kept = self.connection_claim.as_ref().map_or(0, |claim| claim.kept_from(ask));
        let class = match ask.class {
            _ if free_to_all > kept => Some(Class::Bulk),
            Class::Transactional if free > kept => Some(Class::Transactional),
            Class::Transactional | Class::Bulk => None,
        };
        if class.is_none() {
            ConnectionClaim::leave(&mut self.connection_claim, ask, now.after(2 * ASK_AGAIN));
        }
        class
    }

    /// A portion of the rate, for an asker who was late so often; or when there is one.
    fn portion(
        &mut self,
        ask: &Ask,
        (rate, late): (Rate, u32),
        since: Timestamp,
        now: Timestamp,
        permit_until: Timestamp,
    ) -> Result<Portion, Timestamp> {
        let least = ask.least.max(1).min(rate.count());
        self.rate_claim.take_if(|claim| claim.until <= now);
        let kept = self.rate_claim.as_ref().map_or(0, |claim| claim.kept_from(ask));
        let available = self.window.available(rate, since, now).saturating_sub(u64::from(kept));
        if available < u64::from(least) {
            let needed = u64::from(least) + u64::from(kept);
            let mut until = self.window.available_at(needed, rate, since, now);
            if let Some(claim) = self.rate_claim.as_ref().filter(|_| kept > 0) {
                until = until.min(claim.until);
            }
            if until <= now.after(LONGEST_CLAIM) {
                let until = until.max(now.after(Duration::from_millis(1)));
                RateClaim::leave(&mut self.rate_claim, ask, least, until.after(2 * ASK_AGAIN));
                return Err(until);
            }
            if available == 0 {
                let soonest = self.window.available_at(1 + u64::from(kept), rate, since, now);
                return Err(soonest.max(now.after(Duration::from_millis(1))));
            }
        }
        let portion = match self.spread(ask, available, least, rate, since, now) {
            Some(Err(until)) => return Err(until),
            Some(Ok(step)) => step,
            None => (rate.count() / 20).max(least).min(ask.messages.max(least)),
        };
        Ok(Portion {
            messages: portion.min(u32::try_from(available).unwrap_or(u32::MAX)),
            until: now.after(portion_life(rate, late)).min(permit_until),
            rate,
        })
    }

    /// What a backlog gets of the last twentieth of a rate; or when. It is spread over the time until a twentieth is free again:
    /// what comes meanwhile finds something left, where it would wait for up to a whole window. `None` if there is more, or all
    /// that is asked for, or the mail is urgent, or the window is so short that nobody waits long.
    fn spread(
        &mut self,
        ask: &Ask,
        available: u64,
        least: u32,
        rate: Rate,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Result<u32, Timestamp>> {
        let kept = u64::from(rate.count() / 20);
        let all_fit = u64::from(ask.messages) <= available;
        if ask.class == Class::Transactional || all_fit || rate.window() < SPREAD_FROM {
            return None;
        }
        if let Some(free) = available.checked_sub(kept).filter(|&free| free >= u64::from(least)) {
            return Some(Ok(u32::try_from(free).unwrap_or(u32::MAX).min(rate.count() / 20).max(least)));
        }
        if self.spread_until > now {
            return Some(Err(self.spread_until));
        }
        let pace = u128::from(rate.count()) * SPREAD_STEP.as_millis() / rate.window().as_millis();
        let step = u32::try_from(pace).unwrap_or(u32::MAX).max(least);
        let free_again = self.window.available_at(kept, rate, since, now).since(now).as_millis();
        let millis = free_again * u128::from(step) / u128::from(available.max(1));
        self.spread_until = now.after(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        Some(Ok(step))
    }

    /// Charges a portion that is given out.
    fn take(&mut self, portion: Option<Portion>, ask: &Ask) {
        if let Some(Portion { messages, until, rate }) = portion.filter(|portion| portion.messages > 0) {
            self.window.charge(messages, until, rate);
            self.rate_claim.take_if(|claim| claim.is_met_by(ask, messages));
        }
    }

    /// Takes note of what was used of a permit, and takes the rest back.
    fn account(&mut self, held: &mut Issued, used: u32, now: Timestamp) {
        let newly_used = used.saturating_sub(held.used);
        held.used = held.used.max(used);
        if let Some(Portion { messages, until, rate }) = held.portion.take() {
            if messages > 0 && newly_used == 0 && until <= now {
                held.late = held.late.saturating_add(1);
            }
            self.window.settle(messages, newly_used, until, rate, now);
        }
    }

    fn disconnect(&mut self, class: Class) {
        match class {
            Class::Bulk => self.common = self.common.saturating_sub(1),
            Class::Transactional => self.reserved = self.reserved.saturating_sub(1),
        }
    }

    fn is_idle(&mut self, now: Timestamp) -> bool {
        let claimed = self.connection_claim.as_ref().is_some_and(|claim| claim.until > now)
            || self.rate_claim.as_ref().is_some_and(|claim| claim.until > now);
        !claimed && self.common + self.reserved == 0 && self.window.is_empty(now)
    }
}

/// Permits are counted from here on by an owner that begins now. Should two owners of a limit ever have the same epoch, because
/// their lease was tampered with, they still give no two permits the same name.
fn since_number(now: Timestamp) -> u64 {
    now.as_millis().saturating_mul(1 << 20)
}

/// How long a portion of a rate may be used by one for whom so many ended too soon.
fn portion_life(rate: Rate, late: u32) -> Duration {
    let life = (rate.window() / 40).clamp(SHORTEST_PORTION, LONGEST_PERMIT);
    life.saturating_mul(4u32.saturating_pow(late)).min(life.max(LONGEST_STRETCHED))
}

fn permit(id: PermitId, class: Class, until: Timestamp, portion: Option<Portion>, limits: &PathLimits) -> Permit {
    Permit {
        id,
        class,
        until,
        messages: portion.map_or(Permit::UNLIMITED, |portion| portion.messages),
        messages_until: portion.map_or(until, |portion| portion.until),
        messages_per_connection: limits.messages_per_connection.max(1),
    }
}
