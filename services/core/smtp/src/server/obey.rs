//! What each command, each line of an AUTH dialogue and each end of a content leads to.

use postrider_model::EnhancedCode;

use super::auth::{self, Dialogue, Turn};
use super::command::{Command, Standing, Verb};
use super::content::{Content, Progress, Refusal};
use super::input::{Expected, Line};
use super::reply::Said;
use super::session::Hello;
use super::state::{Next, State, Subject};
use super::{Phase, Question, Server};

const LINE_TOO_LONG: Said = Said::new(500, 5, 5, 2, "Line too long");
const AUTH_LINE_TOO_LONG: Said = Said::new(500, 5, 5, 6, "Authentication exchange line is too long"); // RFC 4954 section 4
const BROKEN_LINE: Said = Said::new(500, 5, 5, 2, "Bare CR, bare LF or NUL: lines end in CRLF");
const RESET: Said = Said::new(250, 2, 0, 0, "Ok");
const NOTHING_DONE: Said = Said::new(250, 2, 0, 0, "Ok");
const NOT_VERIFIED: Said = Said::new(252, 2, 0, 0, "Cannot verify, but will take mail for it"); // RFC 5321 section 3.5.3
const HELP: Said = Said::new(214, 2, 0, 0, "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY STARTTLS AUTH QUIT: see RFC 5321");
const TLS_READY: Said = Said::new(220, 2, 0, 0, "Ready to start TLS");
const BROKEN_CONTENT: Said = Said::new(550, 5, 6, 0, "Message refused: bare CR, bare LF or NUL in its content");
const TOO_LARGE: Said = Said::new(552, 5, 3, 4, "Message size exceeds fixed maximum message size");
const LONG_TEXT_LINE: Said = Said::new(550, 5, 6, 0, "Message refused: a line of its content is too long");

impl Server {
    pub(super) fn obey(&mut self, line: &Line) -> State {
        self.tally.commands = self.tally.commands.saturating_add(1);
        if self.tally.commands > self.bounds.commands_per_session {
            return self.end(421, EnhancedCode(4, 7, 0), "Too many commands");
        }
        let range = match line {
            Line::Whole(range) => range,
            Line::TooLong => return self.protest(LINE_TOO_LONG),
            Line::Broken => return self.protest(BROKEN_LINE),
            Line::Endless => return self.end(421, EnhancedCode(4, 7, 0), "Line too long"),
        };
        let standing = Standing { config: &self.config, bounds: &self.bounds, session: &self.session };
        let (verb, command) = standing.read(self.input.text(range));
        match command {
            Ok(command) => self.perform(command),
            Err(said) => self.refuse(verb, said),
        }
    }

    fn perform(&mut self, command: Command) -> State {
        match command {
            Command::Mail { sender, parameters } => {
                let question = Question::Mail { sender: sender.clone(), parameters: parameters.clone() };
                State::asking(question, Subject::Mail { sender, parameters })
            }
            Command::Recipient(recipient) => {
                let question = Question::Recipient { recipient: recipient.clone() };
                State::asking(question, Subject::Recipient(recipient))
            }
            Command::Data => self.ask_for_room(),
            Command::Quit => self.end(221, EnhancedCode(2, 0, 0), "Bye"),
            Command::StartTls => self.agree_to_tls(),
            Command::Auth { mechanism, initial } => {
                let turn = Dialogue::begin(mechanism, initial.as_ref());
                self.turn(turn)
            }
            idle => self.idle(idle),
        }
    }

    /// Commands that carry no mail are bounded: they keep a connection busy for nothing.
    fn idle(&mut self, command: Command) -> State {
        self.tally.idle_commands = self.tally.idle_commands.saturating_add(1);
        if self.tally.idle_commands > self.bounds.idle_commands {
            return self.end(421, EnhancedCode(4, 7, 0), "Too many commands without a message");
        }
        match command {
            Command::Hello { name, extended } => {
                let question = Question::Hello { name: name.clone(), extended };
                State::asking(question, Subject::Hello(Hello { name, extended }))
            }
            Command::Reset => {
                self.session.reset();
                self.say(RESET)
            }
            Command::Verify => self.say(NOT_VERIFIED),
            Command::Help => self.say(HELP),
            _ => self.say(NOTHING_DONE),
        }
    }

    fn ask_for_room(&mut self) -> State {
        let transaction = self.session.transaction.as_ref();
        let recipients = transaction.map_or(0, |open| open.recipients.len());
        let declared_bytes = transaction.and_then(|open| open.parameters.size);
        State::asking(Question::Data { recipients, declared_bytes }, Subject::Data { declared_bytes })
    }

    /// RFC 3207 section 4.2 and CVE-2011-0411: what stands behind STARTTLS in plain text is an injection.
    fn agree_to_tls(&mut self) -> State {
        if !self.input.is_empty() {
            return self.end(421, EnhancedCode(4, 7, 0), "Input after STARTTLS");
        }
        self.output.say(TLS_READY);
        State::TlsAgreed
    }

