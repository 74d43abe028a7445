//! An envelope arrives: it stands in line, waits for its time, or moves on at once because its exchange is closed, because
//! there is no room, or because its turn is far off.

use postrider_model::{Timestamp, WaitReason};

use super::bodies::Body;
use super::index::{Indexed, Room, Stage};
use super::jams::ShardJams;
use super::kept::Kept;
use super::lane::Lane;
use super::{Action, Dispatcher, Entry, Ticket};
use crate::retry::{self, with_room};
use crate::rules::Order;

/// While READY is long, a tenant has in the index what its site drains within so many seconds.
const SOON_SECS: u64 = 5;

impl Dispatcher {
    /// An envelope was pulled, and maybe something is ordered about it.
    pub(super) fn arrived(&mut self, entry: Entry, order: Option<&Order>) {
        let ticket = entry.ticket;
        let room = self.index.room_for(&entry, &self.config);
        self.jams.arrived(entry.shard, &entry.site, &entry.tenant, self.now);
        if room == Room::Closed || self.index.holds(&entry) {
            self.actions.push_back(Action::HandBack(ticket));
            return;
        }
        let lane = self.lanes.of(&entry);
        if let Some(lane) = self.lanes.lane_mut(lane) {
            lane.entries += 1;
        }
        let stage = Stage::Waiting { until: self.now, reason: WaitReason::Queued };
        let body_held = entry.body_held;
        let entry = Kept::of(entry);
        let body = if body_held { Body::Held(entry.size_bytes) } else { Body::Absent };
        let held = Indexed { entry, lane, stage, body, turn: self.now };
        self.bodies.add(&held);
        self.index.insert(held);
        let is_taken_out = match order {
            // It has no place yet that it could leave: it is received as if nothing had been closed.
            Some(Order::Flush { given }) => {
                self.lift(lane, *given);
                false
            }
            Some(order) => self.obey(ticket, order),
            None => false,
        };
        if !is_taken_out {
            self.receive(ticket, room);
        }
        self.keep_within_budget();
    }

    fn receive(&mut self, ticket: Ticket, room: Room) {
        let now = self.now;
        let Some(entry) = self.index.get(ticket).map(|held| &held.entry) else { return };
        if entry.expiry <= now {
            return self.expire(ticket);
        }
        if let Some(not_before) = entry.not_before().filter(|&not_before| not_before > now)
            && self.wait_until(ticket, not_before)
        {
            return;
        }
        if !self.moved_on(ticket, room) {
            match self.index.get(ticket).and_then(|held| held.entry.not_before()).filter(|&time| time > now) {
                Some(until) => self.set_stage(ticket, Stage::Waiting { until, reason: WaitReason::NotBefore }),
                None => self.stand_in_line(ticket),
            }
        }
    }

    /// Moves an envelope that may not go yet to a tier, if it would wait for long. Whether it did.
    fn wait_until(&mut self, ticket: Ticket, not_before: Timestamp) -> bool {
        let (now, delays) = (self.now, self.config.tier_delays);
        let Some(held) = self.index.get(ticket) else { return false };
        if not_before <= now.after(self.config.index_wait) {
            return false;
        }
        let Some(tier) = retry::tier_not_after(not_before, now, held.entry.expiry, &delays) else { return false };
        let tier = with_room(tier, tier, &self.moves.full, now, held.entry.expiry, &delays).unwrap_or(tier);
        self.settle_by_move(ticket, tier, WaitReason::NotBefore);
        true
    }

    /// Moves a newcomer to a tier if its lane is blocked for long, or there is no room for it, or its turn is far off.
    fn moved_on(&mut self, ticket: Ticket, room: Room) -> bool {
        let (now, index_wait) = (self.now, self.config.index_wait);
        let Some(held) = self.index.get(ticket) else { return false };
        if let Some(block) = self.long_block(held.lane, held.entry.class) {
            return self.move_to_tier(ticket, block.reason, block.until);
        }
        let Some(lane) = self.lanes.lane(held.lane) else { return false };
        let before = lane.before(&held.entry);
        let guess = lane.pace.guess_for(before, now);
        let crowded = match room {
            Room::Full | Room::Closed => true,
            _ if self.holds_up_others(&held.entry, lane, room) => true,
            Room::Crowded => guess.map_or(!lane.pace.is_young(now), |guess| guess > index_wait / 2),
            Room::Free => false,
        };
        let far_off = lane.pace.time_for(before, now).filter(|&time| time > index_wait);
        match far_off.or(guess.filter(|_| crowded)) {
            Some(time) => self.move_to_tier(ticket, WaitReason::Overflow, now.after(time)),
            None if crowded => self.move_to_tier(ticket, WaitReason::Overflow, now),
            None => false,
        }
    }

    /// Whether this one has its share of the index already and is to make room for others: because READY, where they may
    /// stand behind it, takes long to come through, or because nothing of its lane goes for now.
    fn holds_up_others(&self, entry: &Kept, lane: &Lane, room: Room) -> bool {
        let much = lane.entries > self.index.capacity(&self.config) / 2;
        if lane.is_closed(self.now) && (much || room == Room::Crowded) {
            return true;
        }
        if !self.jams.of(entry.shard).is_some_and(ShardJams::is_long) {
            return false;
        }
        if self.index.is_crowded_by(entry.shard, &entry.tenant, &self.config) {
            return true;
        }
        let crowd = self.index.crowd(entry.shard, &entry.site, &entry.tenant);
        let soon = lane.pace.per_minute(self.now).unwrap_or(0) / (60 / SOON_SECS);
        let most = usize::try_from(soon).unwrap_or(usize::MAX).max(self.index.capacity(&self.config) / 100);
        (much && !self.has_little(entry)) || crowd > most.min(self.config.tenant_site_capacity)
    }
}
