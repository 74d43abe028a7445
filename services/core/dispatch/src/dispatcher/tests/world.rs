//! A world for the dispatcher: a shell that performs its actions when told to, a limit owner, a clock that is turned by
//! hand, and a judge that looks at every action. It stands for no particular exchanger: tests say what happens.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use postrider_model::{Class, EnvelopeId, MessageId, Move, Outcome, Reply, ShardId, Timestamp, WaitReason};

use crate::dispatcher::{
    Action, AttemptResult, Conversation, Dispatcher, DispatcherConfig, Entry, Exchange, Fact, Failure, FailureScope,
    Path, Plan, Source, Ticket,
};
use crate::limits::{Grant, LimitOwner, Shaping};
use crate::rules::Order;

pub const BULK: ShardId = ShardId { class: Class::Bulk, index: 0 };
pub const URGENT: ShardId = ShardId { class: Class::Transactional, index: 0 };

/// What the judge knows of an envelope.
pub struct Mail {
    pub entry: Entry,
    pub body_held: bool,
    pub in_flight: Option<Conversation>,
    /// How it ended, and how often (once is right).
    pub plan: Option<Plan>,
    pub handed_back: bool,
}

impl Mail {
    pub fn is_over(&self) -> bool {
        self.plan.is_some() || self.handed_back
    }
}

/// What the judge knows of a connection.
pub struct Link {
    pub path: Path,
    pub exchange: Exchange,
    pub greeted: bool,
    pub carries: Option<Ticket>,
}

/// What a path was sent within its window.
#[derive(Default)]
struct Sent {
    all: VecDeque<(Timestamp, u32)>,
    count: u32,
}

pub struct World {
    pub dispatcher: Dispatcher,
    pub owner: LimitOwner,
    pub shaping: Shaping,
    pub now: Timestamp,
    /// Actions that nobody has performed yet.
    pub todo: Vec<Action>,
    pub mails: BTreeMap<Ticket, Mail>,
    pub links: BTreeMap<Conversation, Link>,
    pub transmitted: Vec<Ticket>,
    pub lost: BTreeSet<Ticket>,
    sent: HashMap<Path, Sent>,
    next_ticket: u64,
}

pub fn reply(code: u16) -> Reply {
    Reply::new(code, None, "as you say")
}

pub fn failure(scope: FailureScope) -> Failure {
    Failure { scope, reply: None, text: "it failed".to_owned() }
}

impl World {
    pub fn new(config: DispatcherConfig, shaping: Shaping) -> Self {
        // The owner began long ago, so that its rates are not taken as used up.
        let owner = LimitOwner::new(shaping.clone(), 1, Timestamp::from_millis(1_000));
        let mut world = Self {
            dispatcher: Dispatcher::new(config, 1),
            owner,
            shaping,
            now: Timestamp::from_millis(1_000_000_000_000),
            todo: Vec::new(),
            mails: BTreeMap::new(),
            links: BTreeMap::new(),
            transmitted: Vec::new(),
            lost: BTreeSet::new(),
            sent: HashMap::new(),
            next_ticket: 0,
        };
        world.fact(Fact::ShardTaken(BULK));
        world.fact(Fact::ShardTaken(URGENT));
        world
    }

    pub fn simple() -> Self {
        Self::new(DispatcherConfig::default(), Shaping::default())
    }

