//! The one task around the dispatcher: facts in, actions out. It holds the envelopes and the conversations by name, starts
//! what the machine orders, and waits for nothing itself.

mod act;

mod arrive;

mod orders;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postrider_dispatch::dispatcher::{
    AttemptResult, Conversation, Dispatcher, Fact, RequestId, SummaryRow, Ticket, WaitingPart,
};
use postrider_dispatch::limits::Grant;
use postrider_dispatch::rules::Rules;
use postrider_dispatch::shard_state::{Credit, CreditLine, ShardState};
use postrider_model::{
    Body, EnhancedCode, Envelope, EnvelopeId, MessageId, Reply, RuleFilter, ShardId, SiteName, Snapshot, TenantId,
};
use postrider_nats::{BodyError, Handle, Spool};
use postrider_runtime::clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::arrivals::OnTheWay;
use crate::connect::Connector;
use crate::conversation::{Order, Report};
use crate::fence::SharedFence;
use crate::finish::Finisher;
use crate::held::{Arrival, Held, Holdings, Loaded};
use crate::limits::OwnedLimits;
use crate::metrics::Metrics;
use crate::settlement::{Complaints, Settlements};

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

struct Shard {
    floor: ShardFloor,
    /// How many were on their way here when that was looked at last.
    arriving: usize,
    released: Option<oneshot::Sender<()>>,
}

/// An envelope whose settle is under way.
struct Settling {
    shard: ShardId,
    // Leases on copies of it that came meanwhile; acknowledged when it is settled.
    repeats: Vec<Handle>,
    // Its id, if it moves to another shard without having been in the index.
    passing: Option<EnvelopeId>,
}

struct Talk {
    orders: mpsc::UnboundedSender<Order>,
    cut: CancellationToken,
    opened_for: Ticket,
    carries: Option<Ticket>,
}

/// What the worker works with.
#[derive(Clone)]
pub struct Tools {
    /// The way to JetStream.
    pub spool: Spool,
    /// Reaches exchangers.
    pub connector: Connector,
    /// Signs.
    pub finisher: Finisher,
    /// May we act?
    pub fence: SharedFence,
    /// The limits that this process owns.
    pub limits: OwnedLimits,
    /// What is counted.
    pub metrics: Metrics,
    /// What settles could not do.
    pub complaints: Arc<Complaints>,
    /// Where mail leaves from.
    pub source: Option<IpAddr>,
}

/// The worker.
pub struct Worker {
    dispatcher: Dispatcher,
    tools: Tools,
    inputs: mpsc::Sender<Input>,
    reports: mpsc::Sender<(Conversation, Report)>,
    held: Holdings,
    // Packets in memory whose bodies the dispatcher does not count.
    extra: usize,
    settling: HashMap<Ticket, Settling>,
    // What moves to another shard without having been in the index.
    passing: HashMap<EnvelopeId, Ticket>,
    talks: HashMap<Conversation, Talk>,
    shards: HashMap<ShardId, Shard>,
    rules: watch::Sender<Arc<Rules>>,
    next_ticket: u64,
    seed: u64,
}

/// Packets of envelopes with a stored body that are kept in memory while they wait, to be sent without reading them again.
const EXTRA: usize = 1_000;

/// What an envelope that waits takes at most without its body: `tests/memory.rs` holds it to that.
const ENVELOPE_BYTES: i64 = 512;

fn is_extra(loaded: &Loaded) -> bool {
    matches!(loaded.packet.body(), Body::Stored(_)) && loaded.message.is_none()
}

/// Inputs taken in one go before actions are performed.
const BATCH: usize = 256;

