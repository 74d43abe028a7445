//! Lanes, paths and sources. A lane is (source, exchange): within it connections are reused, and it is what closes when its
//! exchangers fail. Lanes to one site from one source share a path, whose limits they ask for. Only holds and counts;
//! what follows from it is decided elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use postrider_model::{Class, SiteName, TenantId, TenantWeight, Timestamp, WaitReason};

use super::conversation::{Talk, TalkStage};
use super::kept::Kept;
use super::pace::Pace;
use super::per_class::PerClass;
use super::queue::FairQueue;
use super::turns::Turns;
use super::{Conversation, DispatcherConfig, Entry, Exchange, Path, Source};

/// So many envelopes in a row that were put off are the site's doing.
const PUTS_ALL_OFF: u32 = 20;

/// For so long that is remembered of a lane of which nothing is left: until what waits an hour comes again.
const PUT_OFF_REMEMBERED: Duration = Duration::from_secs(2 * 3_600);

/// Names a lane. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(pub(super) u64);

/// Names a path. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathId(pub(super) u64);

/// The ready envelopes of one (source, exchange), and its conversations.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) path: PathId,
    pub(super) exchange: Exchange,
    pub(super) queues: PerClass<FairQueue>,
    /// Envelopes of this lane in the index, at any stage.
    pub(super) entries: usize,
    /// Conversations at any stage, those being closed too.
    pub(super) conversations: usize,
    /// Conversations being opened, by the class they were asked for.
    pub(super) opening: PerClass<usize>,
    /// Those among them that have a ticket.
    pub(super) opening_with_ticket: BTreeSet<Conversation>,
    /// Conversations that are greeted and not being closed.
    pub(super) established: usize,
    /// Those among them that have nothing to do, by the class of their permits.
    pub(super) idle: PerClass<BTreeSet<Conversation>>,
    /// Left alone until then.
    pub(super) closed_until: Option<Timestamp>,
    /// When it was closed last.
    pub(super) closed_at: Timestamp,
    /// Closures in a row.
    pub(super) failures: u32,
    /// Envelopes in a row of which every recipient was put off.
    pub(super) put_off: u32,
    /// When the last of them was.
    pub(super) put_off_at: Timestamp,
    /// No more conversations than this until then: one more was refused.
    pub(super) ceiling: Option<(usize, Timestamp)>,
    pub(super) pace: Pace,
    /// Turns up to here are promised to envelopes that were moved to tiers.
    pub(super) booked: Timestamp,
    /// When its queues are looked at for what waits too long.
    pub(super) review_at: Option<Timestamp>,
    /// Whether something of it is to be moved.
    pub(super) moving: PerClass<bool>,
    /// Whether what would wait too long is being moved.
    pub(super) shedding: bool,
}

impl Lane {
    /// Whether one more conversation should be opened for what is ready of a class: one at a time for each so many ready
    /// messages, and not more at a time than are established (1, 2, 4, ...).
    pub(super) fn wants(&self, class: Class, config: &DispatcherConfig, now: Timestamp) -> bool {
        let ready = self.queues[class].len();
        let opening = self.opening[class];
        let established = self.established;
        let all = established + self.opening[Class::Transactional] + self.opening[Class::Bulk];
        ready > 0
            && !self.is_closed(now)
            && opening < ready.div_ceil(config.messages_per_opening.max(1))
            && opening < established.max(1)
            && self.ceiling.is_none_or(|(most, until)| until <= now || all < most)
    }

    /// Notes what became of an envelope: whether the exchanger took something, or refused it for good.
    pub(super) fn tried(&mut self, useful: bool, now: Timestamp) {
        self.put_off = if useful { 0 } else { self.put_off.saturating_add(1) };
        self.put_off_at = now;
    }

    /// Whether it puts off whatever comes: then that says nothing about a recipient.
    pub(super) fn puts_all_off(&self) -> bool {
        self.put_off >= PUTS_ALL_OFF
    }

    /// Until when it is remembered though nothing of it is left: so that closures in a row are counted, and what it puts off.
    pub(super) fn remembered_until(&self, closure: Duration) -> Option<Timestamp> {
        let closed = self.closed_until.map(|until| until.after(closure));
        closed.max(self.puts_all_off().then(|| self.put_off_at.after(PUT_OFF_REMEMBERED)))
    }

    /// Whether its exchangers are left alone.
    pub(super) fn is_closed(&self, now: Timestamp) -> bool {
        self.closed_until.is_some_and(|until| until > now)
    }

