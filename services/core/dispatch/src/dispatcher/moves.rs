//! Moving to tiers what would wait longer than a minute in the index, or finds no room in it. Waiting for our own limits is
//! not an attempt. A lane's envelopes are moved a few at a time, the urgent ones first.

use std::collections::VecDeque;
use std::time::Duration;

use postrider_model::{Class, Move, Outcome, Tier, Timestamp, WaitReason};

use super::index::Stage;
use super::lane::{LaneId, PathId, Wait};
use super::{Action, Dispatcher, Plan, Ticket};
use crate::retry::{self, FullTiers, with_room};

/// Overflow uses no longer tier than this.
const LONGEST_OVERFLOW: Tier = Tier::H1;

/// What is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// Everything of a class in a lane, as long as that is blocked for long.
    Evacuate(LaneId, Class),
    /// The last ones of a lane, as long as they would wait for long.
    Shed(LaneId),
}

/// Moves that are to be made. Where they go has a bounded number of slots: what one stream does not take holds up nothing that
/// goes to another.
#[derive(Debug, Default)]
pub(super) struct Moves {
    jobs: VecDeque<Job>,
    /// Lanes of blocked paths that are not looked at yet.
    lanes: VecDeque<(LaneId, Class)>,
    /// Tiers that take no more.
    pub(super) full: FullTiers,
    /// HOLD takes no more.
    pub(super) hold_is_full: bool,
    slots: [Slots; Tier::ALL.len() + 2],
}

/// A stream that envelopes are moved to: a tier, HOLD, or for all other moves the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u8);

/// The slot of moves to HOLD.
const HOLD: Slot = Slot(5);
/// The slot of all other moves that go to no tier.
const ELSEWHERE: Slot = Slot(6);

impl Slot {
    fn index(self) -> usize {
        self.0.into()
    }
}

impl From<Tier> for Slot {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::M1 => Self(0),
            Tier::M5 => Self(1),
            Tier::M15 => Self(2),
            Tier::H1 => Self(3),
            Tier::H4 => Self(4),
        }
    }
}

impl From<&Move> for Slot {
    fn from(next: &Move) -> Self {
        match next {
            Move::Tier { tier, .. } => (*tier).into(),
            Move::Hold { .. } => HOLD,
            Move::Finished | Move::Site { .. } | Move::Dead { .. } => ELSEWHERE,
        }
    }
}

/// The moves to one stream.
#[derive(Debug, Default)]
struct Slots {
    /// Under way.
    taken: usize,
    /// What operators ordered, and is not begun.
    ordered: VecDeque<(Ticket, Plan)>,
    /// Jobs whose next move waits for one of these.
    parked: VecDeque<Job>,
}

/// How it stands with a job.
enum Went {
    /// There is more to do.
    On,
    /// It is done.
    Over,
    /// It waits for a slot.
    Parked(Slot),
}

impl Moves {
    /// An operator has ordered a move.
    pub(super) fn order(&mut self, ticket: Ticket, plan: Plan) {
        let slot = Slot::from(&plan.next);
        self.slots[slot.index()].ordered.push_back((ticket, plan));
    }

    /// The next ordered move for which there is a slot.
    pub(super) fn next_ordered(&mut self, most: usize) -> Option<(Ticket, Plan, Slot)> {
        let mut free = self.slots.iter_mut().filter(|slots| slots.taken < most.max(1));
        let (ticket, plan) = free.find_map(|slots| slots.ordered.pop_front())?;
        let slot = Slot::from(&plan.next);
        Some((ticket, plan, slot))
    }

    /// A move is under way.
    pub(super) fn begun(&mut self, slot: Slot) {
        self.slots[slot.index()].taken += 1;
    }

    /// A move is over, or forgotten.
    pub(super) fn ended(&mut self, slot: Slot) {
        let slots = &mut self.slots[slot.index()];
        slots.taken -= 1;
        self.jobs.extend(slots.parked.pop_front());
    }

    /// How many are under way.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.slots.iter().map(|slots| slots.taken).sum()
    }
}

impl Dispatcher {
    /// What keeps a lane's envelopes of a class from going, if it lasts longer than they may wait in the index.
    pub(super) fn long_block(&self, lane: LaneId, class: Class) -> Option<Wait> {
        let latest = self.now.after(self.config.index_wait);
        self.blocks(lane, class, self.now).filter(|wait| wait.until > latest).max_by_key(|wait| wait.until)
    }