impl Worker {
    /// A worker that owns nothing yet, where to reach it, and the rules it obeys. The snapshot says what tenants weigh, and
    /// what operators have ordered.
    pub fn prepare(
        dispatcher: Dispatcher,
        tools: Tools,
        seed: u64,
        mut snapshot: watch::Receiver<Arc<Snapshot>>,
    ) -> (WorkerTask, mpsc::Sender<Input>, watch::Receiver<Arc<Rules>>) {
        let rules = watch::Sender::new(Arc::new(Rules::new(&snapshot.borrow().rules)));
        let followed = rules.subscribe();
        snapshot.mark_changed();
        let (inputs, input_receiver) = mpsc::channel(4096);
        let (reports, report_receiver) = mpsc::channel(4096);
        let worker = Self {
            dispatcher,
            tools,
            inputs: inputs.clone(),
            reports,
            held: Holdings::new(),
            extra: 0,
            settling: HashMap::new(),
            passing: HashMap::new(),
            talks: HashMap::new(),
            shards: HashMap::new(),
            rules,
            next_ticket: 0,
            seed,
        };
        (WorkerTask { worker, inputs: input_receiver, reports: report_receiver, snapshot }, inputs, followed)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Taken(shard, floor) => {
                self.shards.insert(shard, Shard { floor, arriving: 0, released: None });
                self.fact(Fact::ShardTaken(shard));
            }
            Input::Release(shard, done) => {
                if let Some(held) = self.shards.get_mut(&shard) {
                    held.released = Some(done);
                    self.fact(Fact::ShardReleasing(shard));
                }
            }
            Input::Lost(shard) => self.lose(shard),
            Input::Arrived(arrival, on_the_way) => self.arrive(*arrival, on_the_way),
            // What waited for it is looked at after every input.
            Input::Left => {}
            Input::Reread(ticket, envelope) => self.reread(ticket, &envelope),
            Input::Answered(request, grant) => self.fact(act::granted(request, grant)),
            Input::Body(ticket, Ok(loaded)) => {
                if let Some(held) = self.held.get_mut(&ticket) {
                    let bytes = loaded.bytes();
                    if held.loaded.replace(loaded).is_some() {
                        self.extra -= 1;
                    }
                    self.fact(Fact::BodyRead { ticket, bytes });
                }
            }
            // An envelope of a shard that was lost meanwhile may be gone.
            Input::Body(ticket, Err(_)) if !self.held.contains_key(&ticket) => {}
            Input::Body(ticket, Err(error)) => {
                tracing::error!(?ticket, %error, "a body is gone");
                self.fact(Fact::BodyMissing { ticket });
            }
            Input::Settled(ticket) => {
                if let Some(settled) = self.settling.remove(&ticket) {
                    if let Some(id) = settled.passing {
                        self.passing.remove(&id);
                    }
                    for handle in settled.repeats {
                        tokio::spawn(handle.ack_confirmed(self.tools.spool.publish_budget()));
                    }
                }
                self.fact(Fact::Settled(ticket));
            }
            Input::LeftBehind(ticket) => {
                // What came again of it stays where it is too.
                if let Some(id) = self.settling.remove(&ticket).and_then(|left| left.passing) {
                    self.passing.remove(&id);
                }
                self.fact(Fact::Settled(ticket));
            }
            Input::Spilled(ticket) => self.fact(Fact::Spilled(ticket)),
            Input::Pending(shard, count) => self.fact(Fact::Pending { shard, count }),
            Input::Deep(shard, site, depths) => self.fact(Fact::Deep { shard, site, depths }),
            // Whoever asked may have gone, here and below.
            Input::ShardStates(answer) => {
                let now = clock::now();
                let state = |shard: &ShardId| (*shard, self.dispatcher.shard_state(*shard, now));
                drop(answer.send(self.shards.keys().map(state).collect()));
            }
            Input::Jammed(answer) => {
                let now = clock::now();
                let jammed = |shard: &ShardId| {
                    let sites = self.dispatcher.jammed_sites(*shard, now);
                    sites.into_iter().map(|site| (*shard, site)).collect::<Vec<_>>()
                };
                drop(answer.send(self.shards.keys().flat_map(jammed).collect()));
            }
            Input::Credit(shard, lines, answer) => {
                drop(answer.send(self.dispatcher.credit(shard, &lines, clock::now())));
            }
            Input::Matching(filter, answer) => self.matching(filter, answer),
            Input::Summary(answer) => drop(answer.send(self.dispatcher.summary())),
            Input::Waiting(message, answer) => drop(answer.send(self.dispatcher.waiting(&message, clock::now()))),
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.dispatcher.handle(fact, clock::now());
    }

    /// Drops a packet that the dispatcher does not count.
    fn unload(&mut self, held: &mut Held) {
        if held.loaded.take().is_some_and(|loaded| is_extra(&loaded)) {
            self.extra -= 1;
        }
    }

    fn acknowledge(&self, handle: Handle) {
        tokio::spawn(handle.ack_confirmed(self.tools.spool.publish_budget()));
    }

    fn lose(&mut self, shard: ShardId) {
        self.fact(Fact::ShardLost(shard));
        let Some(lost) = self.shards.remove(&shard) else { return };
        lost.floor.settlements.lost.cancel();
        let ours = |ticket: &Ticket| self.held.get(ticket).is_some_and(|held| held.shard == shard);
        for talk in self.talks.values() {
            if talk.carries.as_ref().is_some_and(ours) {
                talk.cut.cancel();
            }
        }
        self.held.retain(|_, held| held.shard != shard);
        self.settling.retain(|_, settling| settling.shard != shard);
        self.passing.retain(|_, ticket| self.settling.contains_key(ticket));
        self.extra =
            self.held.values().filter_map(|held| held.loaded.as_ref()).filter(|loaded| is_extra(loaded)).count();
    }

