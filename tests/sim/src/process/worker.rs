//! The one task around the dispatcher: facts in, actions out. The shape of `services/delivery/src/worker.rs` and `worker/act.rs`.

mod arrive;

mod orders;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::dispatcher::{
    Action, Conversation, Dispatcher, Entry, Exchange, Fact, Failure, FailureScope, Plan, RequestId, Source, Ticket,
};
use postrider_dispatch::limits::{Grant, Permit, PermitId};
use postrider_dispatch::rules::{Order, Rules};
use postrider_dispatch::settle::{Settle, SettlePlan};
use postrider_dispatch::stay::Stay;
use postrider_model::{Body, EnvelopeId, Reply, ShardId, SiteName};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::conversation::{self, Report, Word};
use super::limits::{Question, ask_here, ask_there, give_back};
use super::settlement::{Settlements, Unfinished};
use super::shard::OnTheWay;
use super::{Here, PAUSE};
use crate::jetstream::Token;
use crate::nats::Packet;
use crate::spool::{LAYOUT, Leased};

/// What reaches the worker.
pub enum Input {
    Taken(ShardId, Box<Floor>),
    Release(ShardId, oneshot::Sender<()>),
    Lost(ShardId),
    Arrived(Box<Arrival>, OnTheWay),
    Left,
    Answered(RequestId, Grant),
    Body(Ticket, bool),
    Spilled(Ticket),
    Settled(Ticket),
    LeftBehind(Ticket),
    Reported(Conversation, Report),
    Rules(Rc<Rules>),
}

/// What looking up the exchangers came to.
pub enum Arrival {
    Dispatch(Held),
    Unresolvable(Held),
    Ordered(Held, Order),
    Elsewhere(Held, Box<Settle>),
}

/// What the worker needs to know of a shard that is ours.
pub struct Floor {
    pub settlements: Settlements,
    pub room: watch::Sender<usize>,
    pub arriving: Rc<Cell<usize>>,
    pub given_up: Rc<Cell<usize>>,
}

/// An envelope that is ours for now.
pub struct Held {
    token: Token,
    packet: Packet,
    shard: ShardId,
    site: SiteName,
    dropped: bool,
    /// Whether its exchangers are known.
    resolved: bool,
}

impl Held {
    pub fn new(leased: Leased, packet: Packet, shard: ShardId, site: SiteName) -> Self {
        Self { token: leased.token, packet, shard, site, dropped: false, resolved: true }
    }

    fn entry(&self, ticket: Ticket) -> Entry {
        let envelope = &self.packet.envelope;
        Entry {
            ticket,
            id: envelope.id(),
            shard: self.shard,
            class: envelope.class,
            tenant: envelope.tenant.clone(),
            site: self.site.clone(),
            exchange: Exchange::new(if self.resolved { self.site.as_str() } else { "" }),
            source: Source::new("default"),
            pending: envelope.state.pending.clone(),
            size_bytes: envelope.size_bytes,
            body_held: matches!(self.packet.body, Body::Inline { .. }),
            arrival: envelope.arrival,
            not_before: envelope.not_before,
            expiry: envelope.expiry,
            attempt: envelope.state.attempt,
        }
    }
}

/// What a packet is about, for the records of it.
pub fn stay(packet: &Packet, shard: ShardId) -> Stay<'_> {
    Stay { envelope: &packet.envelope, body: &packet.body, shard }
}

struct Shard {
    floor: Floor,
    arriving: usize,
    released: Option<oneshot::Sender<()>>,
}

struct Settling {
    shard: ShardId,
    id: EnvelopeId,
    repeats: Vec<Token>,
}

struct Talk {
    permit: PermitId,
    site: SiteName,
    orders: mpsc::UnboundedSender<Word>,
    cut: CancellationToken,
    carries: Option<Ticket>,
}

