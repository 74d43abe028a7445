//! What reaches the worker: mail, answers, the ends of what it began, and questions about what it holds.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use postrider_dispatch::dispatcher::{RequestId, SummaryRow, Ticket, WaitingPart};
use postrider_dispatch::limits::Grant;
use postrider_dispatch::shard_state::{Credit, CreditLine, ShardState};
use postrider_model::{Envelope, MessageId, RuleFilter, ShardId, SiteName, TenantId};
use postrider_nats::BodyError;
use tokio::sync::{oneshot, watch};

use crate::arrivals::OnTheWay;
use crate::held::{Arrival, Loaded};
use crate::settlement::Settlements;

/// What reaches the worker.
pub enum Input {
    /// A shard is ours.
    Taken(ShardId, ShardFloor),
    /// A shard is to be given back; answered when nothing of it is held any more.
    Release(ShardId, oneshot::Sender<()>),
    /// A shard is another's.
    Lost(ShardId),
    /// An envelope was pulled and its exchangers looked up.
    Arrived(Box<Arrival>, OnTheWay),
    /// A record that was pulled has gone another way.
    Left,
    /// The owner of a limit has answered.
    Answered(RequestId, Grant),
    /// A body was read.
    Body(Ticket, Result<Box<Loaded>, BodyError>),
    /// An envelope whose packet was dropped was read again, to hold operators' rules against it.
    Reread(Ticket, Box<Envelope>),
    /// A settle waits, and its body is in memory no more.
    Spilled(Ticket),
    /// A settle is done.
    Settled(Ticket),
    /// A settle of a shard that is being released is left to the next owner.
    LeftBehind(Ticket),
    /// So many of a shard are in READY and have not been pulled.
    Pending(ShardId, u64),
    /// So much of a shard's mail for a site lies in tiers.
    Deep(ShardId, SiteName, Vec<(TenantId, [u64; 5])>),
    /// Somebody asks what others should know of our shards.
    ShardStates(oneshot::Sender<Vec<(ShardId, ShardState)>>),
    /// Somebody asks of which mail it should be looked how much lies in tiers.
    Jammed(oneshot::Sender<Vec<(ShardId, SiteName)>>),
    /// A promoter asks how much may come.
    Credit(ShardId, Vec<CreditLine>, oneshot::Sender<Vec<Credit>>),
    /// Somebody asks how much of what is held matches a filter.
    Matching(RuleFilter, oneshot::Sender<Vec<(ShardId, u64)>>),
    /// Somebody asks what is held.
    Summary(oneshot::Sender<Vec<SummaryRow>>),
    /// Somebody asks why a message waits.
    Waiting(MessageId, oneshot::Sender<Vec<WaitingPart>>),
}

/// What the worker needs to know of a shard that is ours.
pub struct ShardFloor {
    /// How settles of it are driven.
    pub settlements: Settlements,
    /// Where the room left in the index is shown, and that others are on their way there.
    pub room: watch::Sender<usize>,
    /// Envelopes that were pulled and have not arrived yet.
    pub arriving: Arc<AtomicUsize>,
}
