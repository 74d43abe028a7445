//! The server's side of a session as a machine: bytes and verdicts in, steps out. It never reads a socket or a clock and
//! decides nothing that is policy.

mod interface;
pub use interface::{
    AuthOffer, MailParameters, Mechanism, Phase, Question, ServerConfig, ServerStep, Submission, TlsOffer, Verdict,
};

use postrider_model::Reply;

use crate::Bounds;

/// One session of an SMTP server.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    bounds: Bounds,
}

impl Server {
    /// A session that has not begun. The first step sends the greeting.
    pub fn new(config: ServerConfig, bounds: Bounds) -> Self {
        Self { config, bounds }
    }

    /// Hands in what was read after [`ServerStep::Read`]. Bytes handed in before the first step are those of an early
    /// talker, who is turned away with 554.
    pub fn receive(&mut self, bytes: &[u8]) {
        let _ = (bytes, &self.config, &self.bounds);
    }

    /// The one next thing to do.
    pub fn step(&mut self) -> ServerStep {
        ServerStep::Close
    }

    /// Answers the question that [`ServerStep::Ask`] put. A step taken before the answer counts as refusal with 451.
    pub fn answer(&mut self, verdict: Verdict) {
        drop(verdict);
    }

    /// The handshake that [`ServerStep::StartTls`] asked for has succeeded: the session begins anew (RFC 3207).
    pub fn tls_started(&mut self) {}

    /// Ends the session with 421 4.3.2 at the next safe point: a message on its way is received and answered first. Step
    /// again after this, also while a read is pending.
    pub fn shut_down(&mut self) {}

    /// Ends the session with `reply` (in place of the greeting, if that is still due) at the next safe point, as
    /// [`Server::shut_down`] does.
    pub fn turn_away(&mut self, reply: Reply) {
        drop(reply);
    }

    /// The client said nothing in time: 421 4.4.2 and close.
    pub fn timed_out(&mut self) {}

    /// The client closed its side.
    pub fn end_of_stream(&mut self) {}

    /// Memory this session holds for unread commands, an unfinished message and unsent replies.
    pub fn buffered_bytes(&self) -> usize {
        0
    }
}
