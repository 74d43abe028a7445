//! Performs the dispatcher's actions: each starts something whose end comes back as an input.

use std::net::IpAddr;
use std::time::Duration;

use postrider_dispatch::dispatcher::{
    Action, Conversation, Exchange, Fact, Failure, FailureScope, Plan, RequestId, Ticket,
};
use postrider_dispatch::limits::{Grant, Path};
use postrider_dispatch::settle::{BodyState, Settle, SettlePlan};
use postrider_model::{Body, Move, Outcome, ShardId};
use postrider_nats::{BodyError, Spool};
use postrider_proto::Packet;
use postrider_runtime::clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Input, Settling, Talk, Worker, is_extra};
use crate::conversation::{ConversationTask, Job, Order};
use crate::held::{Held, Loaded};
use crate::limits::{Question, decode_answer, encode_question};
use crate::settlement::{ShardIsLost, Unfinished};

/// The owner of a limit answers within this time, or is taken for absent.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

pub(super) const fn scope(scope: FailureScope) -> &'static str {
    match scope {
        FailureScope::Exchange => "exchange",
        FailureScope::Source => "source",
        FailureScope::Ourselves => "ourselves",
    }
}

impl Worker {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Acquire { request, ask } => {
                let shard = self.limit_shard(&ask.path);
                self.ask(shard, request, Question::Acquire(ask));
            }
            Action::Renew { request, permit, used, ask } => {
                let shard = self.limit_shard(&ask.path);
                self.ask(shard, request, Question::Renew { permit, used, ask });
            }
            Action::Release { permit, path, used } => self.give_back(&path, Question::Release { permit, used }),
            Action::Open { conversation, path: _, exchange, ticket } => self.open(conversation, &exchange, ticket),
            Action::Transmit { conversation, ticket, recipients } => self.transmit(conversation, ticket, recipients),
            Action::Close(conversation) => {
                if let Some(talk) = self.talks.get(&conversation) {
                    // A conversation that has ended by itself says so in its last report.
                    drop(talk.orders.send(Order::Close));
                }
            }
            Action::ReadBody(ticket) => self.read_body(ticket),
            Action::DropBody(ticket) => self.drop_body(ticket),
            Action::Settle { ticket, plan } => self.settle(ticket, plan),
            Action::HandBack(ticket) => {
                if let Some(mut held) = self.held.remove(&ticket) {
                    self.unload(&mut held);
                    tokio::spawn(held.handle.hand_back());
                }
            }
        }
    }

    fn limit_shard(&self, path: &Path) -> ShardId {
        self.tools.spool.layout().limit_shard(&path.site)
    }

    fn ask(&mut self, shard: ShardId, request: RequestId, question: Question) {
        let now = clock::now();
        if self.tools.limits.owns(shard) {
            let grant = self.tools.limits.answer(shard, &question, now).unwrap_or_else(|| Grant::unanswered(now));
            self.dispatcher.handle(Fact::answered(request, grant), now);
            return;
        }
        let (spool, inputs) = (self.tools.spool.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let grant = match spool.ask_limit(shard, encode_question(&question), ANSWER_WITHIN).await {
                Ok(answer) => {
                    decode_answer(answer, now).ok().flatten().unwrap_or_else(|| Grant::unanswered(clock::now()))
                }
                Err(error) => {
                    tracing::debug!(%shard, %error, "the owner of a limit does not answer");
                    Grant::unanswered(clock::now())
                }
            };
            // The worker ends only with the process.
            drop(inputs.send(Input::Answered(request, grant)).await);
        });
    }

    fn give_back(&self, path: &Path, question: Question) {
        let shard = self.limit_shard(path);
        if self.tools.limits.owns(shard) {
            self.tools.limits.answer(shard, &question, clock::now());
            return;
        }
        let spool = self.tools.spool.clone();
        tokio::spawn(async move {
            if let Err(error) = spool.ask_limit(shard, encode_question(&question), ANSWER_WITHIN).await {
                tracing::debug!(%shard, %error, "a permit could not be given back; it ends by itself");
            }
        });
    }

    fn open(&mut self, conversation: Conversation, exchange: &Exchange, ticket: Ticket) {
        let plan = self.held.get(&ticket).and_then(|held| held.plan.clone());
        let Some(plan) = plan.filter(|plan| &**plan.exchange_key() == exchange.as_str()) else {
            let text = "the exchangers of this conversation are not known".to_owned();
            let failure = Some(Failure { scope: FailureScope::Ourselves, reply: None, text });
            self.dispatcher.handle(Fact::ConversationEnded { conversation, failure }, clock::now());
            return;
        };
        let (orders, receiver) = mpsc::unbounded_channel();
        let cut = CancellationToken::new();
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let task = ConversationTask {
            conversation,
            plan,
            source: self.tools.source,
            source_name: source_name(self.tools.source),
            seed: self.seed,
            connector: self.tools.connector.clone(),
            finisher: self.tools.finisher.clone(),
            fence: self.tools.fence.clone(),
            orders: receiver,
            reports: self.reports.clone(),
            cut: cut.clone(),
        };
        self.talks.insert(conversation, Talk { orders, cut, opened_for: ticket, carries: None });
        self.tools.metrics.conversations.set(i64::try_from(self.talks.len()).unwrap_or(i64::MAX));
        tokio::spawn(task.run());
    }

    fn transmit(&mut self, conversation: Conversation, ticket: Ticket, recipients: u32) {
        let (Some(talk), Some(held)) = (self.talks.get_mut(&conversation), self.held.get(&ticket)) else { return };
        let Some(Loaded { packet, message }) = held.loaded.as_deref() else { return };
        let envelope = packet.envelope();
        if held.first {
            self.tools.metrics.first_attempt(envelope.class, clock::now().since(envelope.arrival));
        }
        let count = usize::try_from(recipients).unwrap_or(usize::MAX);
        let job = Job {
            ticket,
            recipients: envelope.state.pending.iter().copied().take(count).collect(),
            envelope: envelope.clone(),
            body: packet.body().clone(),
            message: message.clone(),
        };
        talk.carries = Some(ticket);
        // If the conversation has just ended, its last report tells the dispatcher that the ticket was lost.
        drop(talk.orders.send(Order::Transmit(Box::new(job))));
    }

    fn read_body(&self, ticket: Ticket) {
        let Some(held) = self.held.get(&ticket) else { return };
        let (spool, inputs, mut packet) = (self.tools.spool.clone(), self.inputs.clone(), held.packet().cloned());
        let (shard, sequence) = (held.shard, held.sequence);
        tokio::spawn(async move {
            let mut pause = Duration::from_millis(100);
            let read = loop {
                match load(&spool, shard, sequence, &mut packet).await {
                    Err(BodyError::Unavailable(error)) => tracing::warn!(error, "cannot read a body yet; trying again"),
                    read => break read,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            };
            // The worker ends only with the process.
            drop(inputs.send(Input::Body(ticket, read)).await);
        });
    }

    fn drop_body(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.get_mut(&ticket) {
            held.loaded = None;
        }
    }

    fn settle(&mut self, ticket: Ticket, plan: Plan) {
        let Some(mut held) = self.held.remove(&ticket) else { return };
        let loaded = held.loaded.take();
        if loaded.as_ref().is_some_and(|loaded| is_extra(loaded)) {
            self.extra -= 1;
        }
        let Some(shard) = self.shards.get(&held.shard) else { return };
        self.count(&held, &plan);
        let settlements = shard.floor.settlements.clone();
        self.settling.insert(ticket, Settling { shard: held.shard, repeats: Vec::new(), passing: None });
        let inputs = self.inputs.clone();
        let now = clock::now();
        tokio::spawn(async move {
            let packet = match loaded {
                Some(loaded) => Some(loaded.packet),
                None => match settlements.reread(held.shard, held.sequence).await {
                    Ok(packet) => packet,
                    Err(ShardIsLost) => return,
                },
            };
            let settled = match packet {
                Some(packet) => {
                    let plan = plan.completed(packet.envelope().state.last_reply.as_ref());
                    let record = held.record(&packet, &plan, now);
                    let body = BodyState::from(packet.body());
                    let settle = SettlePlan { id: record.id, record: Some(record), body, next: plan.next };
                    // On the heap: the task of a settle is moved about before it runs, and there is one for every message.
                    let spilled = {
                        let inputs = inputs.clone();
                        move || drop(tokio::spawn(async move { inputs.send(Input::Spilled(ticket)).await }))
                    };
                    let settle = Settle::new(settle);
                    Box::pin(settlements.settle_telling(settle, held.handle, packet, spilled)).await
                }
                None => Ok(()),
            };
            let input = match settled {
                Ok(()) => Input::Settled(ticket),
                Err(Unfinished::Left) => Input::LeftBehind(ticket),
                Err(Unfinished::Lost) => return,
            };
            // The worker ends only with the process.
            drop(inputs.send(input).await);
        });
    }

    fn count(&self, held: &Held, plan: &Plan) {
        let class = held.shard.class;
        for (_, outcome, reply) in &plan.outcomes {
            self.tools.metrics.recipient(*outcome, class, &held.site);
            if let Some(reply) = reply.as_ref().filter(|reply| !reply.is_positive()) {
                self.tools.metrics.reply(&held.site, reply);
            }
            if *outcome == Outcome::Delivered {
                self.tools.metrics.delivered(class, clock::now().since(held.arrival));
            }
        }
        let kind = match &plan.next {
            Move::Finished => "finished",
            Move::Tier { tier, .. } => tier.as_str(),
            Move::Site { .. } => "site",
            Move::Hold { .. } => "hold",
            Move::Dead { .. } => "dead",
        };
        self.tools.metrics.moved(kind, class);
    }
}

fn source_name(source: Option<IpAddr>) -> String {
    crate::held::source_of(source).to_string()
}

/// Reads what an envelope's turn takes: its packet, if it was dropped, and its body, if that is stored.
async fn load(
    spool: &Spool,
    shard: ShardId,
    sequence: u64,
    packet: &mut Option<Packet>,
) -> Result<Box<Loaded>, BodyError> {
    let read = match packet.take() {
        Some(packet) => packet,
        None => spool.reread_packet(shard, sequence).await?,
    };
    let message = match read.body() {
        Body::Inline { .. } => None,
        body => match spool.read_body(body).await {
            Ok(message) => Some(message),
            Err(error) => {
                *packet = Some(read);
                return Err(error);
            }
        },
    };
    Ok(Box::new(Loaded { packet: read.detached(), message }))
}
