//! The way to the model of JetStream: requests and answers take their time, get lost, or come after the server has died. What one
//! client sends arrives in its order, as over one connection.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::ownership::Lease;
use postrider_model::{Body, Envelope, EnvelopeId, EnvelopeState, MemberId, Record, Rule, ShardId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::exec::{Life, Sim};
use crate::jetstream::{Inbox, JetStream, Push};

/// How long an answer of JetStream may take before the request is made again.
pub const API_TIMEOUT: Duration = Duration::from_secs(5);

/// An envelope with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The envelope.
    pub envelope: Envelope,
    /// Where the body is.
    pub body: Body,
}

impl Packet {
    /// Which stay it is.
    pub fn id(&self) -> EnvelopeId {
        self.envelope.id()
    }

    /// The same part in another state.
    pub fn with_state(&self, state: EnvelopeState) -> Self {
        Self { envelope: Envelope { state, ..self.envelope.clone() }, body: self.body.clone() }
    }
}

/// What streams hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// READY and tiers.
    Packet(Rc<Packet>),
    /// INTAKE.
    Intake(Rc<Vec<Packet>>),
    /// BODY.
    Body,
    /// EVENTS.
    Events(Rc<Vec<Record>>),
    /// DEAD.
    Dead(EnvelopeId),
    /// A member's entry: its start tells its lives apart.
    Member(MemberId, Timestamp),
    /// A shard's lease.
    Lease(ShardId, Lease),
    /// An operator's rule.
    Rule(Rc<Rule>),
    /// A deleted key.
    Gone,
}

/// No answer in time; what was asked may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// The server, and how the networks around it are.
#[derive(Clone)]
pub struct Nats {
    sim: Sim,
    /// The server itself, for the judge.
    pub server: Rc<RefCell<JetStream<Payload>>>,
    state: Rc<State>,
}

struct State {
    up: Cell<bool>,
    /// Hung until then: what arrives is done when it goes on.
    hung_until: Cell<Timestamp>,
    /// Moves with each restart.
    restarts: Cell<u64>,
    /// Requests and answers in a thousand that are lost.
    losses: Cell<u64>,
    next_inbox: Cell<Inbox>,
    inboxes: RefCell<BTreeMap<Inbox, Listener>>,
    wake: tokio::sync::Notify,
    /// Every envelope that was stored, with the first token of its subject, and two where it is a tier.
    stored: RefCell<Vec<(Timestamp, String, EnvelopeId)>>,
    /// Whose records of which stays are in EVENTS.
    recorded: RefCell<BTreeSet<(Life, EnvelopeId)>>,
    /// When it was restarted.
    restarted: RefCell<Vec<Timestamp>>,
}

type Job = Box<dyn FnOnce()>;

/// What the server sends by itself, and to which inbox.
pub type Pushed = (Inbox, Push<Payload>);

/// Where that goes.
pub type Words = mpsc::UnboundedSender<Pushed>;

/// Whose inbox it is, and where its answers and pushes go.
type Listener = (Life, mpsc::UnboundedSender<Job>, Words);

impl Nats {
    /// A server without streams, in a good network.
    pub fn new(sim: &Sim) -> Self {
        let state = State {
            up: Cell::new(true),
            hung_until: Cell::new(Timestamp::default()),
            restarts: Cell::new(0),
            losses: Cell::new(0),
            next_inbox: Cell::new(0),
            inboxes: RefCell::default(),
            wake: tokio::sync::Notify::new(),
            stored: RefCell::default(),
            recorded: RefCell::default(),
            restarted: RefCell::default(),
        };
        let nats = Self { sim: sim.clone(), server: Rc::default(), state: Rc::new(state) };
        let ticking = nats.clone();
        sim.spawn(Life::WORLD, async move { ticking.tick().await });
        nats
    }

    /// How many requests and answers in a thousand are lost from now on.
    pub fn set_losses(&self, thousandths: u64) {
        self.state.losses.set(thousandths);
    }

    /// How often it was restarted.
    pub fn restarts(&self) -> u64 {
        self.state.restarts.get()
    }

    /// It answers nobody for a while, and forgets nothing.
    pub fn hang(&self, time: Duration) {
        self.state.hung_until.set(self.sim.now().after(time));
    }

    /// It dies, and comes back with its store.
    pub async fn restart(&self, down: Duration) {
        self.state.up.set(false);
        self.state.inboxes.borrow_mut().clear();
        self.sim.sleep(down).await;
        self.server.borrow_mut().restart(self.sim.now());
        self.state.restarts.set(self.state.restarts.get() + 1);
        self.state.restarted.borrow_mut().push(self.sim.now());
        self.state.up.set(true);
    }

    /// Every envelope that was stored: when, in which stream, which stay of it. What the server knew already is not.
    pub fn stored(&self) -> Vec<(Timestamp, String, EnvelopeId)> {
        self.state.stored.borrow().clone()
    }

    /// Whether a process has recorded how a stay ended.
    pub fn has_recorded(&self, life: Life, id: EnvelopeId) -> bool {
        self.state.recorded.borrow().contains(&(life, id))
    }

    /// It begins anew.
    pub fn forget_recorded(&self, life: Life, id: EnvelopeId) {
        self.state.recorded.borrow_mut().remove(&(life, id));
    }

    /// Whether it was restarted between these moments.
    pub fn restarted_between(&self, from: Timestamp, until: Timestamp) -> bool {
        self.state.restarted.borrow().iter().any(|at| (from..=until).contains(at))
    }

