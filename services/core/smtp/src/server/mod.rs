//! The server's side of a session as a machine: bytes and verdicts in, steps out. It never reads a socket or a clock and
//! decides nothing that is policy.

mod interface;
pub use interface::{
    AuthOffer, MailParameters, Mechanism, Phase, Question, ServerConfig, ServerStep, Submission, TlsOffer, Verdict,
};

mod state;
use state::{Next, State};

mod session;
use session::Session;

mod input;
use input::{Expected, Input};

mod command;
mod path;

mod auth;
mod content;
mod obey;
mod verdict;

mod reply;
use reply::{Output, Said};

use postrider_model::{EnhancedCode, Reply};

use crate::Bounds;

/// Replies that wait for company leave at this size.
const FULL_OUTPUT_BYTES: usize = 16 << 10;

/// One session of an SMTP server (RFC 5321).
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    bounds: Bounds,
    state: State,
    session: Session,
    input: Input,
    output: Output,
    tally: Tally,
    /// To be said, instead of whatever would be next, at the next safe point.
    farewell: Option<Reply>,
}

/// What is counted against the bounds.
#[derive(Debug, Default)]
struct Tally {
    commands: u32,
    idle_commands: u32,
    errors: u32,
    auth_failures: u32,
}

impl Server {
    /// A session that has not begun. The first step sends the greeting.
    pub fn new(config: ServerConfig, bounds: Bounds) -> Self {
        let session = Session { tls: config.tls == TlsOffer::Implicit, ..Session::default() };
        Self {
            config,
            bounds,
            state: State::Opening,
            session,
            input: Input::default(),
            output: Output::default(),
            tally: Tally::default(),
            farewell: None,
        }
    }

