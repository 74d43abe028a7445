//! What each answer of the driver leads to.

use postrider_model::{EnhancedCode, Reply};

use super::content::Content;
use super::reply::Said;
use super::session::{Hello, Transaction};
use super::state::{State, Subject};
use super::{Server, TlsOffer, Verdict, closing};

const AUTHENTICATED: Said = Said::new(235, 2, 7, 0, "Authentication successful");
const SENDER_OK: Said = Said::new(250, 2, 1, 0, "Ok");
const RECIPIENT_OK: Said = Said::new(250, 2, 1, 5, "Ok");
const MESSAGE_OK: Said = Said::new(250, 2, 0, 0, "Ok");
const GO_AHEAD: &str = "End data with <CR><LF>.<CR><LF>";

/// A verdict whose reply says what the verdict says.
enum Ruling {
    Yes(Option<Reply>),
    No(Reply),
    Close(Reply),
}

impl Ruling {
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Yes(None),
            Verdict::AcceptWith(reply) if reply.is_positive() => Self::Yes(Some(reply)),
            Verdict::AcceptWith(reply) | Verdict::Refuse(reply) => Self::No(refusing(reply)),
            Verdict::Close(reply) => Self::Close(closing(reply)),
        }
    }
}

/// A refusal never looks like consent.
fn refusing(reply: Reply) -> Reply {
    if (400..600).contains(&reply.code) { reply } else { Reply { code: 451, ..reply } }
}

impl Server {
    pub(super) fn settle(&mut self, subject: Subject, verdict: Verdict) -> State {
        match Ruling::of(verdict) {
            Ruling::Yes(reply) => self.accept(subject, reply.as_ref()),
            Ruling::No(reply) => self.turn_down(subject, &reply),
            Ruling::Close(reply) => self.part_with(&reply),
        }
    }

    fn accept(&mut self, subject: Subject, reply: Option<&Reply>) -> State {
        match subject {
            Subject::Hello(hello) => self.greet_back(hello, reply),
            Subject::Authenticate { username } => {
                self.session.authenticated = Some(username);
                self.say_or(reply, AUTHENTICATED)
            }
            Subject::Mail { sender, parameters } => {
                self.session.reset();
                self.session.transaction = Some(Transaction::new(sender, parameters));
                self.say_or(reply, SENDER_OK)
            }
            Subject::Recipient(recipient) => {
                if let Some(open) = &mut self.session.transaction {
                    open.recipients.push(recipient);
                }
                self.say_or(reply, RECIPIENT_OK)
            }
            Subject::Data { declared_bytes } => {
                self.output.plain(354, GO_AHEAD);
                State::Content(Content::new(&self.bounds, declared_bytes))
            }
            Subject::Message => {
                self.tally.idle_commands = 0;
                self.tally.errors = 0;
                self.say_or(reply, MESSAGE_OK)
            }
        }
    }

    fn turn_down(&mut self, subject: Subject, reply: &Reply) -> State {
        match subject {
            // RFC 2034 section 4: no enhanced code here. Section 4.1.4 of RFC 5321: the state stays what it was.
            Subject::Hello(_) => {
                self.output.plain(reply.code, &reply.text);
                return State::Commands;
            }
            Subject::Authenticate { .. } => return self.refuse_credentials(reply),
            Subject::Mail { .. } => self.session.mail_refused = true,
            Subject::Recipient(_) => {
                if let Some(open) = &mut self.session.transaction {
                    open.any_refused = true;
                }
            }
            Subject::Data { .. } | Subject::Message => {}
        }
        self.output.reply(reply);
        State::Commands
    }

    /// Wrong credentials are counted: guessing is for those who have many connections.
    pub(super) fn refuse_credentials(&mut self, reply: &Reply) -> State {
        if reply.is_permanent() {
            self.tally.auth_failures = self.tally.auth_failures.saturating_add(1);
        }
        if self.tally.auth_failures > self.bounds.auth_failures_per_session {
            return self.end(421, EnhancedCode(4, 7, 0), "Too many failed authentications");
        }
        self.output.reply(reply);
        State::Commands
    }

    fn say_or(&mut self, reply: Option<&Reply>, said: Said) -> State {
        match reply {
            Some(reply) => self.output.reply(reply),
            None => self.output.say(said),
        }
        State::Commands
    }

    /// A greeting back: RFC 5321 section 4.1.1.1. It ends an open transaction (section 4.1.4).
    fn greet_back(&mut self, hello: Hello, reply: Option<&Reply>) -> State {
        let extended = hello.extended;
        self.session.reset();
        self.session.hello = Some(hello);
        let greeting = match reply {
            Some(reply) => format!("{} {}", self.config.host_name, reply.text),
            None => self.config.host_name.to_string(),
        };
        if extended {
            self.announce(&greeting);
        } else {
            self.output.plain(250, &greeting);
        }
        State::Commands
    }

    fn announce(&mut self, greeting: &str) {
        let size = format!("SIZE {}", self.bounds.message_bytes);
        let offered = [
            (greeting, true),
            ("PIPELINING", true),
            (&size, true),
            ("8BITMIME", true),
            ("SMTPUTF8", self.config.smtputf8),
            ("STARTTLS", self.config.tls == TlsOffer::StartTls && !self.session.tls),
            ("AUTH PLAIN LOGIN", self.offers_auth()),
            ("ENHANCEDSTATUSCODES", true),
        ];
        let lines: Vec<&str> = offered.iter().filter(|(_, offered)| *offered).map(|(line, _)| *line).collect();
        self.output.plain_lines(250, &lines);
    }

    fn offers_auth(&self) -> bool {
        let standing = super::command::Standing { config: &self.config, bounds: &self.bounds, session: &self.session };
        standing.offers_auth() && self.session.authenticated.is_none()
    }
}
