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

use postrider_model::{MessageId, ShardId, TenantId, Timestamp};

/// The dispatcher: see the module's documentation.
#[derive(Debug)]
pub struct Dispatcher {
    config: DispatcherConfig,
}

impl Dispatcher {
    /// A dispatcher that owns no shard yet. `seed` feeds the dice of the retry schedule.
    pub fn new(config: DispatcherConfig, _seed: u64) -> Self {
        Self { config }
    }

    /// How much a tenant gets of a queue that several share: 1 unless set.
    pub fn set_weight(&mut self, _tenant: TenantId, _weight: u32) {}

    /// Takes a fact in. Facts about tickets, conversations and requests that are not known are ignored. Call
    /// [`Dispatcher::poll`] until it is empty afterwards.
    pub fn handle(&mut self, _fact: Fact, _now: Timestamp) {}

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        None
    }

    /// Hand in [`Fact::Tick`] at this time if nothing else happens before; `None` if nothing waits on time.
    pub fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// How many more envelopes of a shard fit: pull at most that many. 0 for a shard that is not owned.
    pub fn room(&self, _shard: ShardId) -> usize {
        self.config.shard_capacity
    }

    /// How many envelopes of a shard are held. A shard that is being released is done with when this is 0.
    pub fn held(&self, _shard: ShardId) -> usize {
        0
    }

    /// What is held, by site, tenant and class. Looks at every envelope: for people and metrics, not for the straight line.
    pub fn summary(&self, _now: Timestamp) -> Vec<SummaryRow> {
        Vec::new()
    }

    /// Why the parts of a message that are held here wait, and until when.
    pub fn waiting(&self, _message: &MessageId, _now: Timestamp) -> Vec<WaitingPart> {
        Vec::new()
    }
}