struct Worker {
    here: Here,
    dispatcher: Dispatcher,
    inputs: mpsc::UnboundedSender<Input>,
    held: BTreeMap<Ticket, Held>,
    known: BTreeMap<EnvelopeId, Ticket>,
    settling: BTreeMap<Ticket, Settling>,
    talks: BTreeMap<Conversation, Talk>,
    shards: BTreeMap<ShardId, Shard>,
    next_ticket: u64,
    /// Permits for connections that are to be opened: the dispatcher does that in their order, for the judge's eyes.
    granted: VecDeque<Permit>,
    /// Questions by what they are about.
    asked: BTreeMap<RequestId, Option<Conversation>>,
    /// What operators have ordered.
    rules: Rc<Rules>,
}

/// Starts a worker that owns nothing yet; where to reach it.
pub fn begin(here: &Here) -> mpsc::UnboundedSender<Input> {
    let (inputs, mut receiver) = mpsc::unbounded_channel();
    let dispatcher = Dispatcher::new(here.world.config.clone(), here.sim.below(u64::MAX));
    let mut worker = Worker {
        here: here.clone(),
        dispatcher,
        inputs: inputs.clone(),
        held: BTreeMap::new(),
        known: BTreeMap::new(),
        settling: BTreeMap::new(),
        talks: BTreeMap::new(),
        shards: BTreeMap::new(),
        next_ticket: 0,
        granted: VecDeque::new(),
        asked: BTreeMap::new(),
        rules: Rc::default(),
    };
    here.spawn(async move {
        loop {
            let wake = worker.dispatcher.wake_at().unwrap_or(worker.here.now().after(Duration::from_secs(3_600)));
            let wake = worker.here.world_time(wake);
            worker.dispatcher.set_full_tiers(worker.here.full_tiers.get());
            worker.dispatcher.set_hold_is_full(worker.here.hold_is_full.get());
            tokio::select! {
                biased;
                input = receiver.recv() => match input {
                    Some(input) => worker.take(input),
                    None => return,
                },
                () = worker.here.sim.sleep_until(wake) => worker.fact(Fact::Tick),
            }
            worker.act();
        }
    });
    inputs
}