    /// Everything that keeps a lane's envelopes of a class from going at a time.
    pub(super) fn blocks(&self, lane: LaneId, class: Class, now: Timestamp) -> impl Iterator<Item = Wait> + use<> {
        let both = self.lanes.both(lane);
        let closed =
            both.and_then(|(lane, _)| lane.closed_until).map(|until| Wait { until, reason: WaitReason::SiteClosed });
        let suspended = both
            .and_then(|(_, path)| self.lanes.suspended_until(&path.path.source, now))
            .map(|until| Wait { until, reason: WaitReason::SourceUnavailable });
        let told = both.and_then(|(_, path)| path.wait[class]);
        [closed, suspended, told].into_iter().flatten().filter(move |wait| wait.until > now)
    }

    /// A limit owner said "not now" for a path: if that lasts long, its lanes are to be moved.
    pub(super) fn move_path_if_blocked(&mut self, id: PathId, class: Class) {
        let latest = self.now.after(self.config.index_wait);
        let Some(path) = self.lanes.path(id) else { return };
        if path.wait[class].is_some_and(|wait| wait.until > latest) {
            self.moves.lanes.extend(path.lanes.values().map(|&lane| (lane, class)));
        }
    }

    /// If a lane is blocked for long, its envelopes are to be moved.
    pub(super) fn move_lane_if_blocked(&mut self, id: LaneId, class: Class) {
        let blocked = self.long_block(id, class).is_some();
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if blocked && lane.queues[class].len() > 0 && !lane.moving[class] {
            lane.moving[class] = true;
            self.moves.jobs.push_back(Job::Evacuate(id, class));
        }
    }

    /// Looks at a lane for what would wait too long.
    pub(super) fn review_lane(&mut self, id: LaneId) {
        let now = self.now;
        let (review, patience) = (self.config.index_wait / 2, self.config.index_wait * 2);
        let Some(lane) = self.lanes.lane_mut(id) else { return };
        if lane.review_at.is_none_or(|at| at > now) {
            return;
        }
        lane.review_at = (!lane.is_empty()).then(|| now.after(review));
        let too_long = lane.pace.time_for(lane.backlog(Class::Bulk), now).is_some_and(|time| time > patience);
        if too_long && !lane.is_closed(now) && !lane.shedding {
            lane.shedding = true;
            self.moves.jobs.push_back(Job::Shed(id));
        }
    }

    /// Moves a few more, if moves are to be made.
    pub(super) fn make_moves(&mut self) {
        self.make_ordered_moves();
        while let Some((lane, class)) = self.moves.lanes.pop_front() {
            self.move_lane_if_blocked(lane, class);
        }
        while let Some(job) = self.moves.jobs.pop_front() {
            let went = match job {
                Job::Evacuate(lane, class) => self.evacuate_one(lane, class),
                Job::Shed(lane) => self.shed_one(lane),
            };
            match (went, job) {
                (Went::Parked(slot), _) => self.moves.slots[slot.index()].parked.push_back(job),
                (Went::On, Job::Evacuate(_, Class::Transactional)) => self.moves.jobs.push_front(job),
                (Went::On, _) => self.moves.jobs.push_back(job),
                (Went::Over, Job::Evacuate(lane, class)) => {
                    if let Some(lane) = self.lanes.lane_mut(lane) {
                        lane.moving[class] = false;
                    }
                }
                (Went::Over, Job::Shed(lane)) => {
                    if let Some(lane) = self.lanes.lane_mut(lane) {
                        lane.shedding = false;
                    }
                }
            }
        }
    }

    /// Which tiers take no more, from now on. What waits for a slot may find another.
    pub fn set_full_tiers(&mut self, full: FullTiers) {
        if self.moves.full == full {
            return;
        }
        self.moves.full = full;
        let parked: Vec<Job> = self.moves.slots.iter_mut().flat_map(|slots| slots.parked.drain(..)).collect();
        self.moves.jobs.extend(parked);
    }

    /// Whether HOLD takes no more, from now on. What was ordered there and is not begun waits in a tier instead, as what is ordered
    /// from now on is to.
    pub fn set_hold_is_full(&mut self, full: bool) {
        if std::mem::replace(&mut self.moves.hold_is_full, full) || !full {
            return;
        }
        for (ticket, _) in std::mem::take(&mut self.moves.slots[HOLD.index()].ordered) {
            self.park_instead(ticket);
        }
    }

    /// The slot that a move would need for a turn then, if none is free. Few envelopes expire so soon that they need another.
    fn wanting(&self, turn: Timestamp) -> Option<Slot> {
        let far = self.now.after(Duration::from_secs(10 * 86_400));
        let slot = Slot::from(self.tier_for_turn(turn, far)?);
        (self.moves.slots[slot.index()].taken >= self.config.moves_at_once.max(1)).then_some(slot)
    }

    /// The tier with room that is nearest a turn.
    fn tier_for_turn(&self, turn: Timestamp, expiry: Timestamp) -> Option<Tier> {
        let (now, delays) = (self.now, &self.config.tier_delays);
        let tier = retry::tier_nearest(turn, LONGEST_OVERFLOW, now, expiry, delays)?;
        Some(with_room(tier, LONGEST_OVERFLOW, &self.moves.full, now, expiry, delays).unwrap_or(tier))
    }

