//! The client's side of a session as a machine: replies and transactions in, steps out. It never opens a socket, reads a
//! clock or retries.

mod interface;
pub use interface::{
    ClientConfig, ClientPhase, ClientStep, CloseReason, RecipientResult, TlsWish, Transaction, TransactionResult,
};

mod capabilities;
pub use capabilities::Capabilities;

mod opening;
use opening::Hello;

mod open_transaction;
use open_transaction::{Meaning, Need, OpenTransaction};

mod blocks;

mod reply;
use reply::{RawReply, Replies};

use std::collections::VecDeque;

use bytes::Bytes;
use postrider_model::Reply;

use crate::Bounds;

/// One connection of an SMTP or LMTP client (RFC 5321, RFC 2033).
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    bounds: Bounds,
    state: State,
    capabilities: Capabilities,
    tls: bool,
    replies: Replies,
    /// A command on its way out.
    outgoing: Option<Bytes>,
    /// Results that were not yet told.
    done: VecDeque<TransactionResult>,
    /// RSET is due before the next MAIL.
    reset_due: bool,
    /// The connection has ended; what was received before still counts.
    ended: Option<Ended>,
}

/// Where a connection stands.
#[derive(Debug)]
enum State {
    Greeting,
    Hello(Hello),
    StartTls,
    /// 220 to STARTTLS.
    TlsAgreed,
    /// The driver does the handshake.
    Handshake,
    Ready,
    InTransaction(Box<OpenTransaction>),
    Quitting,
    /// QUIT is on its way to a server whose answer does not matter.
    Parting(CloseReason),
    Closed(CloseReason),
}

#[derive(Clone, Copy, Debug)]
enum Ended {
    Lost,
    TimedOut,
}

impl Ended {
    fn reason(self, phase: ClientPhase) -> CloseReason {
        match self {
            Self::Lost => CloseReason::Lost { phase },
            Self::TimedOut => CloseReason::TimedOut { phase },
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "connection lost",
            Self::TimedOut => "timed out",
        }
    }
}

impl Client {
    /// A client on a connection that was just made.
    pub fn new(config: ClientConfig, bounds: Bounds) -> Self {
        Self {
            config,
            bounds,
            state: State::Greeting,
            capabilities: Capabilities::default(),
            tls: false,
            replies: Replies::default(),
            outgoing: None,
            done: VecDeque::new(),
            reset_due: false,
            ended: None,
        }
    }