    /// What is ready before a newcomer of this class, all tenants together.
    pub(super) fn backlog(&self, class: Class) -> u64 {
        let urgent = self.queues[Class::Transactional].cost();
        match class {
            Class::Transactional => urgent,
            Class::Bulk => urgent + self.queues[Class::Bulk].cost(),
        }
    }

    /// What is ready before a newcomer, if tenants get equal shares.
    pub(super) fn before(&self, entry: &Kept) -> u64 {
        let own = self.queues[entry.class].cost_before(&entry.tenant);
        match entry.class {
            Class::Transactional => own,
            Class::Bulk => own + self.queues[Class::Transactional].cost(),
        }
    }

    /// Whether nothing is ready.
    pub(super) fn is_empty(&self) -> bool {
        Class::ALL.iter().all(|&class| self.queues[class].len() == 0)
    }

    /// A conversation with nothing to do that may carry this class.
    pub(super) fn idle_for(&self, class: Class) -> Option<Conversation> {
        let shared = self.idle[Class::Bulk].first();
        let reserved = self.idle[Class::Transactional].first().filter(|_| class == Class::Transactional);
        shared.or(reserved).copied()
    }

    /// Counts a conversation at its present stage.
    pub(super) fn count(&mut self, id: Conversation, talk: &Talk) {
        match talk.stage {
            TalkStage::Opening(ticket) => {
                self.opening[talk.asked] += 1;
                if ticket.is_some() {
                    self.opening_with_ticket.insert(id);
                }
            }
            TalkStage::Idle { .. } => {
                self.established += 1;
                if talk.is_free() {
                    self.idle[talk.permit.class].insert(id);
                }
            }
            TalkStage::Reading(_) | TalkStage::Busy(_) => self.established += 1,
            TalkStage::Closing => {}
        }
    }

    /// Undoes [`Lane::count`], before the stage changes.
    pub(super) fn uncount(&mut self, id: Conversation, talk: &Talk) {
        match talk.stage {
            TalkStage::Opening(_) => {
                self.opening[talk.asked] -= 1;
                self.opening_with_ticket.remove(&id);
            }
            TalkStage::Idle { .. } => {
                self.established -= 1;
                self.idle[talk.permit.class].remove(&id);
            }
            TalkStage::Reading(_) | TalkStage::Busy(_) => self.established -= 1,
            TalkStage::Closing => {}
        }
    }
}

/// A limit owner's "not now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) until: Timestamp,
    pub(super) reason: WaitReason,
}

/// A path as its limit owner knows it.
#[derive(Debug)]
pub(super) struct PathState {
    pub(super) path: Path,
    pub(super) lanes: HashMap<Exchange, LaneId>,
    /// Since when a question for a connection is out.
    pub(super) asked: PerClass<Option<Timestamp>>,
    /// What the owner said last, if it was "not now".
    pub(super) wait: PerClass<Option<Wait>>,
    /// Lanes that want a connection, in turn; maybe some that did, and some that are forgotten.
    pub(super) wanting: PerClass<Turns<LaneId>>,
    /// Conversations, not counting those not yet permitted.
    pub(super) conversations: u32,
    /// Those among them that are being closed.
    pub(super) closing: u32,
    /// Those among them that have nothing to do, by the class of their permits.
    pub(super) idle: PerClass<BTreeSet<Conversation>>,
}

/// A source and whether it is left alone.
#[derive(Debug, Default)]
pub(super) struct SourceState {
    pub(super) paths: BTreeSet<PathId>,
    pub(super) suspended_until: Option<Timestamp>,
    pub(super) failures: u32,
}

/// All lanes, paths and sources in use.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneId, Box<Lane>>,
    paths: HashMap<PathId, Box<PathState>>,
    sources: HashMap<Source, SourceState>,
    path_ids: HashMap<Path, PathId>,
    last_id: u64,
}

impl Lanes {
    /// The lane of an envelope, made if it is the first.
    pub(super) fn of(&mut self, entry: &Entry) -> LaneId {
        let path = entry.path();
        let path_id = match self.path_ids.get(&path) {
            Some(&id) => id,
            None => self.new_path(path),
        };
        let found = self.paths.get(&path_id).and_then(|path| path.lanes.get(&entry.exchange)).copied();
        found.unwrap_or_else(|| self.new_lane(path_id, entry.exchange.clone()))
    }

    pub(super) fn lane(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(&id).map(Box::as_ref)
    }