    fn report(&mut self, conversation: Conversation, report: Report) {
        match report {
            Report::Ready => self.fact(Fact::Ready(conversation)),
            Report::Attempted { ticket, results, attempt } => {
                if let Some(talk) = self.talks.get_mut(&conversation) {
                    talk.carries = None;
                }
                if let Some(held) = self.held.get_mut(&ticket) {
                    held.attempt = Some(Box::new(attempt));
                }
                self.fact(Fact::Attempted { ticket, conversation: Some(conversation), results });
            }
            Report::Prolong(ticket) => {
                if let Some(held) = self.held.get(&ticket) {
                    tokio::spawn(held.handle.in_progress());
                }
            }
            Report::Damaged(ticket) => {
                if let Some(talk) = self.talks.get_mut(&conversation) {
                    talk.carries = None;
                }
                self.fact(Fact::BodyMissing { ticket });
            }
            Report::Unreached { failure, permanent, attempt } => {
                let Some(ticket) = self.talks.get(&conversation).map(|talk| talk.opened_for) else { return };
                let Some(held) = self.held.get_mut(&ticket) else { return };
                self.tools.metrics.conversation_failed(act::scope(failure.scope), &held.site);
                // Another conversation may have it by now: then this one says nothing about it.
                if self.talks.values().any(|talk| talk.carries == Some(ticket)) {
                    return;
                }
                held.attempt = Some(Box::new(attempt));
                if permanent {
                    let reply =
                        failure.reply.unwrap_or_else(|| Reply::new(550, Some(EnhancedCode(5, 4, 4)), &failure.text));
                    let result = AttemptResult::Unresolvable { permanent, reply };
                    let results =
                        self.dispatcher.pending(ticket).iter().map(|&index| (index, result.clone())).collect();
                    self.fact(Fact::Unresolvable { ticket, results });
                }
            }
            Report::Ended { failure } => {
                self.talks.remove(&conversation);
                self.tools.metrics.conversations.set(i64::try_from(self.talks.len()).unwrap_or(i64::MAX));
                self.fact(Fact::ConversationEnded { conversation, failure });
            }
        }
    }

    fn show_memory(&self) {
        let (metrics, dispatcher) = (&self.tools.metrics, &self.dispatcher);
        let held = i64::try_from(dispatcher.all_held()).unwrap_or(i64::MAX);
        let capacity = i64::try_from(dispatcher.capacity()).unwrap_or(i64::MAX);
        metrics.index_entries.set(held);
        metrics.index_entries_limit.set(capacity);
        metrics.index_bytes.set(held.saturating_mul(ENVELOPE_BYTES));
        metrics.index_bytes_limit.set(capacity.saturating_mul(ENVELOPE_BYTES));
        metrics.body_bytes.set(i64::try_from(dispatcher.body_bytes()).unwrap_or(i64::MAX));
        metrics.body_bytes_limit.set(i64::try_from(dispatcher.body_budget()).unwrap_or(i64::MAX));
    }

    fn act(&mut self) {
        while let Some(action) = self.dispatcher.poll() {
            self.perform(action);
        }
        self.show_memory();
        let mut drained = Vec::new();
        for (id, shard) in &mut self.shards {
            let arriving = shard.floor.arriving.load(Ordering::Relaxed);
            let differs = std::mem::replace(&mut shard.arriving, arriving) != arriving;
            let room = self.dispatcher.room(*id);
            shard.floor.room.send_if_modified(|shown| std::mem::replace(shown, room) != room || differs);
            if shard.released.is_some() && self.dispatcher.held(*id) == 0 && arriving == 0 {
                drained.push(*id);
            }
        }
        for id in drained {
            self.dispatcher.handle(Fact::ShardLost(id), clock::now());
            if let Some(released) = self.shards.remove(&id).and_then(|shard| shard.released)
                && released.send(()).is_err()
            {
                tracing::debug!(shard = %id, "nobody waits for the release of a shard any more");
            }
        }
    }
}

/// The worker's loop.
pub struct WorkerTask {
    worker: Worker,
    inputs: mpsc::Receiver<Input>,
    reports: mpsc::Receiver<(Conversation, Report)>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl WorkerTask {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut inputs = Vec::with_capacity(BATCH);
        let mut reports = Vec::with_capacity(BATCH);
        loop {
            let wake = self.worker.dispatcher.wake_at().map(|at| at.since(clock::now()));
            tokio::select! {
                () = stop.cancelled() => break,
                _ = self.reports.recv_many(&mut reports, BATCH) => {}
                _ = self.inputs.recv_many(&mut inputs, BATCH) => {}
                Ok(()) = self.snapshot.changed() => {
                    let snapshot = Arc::clone(&self.snapshot.borrow_and_update());
                    self.worker.follow(&snapshot.rules);
                    let weights = snapshot.tenants.values().map(|tenant| (tenant.id.clone(), tenant.weight));
                    self.worker.dispatcher.set_weights(weights);
                }
                () = tokio::time::sleep(wake.unwrap_or(Duration::from_secs(3600))) => {
                    self.worker.fact(Fact::Tick);
                }
            }
            self.worker.dispatcher.set_full_tiers(self.worker.tools.spool.full_tiers());
            self.worker.dispatcher.set_hold_is_full(self.worker.tools.spool.hold_is_full());
            for (conversation, report) in reports.drain(..) {
                self.worker.report(conversation, report);
            }
            for input in inputs.drain(..) {
                self.worker.take(input);
            }
            self.worker.act();
        }
        for talk in self.worker.talks.values() {
            talk.cut.cancel();
        }
    }
}
