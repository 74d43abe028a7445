//! Which envelope next, on which path, now or when, and why. One machine for each delivery process: facts and the time go
//! in by [`Dispatcher::handle`], actions come out of [`Dispatcher::poll`]. It never touches bytes, sockets or streams.

mod fact;
pub use fact::{AttemptResult, Fact, Failure, FailureScope};

mod action;
pub use action::{Action, Plan, RequestId};

mod entry;
pub use entry::{Conversation, Entry, Exchange, Ticket};

mod config;
pub use config::DispatcherConfig;

mod summary;
pub use summary::{SummaryRow, WaitingPart};

pub use crate::limits::{Ask, Path, Permit, PermitId, Source};

mod per_class;

mod queue;

mod pace;

mod lane;

mod turns;

mod shares;

mod alarm;

mod kept;

mod index;

mod jams;

mod bodies;

mod arrival;

mod line;

mod conversation;

mod asking;

mod choice;

mod attempts;

mod trouble;

mod moves;

mod credit;

mod obey;

use std::collections::{BTreeSet, HashMap, VecDeque};

use postrider_model::{Class, EnvelopeId, ShardId, TenantId, TenantWeight, Timestamp};

use alarm::{Alarm, Alarms};
use asking::Request;
use bodies::Bodies;
use conversation::Talk;
use index::Index;
use jams::Jams;
use lane::Lanes;
use moves::Moves;
use per_class::PerClass;
use shares::Shares;
use turns::PathTurns;

use crate::retry::Dice;
use crate::rules::Order;

/// The dispatcher: see the module's documentation.
#[derive(Debug)]
pub struct Dispatcher {
    config: DispatcherConfig,
    dice: Dice,
    /// The latest time that was handed in.
    now: Timestamp,
    weights: HashMap<TenantId, TenantWeight>,
    index: Index,
    lanes: Lanes,
    conversations: HashMap<Conversation, Talk>,
    /// Those among them that have nothing to do.
    idle: BTreeSet<Conversation>,
    /// How many of them are being closed.
    closing: usize,
    requests: HashMap<RequestId, Request>,
    /// Questions for connections that are out.
    asked_connections: usize,
    turns: PerClass<PathTurns>,
    shares: Shares,
    bodies: Bodies,
    moves: Moves,
    jams: Jams,
    alarms: Alarms,
    /// Conversations that were left with nothing to do and have not been looked at since.
    restless: Vec<Conversation>,
    actions: VecDeque<Action>,
    last_conversation: u64,
    last_request: u64,
}