    /// An envelope to one recipient, to be changed before it arrives.
    pub fn entry(&mut self, class: Class, tenant: &str, site: &str) -> Entry {
        self.next_ticket += 1;
        let number = self.next_ticket.to_be_bytes();
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number);
        Entry {
            ticket: Ticket(self.next_ticket),
            id: EnvelopeId { message: MessageId::new(self.now, random), part: 0, hop: 0 },
            shard: if class == Class::Bulk { BULK } else { URGENT },
            class,
            tenant: tenant.parse().unwrap(),
            site: site.parse().unwrap(),
            exchange: Exchange::new(site),
            source: Source::new("default"),
            pending: vec![0],
            size_bytes: 1_000,
            body_held: true,
            arrival: self.now,
            not_before: None,
            expiry: self.now.after(Duration::from_secs(4 * 86_400)),
            attempt: 0,
        }
    }

    pub fn arrive(&mut self, entry: Entry) -> Ticket {
        let ticket = entry.ticket;
        let body_held = entry.body_held;
        let mail = Mail { entry: entry.clone(), body_held, in_flight: None, plan: None, handed_back: false };
        self.mails.insert(ticket, mail);
        self.fact(Fact::Arrived(entry));
        ticket
    }

    pub fn arrive_under(&mut self, entry: Entry, order: Order) -> Ticket {
        let ticket = entry.ticket;
        let body_held = entry.body_held;
        let mail = Mail { entry: entry.clone(), body_held, in_flight: None, plan: None, handed_back: false };
        self.mails.insert(ticket, mail);
        self.fact(Fact::ArrivedUnder { entry, order });
        ticket
    }

    pub fn bulk(&mut self, tenant: &str, site: &str) -> Ticket {
        let entry = self.entry(Class::Bulk, tenant, site);
        self.arrive(entry)
    }

    pub fn urgent(&mut self, tenant: &str, site: &str) -> Ticket {
        let entry = self.entry(Class::Transactional, tenant, site);
        self.arrive(entry)
    }

    pub fn fact(&mut self, fact: Fact) {
        self.dispatcher.handle(fact, self.now);
        while let Some(action) = self.dispatcher.poll() {
            self.judge(&action);
            if let Action::Transmit { conversation, ticket, .. } = action {
                self.judge_order(conversation, ticket);
            }
            self.todo.push(action);
        }
    }

    /// Turns the clock without telling anybody.
    pub fn turn_clock(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    /// Lets time pass as the dispatcher would have it: it is woken whenever it wants to be.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(wake) = self.dispatcher.wake_at().filter(|&wake| wake <= end) {
            self.now = self.now.max(wake);
            self.fact(Fact::Tick);
            self.perform_all();
        }
        self.now = end;
    }

    /// Looks at an action before anybody performs it.
    fn judge(&mut self, action: &Action) {
        match action {
            Action::Open { conversation, path, exchange, ticket } => {
                assert!(!self.mails[ticket].is_over());
                let link = Link { path: path.clone(), exchange: exchange.clone(), greeted: false, carries: None };
                assert!(self.links.insert(*conversation, link).is_none(), "a conversation is opened twice");
            }
            Action::Transmit { conversation, ticket, recipients } => {
                self.judge_transmit(*conversation, *ticket, *recipients)
            }
            Action::Settle { ticket, plan } => self.judge_settle(*ticket, plan),
            Action::HandBack(ticket) => {
                assert!(!self.lost.contains(ticket));
                let mail = self.mails.get_mut(ticket).unwrap();
                assert!(!mail.is_over() && mail.in_flight.is_none(), "{ticket:?} is handed back too late");
                mail.handed_back = true;
            }
            Action::ReadBody(ticket) => assert!(!self.mails[ticket].body_held && !self.lost.contains(ticket)),
            Action::DropBody(ticket) => {
                let mail = self.mails.get_mut(ticket).unwrap();
                assert!(mail.body_held && mail.in_flight.is_none() && !mail.is_over() && !self.lost.contains(ticket));
                mail.body_held = false;
            }
            Action::Acquire { .. } | Action::Renew { .. } | Action::Release { .. } | Action::Close(_) => {}
        }
    }

    fn judge_transmit(&mut self, conversation: Conversation, ticket: Ticket, recipients: u32) {
        let link = self.links.get_mut(&conversation).unwrap();
        let mail = self.mails.get_mut(&ticket).unwrap();
        assert!(!self.lost.contains(&ticket));
        assert!(link.greeted && link.carries.is_none(), "{conversation:?} is not ready");
        assert!(mail.body_held, "{ticket:?} is transmitted without its body");
        assert!(!mail.is_over() && mail.in_flight.is_none(), "{ticket:?} is transmitted twice");
        assert!(link.path == mail.entry.path() && link.exchange == mail.entry.exchange);
        assert!(mail.entry.expiry > self.now && mail.entry.not_before.is_none_or(|time| time <= self.now));
        assert!((1..=mail.entry.cost()).contains(&recipients));
        link.carries = Some(ticket);
        mail.in_flight = Some(conversation);
        self.transmitted.push(ticket);
        if let Some(rate) = self.shaping.of(&link.path.site).message_rate {
            let sent = self.sent.entry(link.path.clone()).or_default();
            sent.all.push_back((self.now, recipients));
            sent.count += recipients;
            while let Some((_, gone)) = sent.all.pop_front_if(|(time, _)| time.after(rate.window()) <= self.now) {
                sent.count -= gone;
            }
            assert!(sent.count <= rate.count(), "{} recipients within a window of {rate}", sent.count);
        }
    }

    /// No bulk goes over a lane where transactional mail waits.
    fn judge_order(&self, conversation: Conversation, ticket: Ticket) {
        let talk = self.dispatcher.conversations.get(&conversation);
        let lane = talk.and_then(|talk| self.dispatcher.lanes.lane(talk.lane));
        let urgent_waits = lane.is_some_and(|lane| lane.queues[Class::Transactional].len() > 0);
        let is_bulk = self.mails[&ticket].entry.class == Class::Bulk;
        assert!(!is_bulk || !urgent_waits, "{ticket:?} goes before transactional mail");
    }

    fn judge_settle(&mut self, ticket: Ticket, plan: &Plan) {
        assert!(!self.lost.contains(&ticket), "{ticket:?} is forgotten");
        let mail = self.mails.get_mut(&ticket).unwrap();
        assert!(!mail.is_over(), "{ticket:?} is settled twice");
        let of_plan: Vec<u32> = plan.outcomes.iter().map(|(index, _, _)| *index).collect();
        assert_eq!(of_plan, mail.entry.pending, "an outcome for each pending recipient");
        let open: Vec<u32> =
            plan.outcomes.iter().filter(|(_, outcome, _)| !outcome.is_terminal()).map(|(index, _, _)| *index).collect();
        match &plan.next {
            Move::Tier { until, pending, attempt, .. } => {
                assert_eq!(*pending, open, "what is pending goes on");
                assert!(*until < mail.entry.expiry, "no tier ends after the expiry");
                assert_eq!(*attempt, mail.entry.attempt + u32::from(plan.attempted));
            }
            Move::Finished | Move::Dead { .. } => assert!(open.is_empty(), "nobody is left behind: {open:?}"),
            Move::Hold { .. } => {}
            Move::Site { .. } => panic!("the dispatcher knows no other site"),
        }
        mail.plan = Some(plan.clone());
    }

    /// No connection of a path exceeds its limit, by the dispatcher's own count and by the owner's.
    pub fn judge_connections(&self) {
        let mut permitted: HashMap<&Path, u32> = HashMap::new();
        for (conversation, link) in &self.links {
            let talk = self.dispatcher.conversations.get(conversation);
            if talk.is_some_and(|talk| talk.permit.until > self.now) {
                *permitted.entry(&link.path).or_default() += 1;
            }
        }
        for (path, count) in permitted {
            let most = self.shaping.of(&path.site).connections;
            assert!(count <= most && self.owner.connections(path) <= most, "{count} connections of {path}");
        }
    }

    pub fn forget_shard(&mut self, shard: ShardId) {
        let lost = self.mails.iter().filter(|(_, mail)| mail.entry.shard == shard).map(|(ticket, _)| *ticket);
        self.lost.extend(lost.collect::<Vec<_>>());
        self.fact(Fact::ShardLost(shard));
    }

    /// Performs everything there is to do, again and again, as a world does in which all goes well.
    pub fn perform_all(&mut self) {
        for _ in 0..100_000 {
            if self.todo.is_empty() {
                return;
            }
            let action = self.todo.remove(0);
            self.perform_well(action);
        }
        panic!("it never comes to rest");
    }

    pub fn perform_well(&mut self, action: Action) {
        match action {
            Action::Transmit { conversation, ticket, .. } => {
                self.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
                self.fact(Fact::Ready(conversation));
            }
            Action::Open { conversation, .. } => self.greet(conversation),
            Action::Close(conversation) => self.end(conversation, None),
            other => self.perform(other),
        }
    }

    pub fn greet(&mut self, conversation: Conversation) {
        if let Some(link) = self.links.get_mut(&conversation) {
            link.greeted = true;
            self.fact(Fact::Ready(conversation));
        }
    }

    pub fn end(&mut self, conversation: Conversation, failure: Option<Failure>) {
        if let Some(link) = self.links.remove(&conversation) {
            if let Some(mail) = link.carries.and_then(|ticket| self.mails.get_mut(&ticket)) {
                mail.in_flight = None;
            }
            self.fact(Fact::ConversationEnded { conversation, failure });
        }
    }

    pub fn attempted(&mut self, conversation: Conversation, ticket: Ticket, result: impl Fn(u32) -> AttemptResult) {
        let Some(link) = self.links.get_mut(&conversation).filter(|link| link.carries == Some(ticket)) else { return };
        link.carries = None;
        let mail = self.mails.get_mut(&ticket).unwrap();
        mail.in_flight = None;
        let results = mail.entry.pending.iter().map(|&index| (index, result(index))).collect();
        self.fact(Fact::Attempted { ticket, conversation: Some(conversation), results });
    }

    /// The actions between which a world has no choice.
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Acquire { request, ask } => {
                let fence = self.now.after(Duration::from_secs(15));
                let grant = self.owner.acquire(&ask, self.now, fence);
                self.answer(request, grant);
            }
            Action::Renew { request, permit, used, ask } => {
                let fence = self.now.after(Duration::from_secs(15));
                let grant = self.owner.renew(permit, used, &ask, self.now, fence);
                self.answer(request, grant);
            }
            Action::Release { permit, used, .. } => self.owner.release(permit, used, self.now),
            Action::ReadBody(ticket) => {
                let mail = self.mails.get_mut(&ticket).unwrap();
                mail.body_held = true;
                let bytes = mail.entry.size_bytes;
                self.fact(Fact::BodyRead { ticket, bytes });
            }
            Action::Settle { ticket, .. } => self.fact(Fact::Settled(ticket)),
            Action::DropBody(_) | Action::HandBack(_) => {}
            Action::Open { .. } | Action::Transmit { .. } | Action::Close(_) => unreachable!("the world chooses"),
        }
    }

    fn answer(&mut self, request: crate::dispatcher::RequestId, grant: Grant) {
        self.fact(match grant {
            Grant::Granted(permit) => Fact::Granted { request, permit },
            Grant::Wait { until, reason } => Fact::Waiting { request, until, reason },
        });
    }

    /// Performs all but opening, transmitting and closing; those are left to the test.
    pub fn perform_dull(&mut self) {
        loop {
            let is_dull =
                |action: &Action| !matches!(action, Action::Open { .. } | Action::Transmit { .. } | Action::Close(_));
            let Some(at) = self.todo.iter().position(is_dull) else { return };
            let action = self.todo.remove(at);
            self.perform(action);
        }
    }

    /// Takes the first open out of what is to be done.
    pub fn opened(&mut self) -> Option<(Conversation, Ticket)> {
        self.perform_dull();
        let at = self.todo.iter().position(|action| matches!(action, Action::Open { .. }))?;
        match self.todo.remove(at) {
            Action::Open { conversation, ticket, .. } => Some((conversation, ticket)),
            _ => None,
        }
    }

    /// Takes the first transmission out of what is to be done.
    pub fn transmission(&mut self) -> Option<(Conversation, Ticket)> {
        self.perform_dull();
        let at = self.todo.iter().position(|action| matches!(action, Action::Transmit { .. }))?;
        match self.todo.remove(at) {
            Action::Transmit { conversation, ticket, .. } => Some((conversation, ticket)),
            _ => None,
        }
    }

    /// Takes the first close out of what is to be done.
    pub fn closed(&mut self) -> Option<Conversation> {
        self.perform_dull();
        let at = self.todo.iter().position(|action| matches!(action, Action::Close(_)))?;
        match self.todo.remove(at) {
            Action::Close(conversation) => Some(conversation),
            _ => None,
        }
    }

    pub fn reason(&self, ticket: Ticket) -> Option<WaitReason> {
        let message = self.mails[&ticket].entry.id.message;
        self.dispatcher.waiting(&message, self.now).first().map(|part| part.reason)
    }

    /// The reason, the wait in seconds, and whether it was an attempt, of a settled envelope's tier.
    pub fn moved(&self, ticket: Ticket) -> Option<(WaitReason, u64, bool)> {
        let plan = self.mails[&ticket].plan.as_ref()?;
        match &plan.next {
            Move::Tier { reason, until, .. } => Some((*reason, until.since(self.now).as_secs(), plan.attempted)),
            Move::Finished | Move::Site { .. } | Move::Hold { .. } | Move::Dead { .. } => None,
        }
    }

    pub fn outcomes(&self, ticket: Ticket) -> Vec<Outcome> {
        let plan = self.mails[&ticket].plan.as_ref();
        plan.map(|plan| plan.outcomes.iter().map(|(_, outcome, _)| *outcome).collect()).unwrap_or_default()
    }
}