    fn evacuate_one(&mut self, id: LaneId, class: Class) -> Went {
        let Some(block) = self.long_block(id, class) else { return Went::Over };
        let quantum = self.config.quantum;
        let booked = self.lanes.lane(id).map(|lane| lane.booked).unwrap_or_default();
        if let Some(slot) = self.wanting(block.until.max(booked)) {
            return Went::Parked(slot);
        }
        let Some(lane) = self.lanes.lane_mut(id) else { return Went::Over };
        let Some(ticket) = lane.queues[class].pop(quantum) else { return Went::Over };
        self.left_line(id);
        if !self.move_to_tier(ticket, block.reason, block.until) {
            self.set_stage(ticket, Stage::Waiting { until: block.until, reason: block.reason });
        }
        Went::On
    }

    fn shed_one(&mut self, id: LaneId) -> Went {
        let now = self.now;
        let Some(lane) = self.lanes.lane(id) else { return Went::Over };
        let Some(time) = lane.pace.time_for(lane.backlog(Class::Bulk), now) else { return Went::Over };
        if time <= self.config.index_wait {
            return Went::Over;
        }
        let last = |class| lane.queues[class].last();
        let Some(ticket) = last(Class::Bulk).or_else(|| last(Class::Transactional)) else { return Went::Over };
        let turn = now.after(time);
        if let Some(slot) = self.wanting(turn) {
            return Went::Parked(slot);
        }
        if self.move_to_turn(ticket, WaitReason::Overflow, turn, turn) { Went::On } else { Went::Over }
    }

    /// Settles an envelope by a move to the tier nearest its turn, which is no earlier than `turn` and than the turns promised
    /// to others of its lane before. `false`, and nothing done, if no tier ends before its expiry.
    pub(super) fn move_to_tier(&mut self, ticket: Ticket, reason: WaitReason, turn: Timestamp) -> bool {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return false };
        let Some(lane) = self.lanes.lane(held.lane) else { return false };
        let own_time = lane.pace.guess_for(u64::from(held.entry.cost()), now).unwrap_or_default();
        // Who has little waiting does not stand behind all that was promised to a crowd.
        let booked = if self.has_little(&held.entry) { turn } else { turn.max(lane.booked) };
        self.move_to_turn(ticket, reason, booked, booked.after(own_time))
    }

    /// The same for exactly this turn. Turns up to `booked` are promised from now on.
    fn move_to_turn(&mut self, ticket: Ticket, reason: WaitReason, turn: Timestamp, booked: Timestamp) -> bool {
        let (now, delays) = (self.now, self.config.tier_delays);
        let Some(held) = self.index.get(ticket) else { return false };
        let (lane, expiry) = (held.lane, held.entry.expiry);
        let Some(tier) = self.tier_for_turn(turn, expiry) else { return false };
        if let Some(lane) = self.lanes.lane_mut(lane) {
            lane.booked = booked.max(lane.booked).min(now.after(delays.of(LONGEST_OVERFLOW)));
        }
        self.settle_by_move(ticket, tier, reason);
        true
    }

    /// Settles an envelope by a move to this tier.
    pub(super) fn settle_by_move(&mut self, ticket: Ticket, tier: Tier, reason: WaitReason) {
        let until = self.now.after(self.config.tier_delays.of(tier));
        let Some(held) = self.index.get(ticket) else { return };
        let entry = &held.entry;
        if reason != WaitReason::NotBefore {
            let hot_from = self.jam_from() / 2;
            self.jams.moved(entry.shard, &entry.site, &entry.tenant, hot_from, self.now);
        }
        let next = Move::Tier {
            tier,
            reason,
            until,
            attempt: entry.attempt,
            pending: entry.pending.to_vec(),
            last_reply: None,
        };
        let outcomes = entry.pending.iter().map(|&index| (index, Outcome::Moved, None)).collect();
        let slot = Slot::from(tier);
        self.moves.begun(slot);
        let stage = Stage::Settling { until, reason, slot: Some(slot) };
        self.settle(ticket, Plan { attempted: false, outcomes, next }, stage);
    }

    /// Gives an envelope's plan to the shell. Until that says it is settled, it stays in the index.
    pub(super) fn settle(&mut self, ticket: Ticket, plan: Plan, stage: Stage) {
        self.take_out(ticket);
        self.set_stage(ticket, stage);
        self.actions.push_back(Action::Settle { ticket, plan });
    }

    /// An envelope is settled.
    pub(super) fn settled(&mut self, ticket: Ticket) {
        if matches!(self.index.get(ticket).map(|held| held.stage), Some(Stage::Settling { .. })) {
            self.remove(ticket);
        }
    }
}