impl Dispatcher {
    /// A dispatcher that owns no shard yet. `seed` feeds the dice of the retry schedule.
    pub fn new(config: DispatcherConfig, seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            now: Timestamp::default(),
            weights: HashMap::new(),
            index: Index::default(),
            lanes: Lanes::default(),
            conversations: HashMap::new(),
            idle: BTreeSet::new(),
            closing: 0,
            requests: HashMap::new(),
            asked_connections: 0,
            turns: PerClass::default(),
            shares: Shares::default(),
            bodies: Bodies::new(config.body_bytes),
            moves: Moves::default(),
            jams: Jams::default(),
            alarms: Alarms::default(),
            restless: Vec::new(),
            actions: VecDeque::new(),
            last_conversation: 0,
            last_request: 0,
            config,
        }
    }

    /// How much each tenant gets of what several share, from now on; who is not named has 1. What was set before is
    /// forgotten.
    pub fn set_weights(&mut self, weights: impl IntoIterator<Item = (TenantId, TenantWeight)>) {
        let usual = TenantWeight::default();
        self.weights = weights.into_iter().filter(|(_, weight)| *weight != usual).collect();
        self.lanes.set_weights(&self.weights);
    }

    fn weight_of(&self, tenant: &TenantId) -> TenantWeight {
        self.weights.get(tenant).copied().unwrap_or_default()
    }

    /// Takes a fact in. Facts about tickets, conversations and requests that are not known are ignored, and time never goes
    /// backwards. Call [`Dispatcher::poll`] until it is empty afterwards.
    pub fn handle(&mut self, fact: Fact, now: Timestamp) {
        self.now = self.now.max(now);
        // Orders come first, and all together: nothing that one of them stops begins meanwhile.
        if let Fact::Ordered(orders) = &fact {
            self.obey_all(orders, |order| !matches!(order, Order::Flush { .. }));
        }
        self.ring();
        match fact {
            Fact::ShardTaken(shard) => {
                self.index.take_shard(shard);
                self.jams.take_shard(shard);
            }
            Fact::ShardReleasing(shard) => self.release_shard(shard),
            Fact::ShardLost(shard) => self.lose_shard(shard),
            Fact::Pending { shard, count } => self.jams.pending(shard, count, self.now),
            Fact::Deep { shard, site, depths } => self.jams.deep(shard, &site, depths, self.now),
            Fact::Arrived(entry) => self.arrived(entry, None),
            Fact::ArrivedUnder { entry, order } => self.arrived(entry, Some(&order)),
            Fact::Ordered(orders) => self.obey_all(&orders, |order| matches!(order, Order::Flush { .. })),
            Fact::Granted { request, permit } => self.granted(request, permit),
            Fact::Waiting { request, until, reason } => self.told_to_wait(request, until, reason),
            Fact::Ready(conversation) => self.conversation_ready(conversation),
            Fact::Attempted { ticket, conversation: _, results } => self.attempted(ticket, &results),
            Fact::Unresolvable { ticket, permanent, reply } => self.unresolvable(ticket, permanent, reply),
            Fact::ConversationEnded { conversation, failure } => {
                self.conversation_ended(conversation, failure.as_ref());
            }
            Fact::Spilled(ticket) => self.spilled(ticket),
            Fact::Settled(ticket) => self.settled(ticket),
            Fact::BodyRead { ticket, bytes } => self.body_read(ticket, bytes),
            Fact::BodyMissing { ticket } => self.body_missing(ticket),
            Fact::Tick => {}
        }
        self.read_queued_bodies();
        self.make_moves();
        self.ask_for_connections();
        while let Some(conversation) = self.restless.pop() {
            self.choose(conversation);
            self.ask_for_connections();
        }
    }

    /// Does what the time has come for.
    fn ring(&mut self) {
        while let Some(alarm) = self.alarms.due(self.now) {
            match alarm {
                Alarm::Entry(ticket) => self.entry_alarm(ticket),
                Alarm::Conversation(conversation) => self.conversation_alarm(conversation),
                Alarm::Lane(lane) => self.lane_alarm(lane),
                Alarm::Path(path) => self.path_alarm(path),
                Alarm::Source(source) => self.source_alarm(&source),
            }
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Hand in [`Fact::Tick`] at this time if nothing else happens before; `None` if nothing waits on time.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.alarms.next()
    }

    /// How many more envelopes of a shard fit: pull at most that many. 0 for a shard that is not owned.
    pub fn room(&self, shard: ShardId) -> usize {
        self.index.room(shard, &self.config)
    }

    /// The ticket of this stay of this part, if it is held.
    pub fn ticket_of(&self, id: &EnvelopeId) -> Option<Ticket> {
        self.index.ticket_of(id)
    }

    /// Whose an envelope is; `None` if it is not held.
    pub fn tenant(&self, ticket: Ticket) -> Option<&TenantId> {
        self.index.get(ticket).map(|held| &held.entry.tenant)
    }

    /// Bytes of bodies in memory, and on their way there.
    pub fn body_bytes(&self) -> u64 {
        self.bodies.all_taken()
    }

    /// How many bytes of bodies there may be.
    pub fn body_budget(&self) -> u64 {
        self.config.body_bytes
    }

    /// How many envelopes are held.
    pub fn all_held(&self) -> usize {
        self.index.len()
    }

    /// How many envelopes may be held, with the shards that are owned now.
    pub fn capacity(&self) -> usize {
        self.index.capacity_of_all(&self.config)
    }

    /// How many envelopes of a shard are held. A shard that is being released is done with when this is 0.
    pub fn held(&self, shard: ShardId) -> usize {
        self.index.held(shard)
    }
}

#[cfg(test)]
mod tests;