impl Worker {
    fn take(&mut self, input: Input) {
        match input {
            Input::Taken(shard, floor) => {
                self.shards.insert(shard, Shard { floor: *floor, arriving: 0, released: None });
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
            Input::Left => {}
            Input::Answered(request, grant) => self.answered(request, grant),
            Input::Body(ticket, found) => match self.held.get_mut(&ticket) {
                Some(held) if found => {
                    held.dropped = false;
                    let bytes = held.packet.envelope.size_bytes;
                    self.fact(Fact::BodyRead { ticket, bytes });
                }
                Some(_) => self.fact(Fact::BodyMissing { ticket }),
                None => {}
            },
            Input::Settled(ticket) => {
                if let Some(settled) = self.settling.remove(&ticket) {
                    self.known.remove(&settled.id);
                    settled.repeats.into_iter().for_each(|token| self.acknowledge(token));
                }
                self.fact(Fact::Settled(ticket));
            }
            Input::Spilled(ticket) => self.fact(Fact::Spilled(ticket)),
            Input::LeftBehind(ticket) => {
                if let Some(left) = self.settling.remove(&ticket) {
                    self.known.remove(&left.id);
                }
                self.fact(Fact::Settled(ticket));
            }
            Input::Reported(conversation, report) => self.report(conversation, report),
            Input::Rules(rules) => self.follow(rules),
        }
    }

    fn fact(&mut self, fact: Fact) {
        self.dispatcher.handle(fact, self.here.now());
    }

    fn acknowledge(&self, token: Token) {
        let spool = self.here.spool.clone();
        self.here.spawn(async move { drop(spool.confirm_ack(&token).await) });
    }

    fn lose(&mut self, shard: ShardId) {
        self.fact(Fact::ShardLost(shard));
        let Some(lost) = self.shards.remove(&shard) else { return };
        self.here.judge.lost(self.here.life, shard);
        lost.floor.settlements.lost.cancel();
        let ours = |ticket: &Ticket| self.held.get(ticket).is_some_and(|held| held.shard == shard);
        for talk in self.talks.values() {
            if talk.carries.as_ref().is_some_and(ours) {
                talk.cut.cancel();
            }
        }
        self.held.retain(|_, held| held.shard != shard);
        self.settling.retain(|_, settling| settling.shard != shard);
        self.known.retain(|_, ticket| self.held.contains_key(ticket) || self.settling.contains_key(ticket));
    }

    fn report(&mut self, conversation: Conversation, report: Report) {
        let life = self.here.life;
        self.here.judge.hear(|| format!("{conversation:?} of {life:?} reports {report:?}"));
        match report {
            Report::Ready => self.fact(Fact::Ready(conversation)),
            Report::Attempted { ticket, results } => {
                if let Some(talk) = self.talks.get_mut(&conversation) {
                    talk.carries = None;
                }
                self.fact(Fact::Attempted { ticket, conversation: Some(conversation), results });
            }
            Report::Ended { failure } => {
                self.talks.remove(&conversation);
                self.fact(Fact::ConversationEnded { conversation, failure });
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.dispatcher.poll() {
            self.perform(action);
        }
        let mut drained = Vec::new();
        for (id, shard) in &mut self.shards {
            let arriving = shard.floor.arriving.get();
            let differs = std::mem::replace(&mut shard.arriving, arriving) != arriving;
            let room = self.dispatcher.room(*id);
            let bound = self.here.world.config.shard_capacity * (1 + shard.floor.given_up.get());
            self.here.judge.holds(self.here.life, *id, self.dispatcher.held(*id) + arriving, bound);
            shard.floor.room.send_if_modified(|shown| std::mem::replace(shown, room) != room || differs);
            if shard.released.is_some() && self.dispatcher.held(*id) == 0 && arriving == 0 {
                drained.push(*id);
            }
        }
        for id in drained {
            self.dispatcher.handle(Fact::ShardLost(id), self.here.now());
            if let Some(released) = self.shards.remove(&id).and_then(|shard| shard.released) {
                drop(released.send(()));
            }
        }
    }

    fn perform(&mut self, action: Action) {
        let life = self.here.life;
        self.here.judge.hear(|| format!("{life:?} is to {action:?}"));
        match action {
            Action::Acquire { request, ask } => {
                let shard = LAYOUT.limit_shard(&ask.path.site);
                self.asked.insert(request, None);
                self.ask(shard, request, Question::Acquire(ask));
            }
            Action::Renew { request, permit, used, ask } => {
                let shard = LAYOUT.limit_shard(&ask.path.site);
                let of = |(_, talk): &(&Conversation, &Talk)| talk.permit == permit && talk.site == ask.path.site;
                let found = self.talks.iter().find(of).map(|(conversation, _)| *conversation);
                self.asked.extend(found.map(|conversation| (request, Some(conversation))));
                self.ask(shard, request, Question::Renew { permit, used, ask });
            }
            Action::Release { permit, path, used } => {
                self.granted.retain(|granted| granted.id != permit);
                give_back(&self.here, LAYOUT.limit_shard(&path.site), Question::Release { permit, used });
            }
            Action::Open { conversation, exchange, .. } if exchange.as_str().is_empty() => {
                self.granted.pop_front();
                let text = "the exchangers of this conversation are not known".to_owned();
                let failure = Some(Failure { scope: FailureScope::Ourselves, reply: None, text });
                self.fact(Fact::ConversationEnded { conversation, failure });
            }
            Action::Open { conversation, path, .. } => self.open(conversation, path.site),
            Action::Transmit { conversation, ticket, recipients } => self.transmit(conversation, ticket, recipients),
            Action::Close(conversation) => {
                if let Some(talk) = self.talks.get(&conversation) {
                    drop(talk.orders.send(Word::Close));
                }
            }
            Action::ReadBody(ticket) => self.read_body(ticket),
            Action::DropBody(ticket) => {
                if let Some(held) = self.held.get_mut(&ticket) {
                    held.dropped = true;
                }
            }
            Action::Settle { ticket, plan } => {
                let last = self.held.get(&ticket).and_then(|held| held.packet.envelope.state.last_reply.clone());
                self.settle(ticket, &plan.completed(last.as_ref()));
            }
            Action::HandBack(ticket) => {
                if let Some(held) = self.held.remove(&ticket) {
                    self.known.remove(&held.packet.id());
                    self.here.spool.hand_back(&held.token, Duration::ZERO);
                }
            }
        }
    }

    fn ask(&mut self, shard: ShardId, request: RequestId, question: Question) {
        if let Some(grant) = ask_here(&self.here, shard, &question) {
            return self.answered(request, grant);
        }
        let (here, inputs) = (self.here.clone(), self.inputs.clone());
        self.here.spawn(async move {
            let grant = ask_there(here, shard, question).await;
            drop(inputs.send(Input::Answered(request, grant)));
        });
    }

    fn answered(&mut self, request: RequestId, grant: Grant) {
        if let (Some(asked), Grant::Granted(permit)) = (self.asked.remove(&request), grant) {
            match asked {
                None => self.granted.push_back(permit),
                Some(conversation) => {
                    if let Some(talk) = self.talks.get_mut(&conversation) {
                        talk.permit = permit.id;
                        let until = self.here.world_time(permit.until);
                        self.here.judge.is_permitted(self.here.life, conversation, until);
                    }
                }
            }
        }
        self.fact(Fact::answered(request, grant));
    }

    fn open(&mut self, conversation: Conversation, site: SiteName) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let cut = CancellationToken::new();
        let permit = self.granted.pop_front().unwrap();
        self.talks.insert(
            conversation,
            Talk { permit: permit.id, site: site.clone(), orders, cut: cut.clone(), carries: None },
        );
        let about = (conversation, self.here.world_time(permit.until));
        let task = conversation::run(self.here.clone(), about, site, receiver, self.inputs.clone(), cut);
        self.here.spawn(task);
    }

    fn transmit(&mut self, conversation: Conversation, ticket: Ticket, recipients: u32) {
        let (Some(talk), Some(held)) = (self.talks.get_mut(&conversation), self.held.get(&ticket)) else { return };
        let Some(shard) = self.shards.get(&held.shard) else { return };
        self.here.judge.sends(self.here.life, &held.packet.envelope, self.here.now());
        let count = usize::try_from(recipients).unwrap();
        let job = conversation::Job {
            ticket,
            id: held.packet.id(),
            shard: held.shard,
            epoch: shard.floor.settlements.epoch,
            recipients: held.packet.envelope.state.pending.iter().copied().take(count).collect(),
            ordered: self.here.sim.now(),
        };
        talk.carries = Some(ticket);
        drop(talk.orders.send(Word::Transmit(job)));
    }

    fn read_body(&self, ticket: Ticket) {
        let Some(held) = self.held.get(&ticket) else { return };
        let (spool, inputs, body) = (self.here.spool.clone(), self.inputs.clone(), held.packet.body.clone());
        self.here.spawn(async move {
            let found = loop {
                // What was inline is read again where its record lies; it lies there until it is acknowledged.
                match spool.read_body(&body).await {
                    Some(found) => break found,
                    None => spool.sim.sleep(PAUSE).await,
                }
            };
            drop(inputs.send(Input::Body(ticket, found)));
        });
    }

    fn settle(&mut self, ticket: Ticket, plan: &Plan) {
        let Some(held) = self.held.remove(&ticket) else { return };
        let Some(shard) = self.shards.get(&held.shard) else { return };
        let settlements = shard.floor.settlements.clone();
        let id = held.packet.id();
        self.settling.insert(ticket, Settling { shard: held.shard, id, repeats: Vec::new() });
        let inputs = self.inputs.clone();
        let next = plan.next.clone();
        let record = stay(&held.packet, held.shard).turned(&held.site, plan, None, self.here.now());
        let body = (&held.packet.body).into();
        self.here.spawn(async move {
            let settle = Settle::new(SettlePlan { id, record: Some(record), body, next });
            let spilled = || drop(inputs.send(Input::Spilled(ticket)));
            match settlements.settle_telling(settle, held.token, held.packet, spilled).await {
                Ok(()) => drop(inputs.send(Input::Settled(ticket))),
                Err(Unfinished::Left) => drop(inputs.send(Input::LeftBehind(ticket))),
                Err(Unfinished::Lost) => {}
            }
        });
    }
}

/// A failure of the exchangers.
pub fn unreached(reply: Option<Reply>) -> Failure {
    Failure { scope: FailureScope::Exchange, reply, text: "nobody there".to_owned() }
}