    pub(super) fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(&id).map(Box::as_mut)
    }

    pub(super) fn path(&self, id: PathId) -> Option<&PathState> {
        self.paths.get(&id).map(Box::as_ref)
    }

    pub(super) fn path_mut(&mut self, id: PathId) -> Option<&mut PathState> {
        self.paths.get_mut(&id).map(Box::as_mut)
    }

    /// The weights are others from now on.
    pub(super) fn set_weights(&mut self, weights: &HashMap<TenantId, TenantWeight>) {
        for lane in self.lanes.values_mut() {
            for class in Class::ALL {
                lane.queues[class].set_weights(weights);
            }
        }
    }

    /// A lane and its path.
    pub(super) fn both(&self, id: LaneId) -> Option<(&Lane, &PathState)> {
        let lane = self.lanes.get(&id)?;
        Some((lane, self.paths.get(&lane.path)?))
    }

    /// A lane and its path, to be changed.
    pub(super) fn both_mut(&mut self, id: LaneId) -> Option<(&mut Lane, &mut PathState)> {
        let lane = self.lanes.get_mut(&id)?;
        let path = self.paths.get_mut(&lane.path)?;
        Some((lane, path))
    }

    pub(super) fn source_mut(&mut self, source: &Source) -> Option<&mut SourceState> {
        self.sources.get_mut(source)
    }

    /// The lanes to a site, from whatever source.
    pub(super) fn of_site(&self, site: &SiteName) -> impl Iterator<Item = LaneId> {
        let paths = self.sources.keys().filter_map(move |source| {
            let path = Path { source: source.clone(), site: site.clone() };
            self.paths.get(self.path_ids.get(&path)?)
        });
        paths.flat_map(|path| path.lanes.values().copied())
    }

    /// Until when a source is left alone.
    pub(super) fn suspended_until(&self, source: &Source, now: Timestamp) -> Option<Timestamp> {
        self.sources.get(source)?.suspended_until.filter(|&until| until > now)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.lanes.iter().map(|(id, lane)| (*id, lane.as_ref()))
    }

    /// Forgets a lane that holds nothing, and its path and source if they have no other.
    pub(super) fn forget(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.remove(&id) else { return };
        if let Some(path) = self.paths.get_mut(&lane.path) {
            path.lanes.remove(&lane.exchange);
        }
        self.forget_path_if_unused(lane.path);
    }

    /// Forgets a path without lanes, of which nothing is asked.
    pub(super) fn forget_path_if_unused(&mut self, id: PathId) {
        let asked = |path: &PathState| Class::ALL.iter().any(|&class| path.asked[class].is_some());
        if self.paths.get(&id).is_none_or(|path| !path.lanes.is_empty() || asked(path)) {
            return;
        }
        let Some(path) = self.paths.remove(&id) else { return };
        self.path_ids.remove(&path.path);
        if let Some(source) = self.sources.get_mut(&path.path.source) {
            source.paths.remove(&id);
        }
        self.forget_source_if_unused(&path.path.source);
    }

    /// Forgets a source without paths, unless it is left alone.
    pub(super) fn forget_source_if_unused(&mut self, source: &Source) {
        if self.sources.get(source).is_some_and(|state| state.paths.is_empty() && state.suspended_until.is_none()) {
            self.sources.remove(source);
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn new_path(&mut self, path: Path) -> PathId {
        let id = PathId(self.next_id());
        self.sources.entry(path.source.clone()).or_default().paths.insert(id);
        self.path_ids.insert(path.clone(), id);
        let state = PathState {
            path,
            lanes: HashMap::new(),
            asked: PerClass::default(),
            wait: PerClass::default(),
            wanting: PerClass::default(),
            conversations: 0,
            closing: 0,
            idle: PerClass::default(),
        };
        self.paths.insert(id, Box::new(state));
        id
    }

    fn new_lane(&mut self, path: PathId, exchange: Exchange) -> LaneId {
        let id = LaneId(self.next_id());
        if let Some(path) = self.paths.get_mut(&path) {
            path.lanes.insert(exchange.clone(), id);
        }
        let lane = Lane {
            path,
            exchange,
            queues: PerClass::default(),
            entries: 0,
            conversations: 0,
            opening: PerClass::default(),
            opening_with_ticket: BTreeSet::new(),
            established: 0,
            idle: PerClass::default(),
            closed_until: None,
            closed_at: Timestamp::default(),
            failures: 0,
            put_off: 0,
            put_off_at: Timestamp::default(),
            ceiling: None,
            pace: Pace::default(),
            booked: Timestamp::default(),
            review_at: None,
            moving: PerClass::default(),
            shedding: false,
        };
        self.lanes.insert(id, Box::new(lane));
        id
    }
}