    /// Hands in what was read, after [`ClientStep::Read`] or at any other time but between [`ClientStep::StartTls`] and
    /// the end of the handshake.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Parting(_) | State::Closed(_)) {
            self.replies.receive(bytes);
        }
    }

    /// The one next thing to do.
    pub fn step(&mut self) -> ClientStep {
        loop {
            if let Some(result) = self.done.pop_front() {
                return ClientStep::Done(result);
            }
            if let (Some(bytes), None) = (self.outgoing.take(), self.ended) {
                return ClientStep::Send(bytes);
            }
            if let Some(step) = self.advance() {
                return step;
            }
        }
    }

    /// Sends a message. Only at [`ClientStep::Ready`]; at another time its recipients are lost at once.
    pub fn transact(&mut self, transaction: Transaction) {
        let mut open = OpenTransaction::new(transaction, &self.capabilities, self.config.lmtp, self.reset_due);
        if matches!(self.state, State::Ready) && self.ended.is_none() {
            self.state = State::InTransaction(Box::new(open));
            return;
        }
        open.lose("the connection is not ready for a message");
        self.done.push_back(open.into_result(false));
    }

    /// The handshake that [`ClientStep::StartTls`] asked for has succeeded: everything learnt before is forgotten (RFC
    /// 3207 section 4.2).
    pub fn tls_started(&mut self) {
        if !matches!(self.state, State::Handshake) {
            return;
        }
        if !self.replies.is_empty() {
            return self.break_off("plain text between STARTTLS and the handshake");
        }
        self.tls = true;
        self.capabilities = Capabilities::default();
        self.say_hello();
    }

    /// The handshake failed.
    pub fn tls_failed(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.state = State::Closed(CloseReason::TlsFailed);
        }
    }

    /// The server closed its side, or writing failed.
    pub fn end_of_stream(&mut self) {
        self.ended.get_or_insert(Ended::Lost);
    }

    /// The reply, or room for writing, did not come in time.
    pub fn timed_out(&mut self) {
        self.ended.get_or_insert(Ended::TimedOut);
    }

    /// Says QUIT. Only at [`ClientStep::Ready`]; at another time the connection is given up without it.
    pub fn quit(&mut self) {
        match self.state {
            State::Ready => self.ask("QUIT".to_owned(), State::Quitting),
            State::Closed(_) => {}
            _ => self.close(CloseReason::Finished, "the connection was given up"),
        }
    }

    /// Which reply is waited for, or what is being sent.
    pub fn phase(&self) -> ClientPhase {
        match &self.state {
            State::Greeting => ClientPhase::Greeting,
            State::Hello(_) => ClientPhase::Ehlo,
            State::StartTls | State::TlsAgreed | State::Handshake => ClientPhase::StartTls,
            State::Ready | State::Closed(_) => ClientPhase::Idle,
            State::InTransaction(open) => open.phase(),
            State::Quitting | State::Parting(_) => ClientPhase::Quit,
        }
    }

    /// What the server said it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether TLS was started by this machine.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// One move; `None` if it led to another state.
    fn advance(&mut self) -> Option<ClientStep> {
        match &self.state {
            State::Closed(reason) => return Some(ClientStep::Close(reason.clone())),
            State::Parting(reason) => {
                self.state = State::Closed(reason.clone());
                return None;
            }
            State::TlsAgreed => {
                self.state = State::Handshake;
                return Some(ClientStep::StartTls);
            }
            State::Handshake => {
                self.tls_failed();
                return None;
            }
            _ => {}
        }
        match self.replies.next_reply(&self.bounds) {
            Err(nonsense) => self.break_off(nonsense.as_str()),
            Ok(Some(raw)) => self.hear(&raw),
            Ok(None) => return self.go_on(),
        }
        None
    }

    /// Nothing has been said that was not heard.
    fn go_on(&mut self) -> Option<ClientStep> {
        let phase = self.phase();
        if matches!(&self.state, State::InTransaction(open) if open.is_over()) {
            self.finish_transaction();
            return None;
        }
        if let Some(ended) = self.ended {
            let reason = match self.state {
                State::Quitting => CloseReason::Finished,
                _ => ended.reason(phase),
            };
            self.close(reason, ended.as_str());
            return None;
        }
        Some(match &mut self.state {
            State::InTransaction(open) => match open.need() {
                Need::Send(bytes) => ClientStep::Send(bytes),
                Need::Reply(phase) => ClientStep::Read { phase },
            },
            State::Ready => ClientStep::Ready,
            _ => ClientStep::Read { phase },
        })
    }

    fn finish_transaction(&mut self) {
        if let State::InTransaction(open) = std::mem::replace(&mut self.state, State::Ready) {
            self.reset_due = open.leaves_open();
            self.done.push_back(open.into_result(self.ended.is_none()));
        }
    }

    fn hear(&mut self, raw: &RawReply) {
        match &mut self.state {
            State::InTransaction(open) => match open.hear(raw) {
                Meaning::Continue => {}
                Meaning::Goodbye(phase, reply) => self.turn_away(phase, reply),
                Meaning::Nonsense(phase, why) => {
                    let told = why.clone();
                    self.close(CloseReason::Protocol { phase, why }, &told);
                }
            },
            State::Quitting => self.state = State::Closed(CloseReason::Finished),
            _ if raw.code == 421 => {
                self.turn_away(self.phase(), raw.to_reply());
            }
            State::Ready => self.break_off("the server spoke out of turn"),
            State::Greeting => self.hear_greeting(raw),
            State::Hello(hello) => {
                let hello = *hello;
                self.hear_hello(hello, raw);
            }
            State::StartTls => self.hear_start_tls(raw),
            State::TlsAgreed | State::Handshake | State::Parting(_) | State::Closed(_) => {}
        }
    }

    /// Sends a command. Whoever answers before he was asked is not understood (NO STARTTLS, 2021).
    fn ask(&mut self, command: String, state: State) {
        self.state = state;
        if !self.replies.is_empty() {
            return self.listen_out_of_turn();
        }
        self.outgoing = Some(Bytes::from(command + "\r\n"));
    }

    fn listen_out_of_turn(&mut self) {
        match self.replies.next_reply(&self.bounds) {
            Ok(Some(raw)) if raw.code == 421 => self.hear(&raw),
            _ => self.break_off("the server spoke out of turn"),
        }
    }

    fn turn_away(&mut self, phase: ClientPhase, reply: Reply) {
        self.close(CloseReason::Refused { phase, reply }, "the server closed the connection");
    }

    fn break_off(&mut self, why: &str) {
        let phase = self.phase();
        self.close(CloseReason::Protocol { phase, why: why.to_owned() }, why);
    }

    /// Closes; whoever has no result yet is lost.
    fn close(&mut self, reason: CloseReason, why: &str) {
        self.outgoing = None;
        if let State::InTransaction(mut open) = std::mem::replace(&mut self.state, State::Closed(reason)) {
            open.lose(why);
            self.done.push_back(open.into_result(false));
        }
    }
}
