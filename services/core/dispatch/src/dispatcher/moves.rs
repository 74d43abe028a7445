//! Moving to tiers what would wait longer than a minute in the index, or finds no room in it. Waiting for our own limits is
//! not an attempt. A lane's envelopes are moved a few at a time, the urgent ones first.

use std::collections::VecDeque;

use postrider_model::{Class, Move, Outcome, Tier, Timestamp, WaitReason};

use super::index::Stage;
use super::lane::{LaneId, PathId, Wait};
use super::{Action, Dispatcher, Plan, Ticket};
use crate::retry;

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

/// Moves that are to be made.
#[derive(Debug, Default)]
pub(super) struct Moves {
    jobs: VecDeque<Job>,
    /// Lanes of blocked paths that are not looked at yet.
    lanes: VecDeque<(LaneId, Class)>,
    /// What operators ordered, and is not begun.
    pub(super) ordered: VecDeque<(Ticket, Plan)>,
    /// Moves under way.
    pub(super) under_way: usize,
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
        if too_long && !lane.is_closed(now) {
            self.moves.jobs.push_back(Job::Shed(id));
        }
    }

    /// Moves a few more, if moves are to be made.
    pub(super) fn make_moves(&mut self) {
        self.make_ordered_moves();
        while let Some((lane, class)) = self.moves.lanes.pop_front() {
            self.move_lane_if_blocked(lane, class);
        }
        while self.moves.under_way < self.config.moves_at_once.max(1) {
            let Some(job) = self.moves.jobs.pop_front() else { return };
            let goes_on = match job {
                Job::Evacuate(lane, class) => self.evacuate_one(lane, class),
                Job::Shed(lane) => self.shed_one(lane),
            };
            match (goes_on, job) {
                (true, Job::Evacuate(_, Class::Transactional)) => self.moves.jobs.push_front(job),
                (true, _) => self.moves.jobs.push_back(job),
                (false, Job::Evacuate(lane, class)) => {
                    if let Some(lane) = self.lanes.lane_mut(lane) {
                        lane.moving[class] = false;
                    }
                }
                (false, Job::Shed(_)) => {}
            }
        }
    }

    fn evacuate_one(&mut self, id: LaneId, class: Class) -> bool {
        let Some(block) = self.long_block(id, class) else { return false };
        let quantum = self.config.quantum;
        let Some(lane) = self.lanes.lane_mut(id) else { return false };
        let Some(ticket) = lane.queues[class].pop(quantum) else { return false };
        self.left_line(id);
        if !self.move_to_tier(ticket, block.reason, block.until) {
            self.set_stage(ticket, Stage::Waiting { until: block.until, reason: block.reason });
        }
        true
    }

    fn shed_one(&mut self, id: LaneId) -> bool {
        let now = self.now;
        let Some(lane) = self.lanes.lane(id) else { return false };
        let Some(time) = lane.pace.time_for(lane.backlog(Class::Bulk), now) else { return false };
        if time <= self.config.index_wait {
            return false;
        }
        let last = |class| lane.queues[class].last();
        let Some(ticket) = last(Class::Bulk).or_else(|| last(Class::Transactional)) else { return false };
        let turn = now.after(time);
        self.move_to_turn(ticket, WaitReason::Overflow, turn, turn)
    }

    /// Settles an envelope by a move to the tier nearest its turn, which is no earlier than `turn` and than the turns promised
    /// to others of its lane before. `false`, and nothing done, if no tier ends before its expiry.
    pub(super) fn move_to_tier(&mut self, ticket: Ticket, reason: WaitReason, turn: Timestamp) -> bool {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return false };
        let Some(lane) = self.lanes.lane(held.lane) else { return false };
        let own_time = lane.pace.guess_for(u64::from(held.entry.cost()), now).unwrap_or_default();
        let turn = turn.max(lane.booked);
        self.move_to_turn(ticket, reason, turn, turn.after(own_time))
    }

    /// The same for exactly this turn. Turns up to `booked` are promised from now on.
    fn move_to_turn(&mut self, ticket: Ticket, reason: WaitReason, turn: Timestamp, booked: Timestamp) -> bool {
        let (now, delays) = (self.now, self.config.tier_delays);
        let Some(held) = self.index.get(ticket) else { return false };
        let (lane, expiry) = (held.lane, held.entry.expiry);
        let Some(tier) = retry::tier_nearest(turn, LONGEST_OVERFLOW, now, expiry, &delays) else { return false };
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
        self.moves.under_way += 1;
        self.settle(ticket, Plan { attempted: false, outcomes, next }, Stage::Settling { until, reason });
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