    /// A refusal in the machine's own words.
    fn refuse(&mut self, verb: Option<Verb>, said: Said) -> State {
        if verb == Some(Verb::Mail) && self.session.transaction.is_none() {
            self.session.mail_refused = true;
        }
        let hello = matches!(verb, Some(Verb::Ehlo | Verb::Helo));
        if hello && !self.count_error() {
            self.output.plain(said.0, said.2);
            return State::Commands;
        }
        let follows_refused_mail = self.session.mail_refused && matches!(verb, Some(Verb::Rcpt | Verb::Data));
        let form_or_order = matches!(said.0, 500..=504 | 530 | 538 | 555);
        if form_or_order && !follows_refused_mail { self.protest(said) } else { self.say(said) }
    }

    /// Refuses what has no form or comes out of turn; too much of it ends the session.
    fn protest(&mut self, said: Said) -> State {
        if self.count_error() { self.end(421, EnhancedCode(4, 7, 0), "Too many errors") } else { self.say(said) }
    }

    /// Whether that was one too many.
    fn count_error(&mut self) -> bool {
        self.tally.errors = self.tally.errors.saturating_add(1);
        self.tally.errors > self.bounds.errors_per_session
    }

    pub(super) fn next_response(&mut self, dialogue: Dialogue) -> Next {
        let line = match self.input.next_line(Expected::Auth, &self.bounds) {
            None => return self.wait(State::Auth(dialogue), Phase::Auth),
            Some(line) => line,
        };
        Next::Go(match line {
            Line::Whole(range) => {
                let turn = dialogue.respond(self.input.text(&range));
                self.turn(turn)
            }
            Line::TooLong => self.protest(AUTH_LINE_TOO_LONG),
            Line::Broken => self.protest(BROKEN_LINE),
            Line::Endless => self.end(421, EnhancedCode(4, 7, 0), "Line too long"),
        })
    }

    /// One turn of an AUTH dialogue. Nothing may be pipelined behind it: who sends on without looking at the answer
    /// does not know what it will be taken for.
    fn turn(&mut self, turn: Turn) -> State {
        if !self.input.is_empty() {
            return self.end(421, EnhancedCode(4, 7, 0), "Input after AUTH");
        }
        match turn {
            Turn::Challenge(challenge, dialogue) => {
                self.output.plain(334, challenge);
                State::Auth(dialogue)
            }
            Turn::Credentials { mechanism, username, password } => {
                let subject = Subject::Authenticate { username: username.clone() };
                State::asking(Question::Authenticate { mechanism, username, password }, subject)
            }
            Turn::Refused(auth::NOT_GOOD) => self.refuse_credentials(&auth::NOT_GOOD.to_reply()),
            Turn::Refused(said) => self.protest(said),
        }
    }

    pub(super) fn next_content(&mut self, mut content: Content) -> Next {
        if self.input.is_empty() {
            return self.wait(State::Content(content), Phase::Data);
        }
        // What came in one piece with DATA; later pieces go to the content directly.
        let progress = content.receive(self.input.unread());
        match progress {
            Progress::More => {
                self.input.consume(usize::MAX);
                Next::Go(State::Content(content))
            }
            Progress::Ended { consumed } => {
                self.input.consume(consumed);
                Next::Go(self.content_ended(content))
            }
            Progress::Endless => Next::Go(self.endless_content()),
        }
    }

    /// What follows after `bytes` went to the content that the state still holds.
    pub(super) fn after_content(&mut self, progress: Progress, bytes: &[u8]) -> State {
        let State::Content(content) = std::mem::replace(&mut self.state, State::Closed) else { return State::Closed };
        match progress {
            Progress::More => State::Content(content),
            Progress::Ended { consumed } => {
                self.input.receive(bytes.get(consumed..).unwrap_or_default());
                self.content_ended(content)
            }
            Progress::Endless => self.endless_content(),
        }
    }

    fn endless_content(&mut self) -> State {
        self.session.reset();
        self.end(421, EnhancedCode(4, 7, 0), "Message without end")
    }

    fn content_ended(&mut self, content: Content) -> State {
        match content.finish() {
            Ok(message) => match self.session.submit(message) {
                Some(submission) => State::asking(Question::Message(submission), Subject::Message),
                None => State::Closed,
            },
            Err(refusal) => self.refuse_content(refusal),
        }
    }

    fn refuse_content(&mut self, refusal: Refusal) -> State {
        self.session.reset();
        match refusal {
            // Whoever sent this may mean another end than we do: nothing more is taken from this connection.
            Refusal::Broken => {
                self.output.say(BROKEN_CONTENT);
                self.input.clear();
                State::Ending
            }
            Refusal::TooLarge => self.say(TOO_LARGE),
            Refusal::LongLine => self.say(LONG_TEXT_LINE),
        }
    }
}