    /// Hands in what was read after [`ServerStep::Read`]. Bytes handed in before the first step are those of an early
    /// talker, who is turned away with 554.
    pub fn receive(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Ending | State::Closed => {}
            State::Content(content) if self.input.is_empty() => {
                let progress = content.receive(bytes);
                self.state = self.after_content(progress, bytes);
            }
            _ => self.input.receive(bytes),
        }
    }

    /// The one next thing to do.
    pub fn step(&mut self) -> ServerStep {
        loop {
            if self.output.len() >= FULL_OUTPUT_BYTES {
                return ServerStep::Send(self.output.take());
            }
            let state = std::mem::replace(&mut self.state, State::Closed);
            match self.advance(state) {
                Next::Go(state) => self.state = state,
                Next::Flush(state) => {
                    self.state = state;
                    return ServerStep::Send(self.output.take());
                }
                Next::Stop(state, step) => {
                    self.state = state;
                    return step;
                }
            }
        }
    }

    /// Answers the question that [`ServerStep::Ask`] put. A step taken before the answer counts as refusal with 451.
    pub fn answer(&mut self, verdict: Verdict) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Asked(subject) => self.state = self.settle(subject, verdict),
            other => self.state = other,
        }
    }

    /// The handshake that [`ServerStep::StartTls`] asked for has succeeded: the session begins anew (RFC 3207 section
    /// 4.2). What came in plain text after the command would be taken for protected: then the connection is closed.
    pub fn tls_started(&mut self) {
        self.state = match self.state {
            State::Handshake if self.input.is_empty() => State::Commands,
            _ => State::Closed,
        };
        self.session.begin_anew_over_tls();
    }

    /// Ends the session with 421 4.3.2 at the next safe point: a message on its way is received and answered first. Step
    /// again after this, also while a read is pending.
    pub fn shut_down(&mut self) {
        let text = format!("{} Service shutting down, try again", self.config.host_name);
        self.turn_away(Reply::new(421, Some(EnhancedCode(4, 3, 2)), &text));
    }

    /// Ends the session with `reply` (in place of the greeting, if that is still due) at the next safe point, as
    /// [`Server::shut_down`] does.
    pub fn turn_away(&mut self, reply: Reply) {
        self.farewell.get_or_insert(closing(reply));
    }

    /// The client said nothing in time: 421 4.4.2 and close (RFC 5321 section 4.5.3.2).
    pub fn timed_out(&mut self) {
        if !matches!(self.state, State::Ending | State::Closed | State::Handshake) {
            self.state = self.end(421, EnhancedCode(4, 4, 2), "Timeout, closing connection");
        }
    }

    /// The client closed its side. What it left unfinished is dropped (RFC 5321 section 4.1.1.10).
    pub fn end_of_stream(&mut self) {
        self.state = State::Closed;
    }

    /// Memory this session holds for unread commands, an unfinished message and unsent replies.
    pub fn buffered_bytes(&self) -> usize {
        let content = match &self.state {
            State::Content(content) => content.held_bytes(),
            _ => 0,
        };
        content + self.input.held_bytes() + self.output.held_bytes()
    }

    fn advance(&mut self, state: State) -> Next {
        match state {
            State::Opening => Next::Go(self.open()),
            State::Commands => self.next_command(),
            State::Asking(question, subject) => {
                // What takes long must not hold back earlier replies; the rest is answered at once.
                if subject.may_take_long() && !self.output.is_empty() {
                    return Next::Flush(State::Asking(question, subject));
                }
                Next::Stop(State::Asked(subject), ServerStep::Ask(*question))
            }
            State::Asked(subject) => {
                let unanswered = Reply::new(451, Some(EnhancedCode(4, 3, 0)), "Requested action aborted: local error");
                Next::Go(self.settle(subject, Verdict::Refuse(unanswered)))
            }
            State::Auth(dialogue) => match self.farewell.take() {
                Some(reply) => Next::Go(self.part_with(&reply)),
                None => self.next_response(dialogue),
            },
            State::Content(content) => self.next_content(content),
            State::TlsAgreed if !self.output.is_empty() => Next::Flush(State::TlsAgreed),
            State::TlsAgreed => Next::Stop(State::Handshake, ServerStep::StartTls),
            State::Ending if !self.output.is_empty() => Next::Flush(State::Ending),
            State::Handshake | State::Ending | State::Closed => Next::Stop(State::Closed, ServerStep::Close),
        }
    }

    /// The greeting (RFC 5321 section 3.1), or a refusal in its place.
    fn open(&mut self) -> State {
        let host_name = self.config.host_name.as_str();
        if !self.input.is_empty() {
            // Section 3.1: the client waits for the greeting. Those who don't are no mail servers.
            self.output.plain(554, &format!("{host_name} You talked before you were greeted"));
            return State::Ending;
        }
        if let Some(reply) = self.farewell.take() {
            self.output.plain(reply.code, &reply.text);
            return State::Ending;
        }
        self.output.plain(220, &format!("{host_name} {}", self.config.banner));
        State::Commands
    }

    fn next_command(&mut self) -> Next {
        if let Some(reply) = self.farewell.take() {
            return Next::Go(self.part_with(&reply));
        }
        match self.input.next_line(Expected::Command, &self.bounds) {
            Some(line) => Next::Go(self.obey(&line)),
            None => {
                let phase = if self.tally.commands == 0 { Phase::Greeting } else { Phase::Command };
                self.wait(State::Commands, phase)
            }
        }
    }

    /// Everything that was to be said is said, then the client's turn.
    fn wait(&mut self, state: State, phase: Phase) -> Next {
        if self.output.is_empty() { Next::Stop(state, ServerStep::Read { phase }) } else { Next::Flush(state) }
    }

    fn part_with(&mut self, reply: &Reply) -> State {
        self.output.reply(reply);
        State::Ending
    }

    /// Ends the session in the machine's own words, with its name (RFC 5321 section 4.2.3).
    fn end(&mut self, code: u16, enhanced: EnhancedCode, text: &str) -> State {
        let reply = Reply { code, enhanced: Some(enhanced), text: format!("{} {text}", self.config.host_name) };
        self.part_with(&reply)
    }

    /// A reply after which the session goes on.
    fn say(&mut self, said: Said) -> State {
        self.output.say(said);
        State::Commands
    }
}

/// A reply that closes a connection is negative: 421 if it says something else.
fn closing(reply: Reply) -> Reply {
    if (400..600).contains(&reply.code) { reply } else { Reply { code: 421, ..reply } }
}