    /// A process is gone, and its connection with it.
    pub fn disconnect(&self, life: Life) {
        self.state.inboxes.borrow_mut().retain(|_, (owner, _, _)| *owner != life);
        let inboxes = self.state.inboxes.borrow();
        self.server.borrow_mut().disconnect(|inbox| !inboxes.contains_key(&inbox));
    }

    /// A connection of a process.
    pub fn connect(&self, life: Life) -> Client {
        Client { nats: self.clone(), life, up: self.line(), down: self.line() }
    }

    /// One direction of a connection: what is sent over it arrives in its order.
    fn line(&self) -> mpsc::UnboundedSender<Job> {
        let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
        let nats = self.clone();
        self.sim.spawn(Life::WORLD, async move {
            while let Some(job) = jobs.recv().await {
                let slow = nats.sim.chance(20);
                nats.sim.sleep(nats.sim.some_time(if slow { 300 } else { 4 })).await;
                while nats.sim.now() < nats.state.hung_until.get() {
                    nats.sim.sleep_until(nats.state.hung_until.get()).await;
                }
                job();
            }
        });
        sender
    }

    /// Sends what the server has to say by itself to whom it may concern.
    fn route(&self) {
        let pushes = self.server.borrow_mut().take_pushes();
        for (inbox, push) in pushes {
            let inboxes = self.state.inboxes.borrow();
            let Some((_, down, sender)) = inboxes.get(&inbox) else { continue };
            let sender = sender.clone();
            drop(down.send(Box::new(move || drop(sender.send((inbox, push))))));
        }
        self.state.wake.notify_one();
    }

    async fn tick(&self) {
        loop {
            let next = self.server.borrow().wake_at().unwrap_or(Timestamp::from_millis(u64::MAX));
            tokio::select! {
                biased;
                () = self.state.wake.notified() => {}
                () = self.sim.sleep_until(next) => {
                    // While it is down or hung nothing happens; what is due is made up for.
                    let until = self.state.hung_until.get();
                    if !self.state.up.get() || self.sim.now() < until {
                        self.sim.sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                    self.server.borrow_mut().pass(self.sim.now());
                    self.route();
                }
            }
        }
    }
}

/// A process's connection. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    nats: Nats,
    life: Life,
    up: mpsc::UnboundedSender<Job>,
    down: mpsc::UnboundedSender<Job>,
}

impl Client {
    /// Asks the server; `None` from it is no answer. What was asked may be done although no answer comes.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask<T: 'static>(
        &self,
        question: impl FnOnce(&mut JetStream<Payload>, Timestamp) -> Option<T> + 'static,
    ) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let (nats, down) = (self.nats.clone(), self.down.clone());
        let job = move || {
            let lost = nats.sim.chance(nats.state.losses.get());
            if lost || !nats.state.up.get() {
                // A frozen or patient client finds out by itself.
                return;
            }
            let told = question(&mut nats.server.borrow_mut(), nats.sim.now());
            nats.route();
            let lost = nats.sim.chance(nats.state.losses.get());
            let restarts = nats.restarts();
            if let Some(told) = told.filter(|_| !lost) {
                let nats = nats.clone();
                let deliver = move || {
                    if nats.restarts() == restarts {
                        drop(answer.send(told));
                    }
                };
                drop(down.send(Box::new(deliver)));
            }
        };
        drop(self.up.send(Box::new(job)));
        tokio::select! {
            biased;
            Ok(told) = answered => Ok(told),
            () = self.nats.sim.sleep(API_TIMEOUT) => Err(Unanswered),
        }
    }

    /// Notes that something is stored which the judge asks for.
    pub fn note_stored(&self, subject: &str, payload: &Payload) {
        let id = match payload {
            Payload::Packet(packet) => packet.id(),
            Payload::Events(records) => {
                let moving = records.iter().filter(|record| record.next.is_some());
                return self.nats.state.recorded.borrow_mut().extend(moving.map(|record| (self.life, record.id)));
            }
            _ => return,
        };
        let tokens = if subject.starts_with("retry") { 2 } else { 1 };
        let stream = subject.split('.').take(tokens).collect::<Vec<_>>().join(".");
        self.nats.state.stored.borrow_mut().push((self.nats.sim.now(), stream, id));
    }

    /// As [`Self::ask`], without an answer.
    pub fn tell(&self, word: impl FnOnce(&mut JetStream<Payload>, Timestamp) + 'static) {
        let nats = self.nats.clone();
        let job = move || {
            if nats.state.up.get() {
                word(&mut nats.server.borrow_mut(), nats.sim.now());
                nats.route();
            }
        };
        drop(self.up.send(Box::new(job)));
    }

    /// An inbox for the answers to a pull.
    pub fn listen(&self, words: &Words) -> Inbox {
        let inbox = self.nats.state.next_inbox.get() + 1;
        self.nats.state.next_inbox.set(inbox);
        self.nats.state.inboxes.borrow_mut().insert(inbox, (self.life, self.down.clone(), words.clone()));
        inbox
    }

    /// Nobody listens there any more.
    pub fn close(&self, inbox: Inbox) {
        self.nats.state.inboxes.borrow_mut().remove(&inbox);
    }

    /// Moves with each restart of the server.
    pub fn reconnects(&self) -> u64 {
        self.nats.restarts()
    }
}
