//! The one task around the dispatcher: facts in, actions out. It holds the envelopes and the conversations by name, starts
//! what the machine orders, and waits for nothing itself.

mod input;
pub use input::{Input, ShardFloor};

mod task;
pub use task::WorkerTask;

mod act;

mod arrive;

mod report;

mod orders;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use postrider_dispatch::dispatcher::{Conversation, Dispatcher, Fact, Ticket};
use postrider_dispatch::rules::Rules;
use postrider_model::{Body, EnvelopeId, ShardId, Snapshot};
use postrider_nats::{Handle, Spool};
use postrider_runtime::clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::connect::Connector;
use crate::conversation::{Order, Report};
use crate::fence::SharedFence;
use crate::finish::Finisher;
use crate::held::{Held, Holdings, Loaded};
use crate::limits::OwnedLimits;
use crate::metrics::Metrics;
use crate::settlement::Complaints;

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
            Input::Answered(request, grant) => self.fact(Fact::answered(request, grant)),
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
