//! What goes into the server machine and what comes out of it. Only types: nothing here decides.

use bytes::Bytes;
use postrider_model::{Domain, Mailbox, Reply, ReversePath};

use crate::Secret;

/// What one listener offers. The size limit and every other bound stand in [`crate::Bounds`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The name in greeting and replies, and the domain of a bare `<postmaster>`.
    pub host_name: Domain,
    /// What follows the name in the greeting, for instance `ESMTP Postrider`.
    pub banner: String,
    /// Whether TLS is absent, offered, or already on.
    pub tls: TlsOffer,
    /// When passwords may be sent.
    pub auth: AuthOffer,
    /// Refuse MAIL with 530 5.7.0 until the client has authenticated (RFC 6409 section 4.3).
    pub require_auth: bool,
    /// Refuse everything but EHLO, HELO, NOOP, STARTTLS and QUIT with 530 5.7.0 until TLS is on (RFC 3207 section 4).
    pub require_tls: bool,
    /// Offer SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

impl ServerConfig {
    /// A listener that offers neither TLS nor AUTH and demands nothing.
    pub fn new(host_name: Domain) -> Self {
        Self {
            host_name,
            banner: "ESMTP Postrider".to_owned(),
            tls: TlsOffer::None,
            auth: AuthOffer::Never,
            require_auth: false,
            require_tls: false,
            smtputf8: true,
        }
    }
}

/// How a connection comes by TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    /// Not at all.
    None,
    /// By the STARTTLS command (RFC 3207).
    StartTls,
    /// It was on before the first byte (RFC 8314).
    Implicit,
}

/// When AUTH is offered (RFC 4954).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOffer {
    /// Never.
    Never,
    /// Once TLS is on; before that it is refused with 538 5.7.11.
    OnlyOverTls,
    /// Over plain text too.
    Always,
}

/// The one next thing the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// Write all of it.
    Send(Bytes),
    /// Decide, then call [`crate::Server::answer`].
    Ask(Question),
    /// Do the TLS handshake on the socket, then call [`crate::Server::tls_started`]; close the socket if it fails.
    StartTls,
    /// Read once, at most so long as befits the phase.
    Read {
        /// What is waited for.
        phase: Phase,
    },
    /// Close the socket. Every further step says the same.
    Close,
}

/// What the machine waits for: the driver chooses the deadline by it (RFC 5321 section 4.5.3.2.7: 5 minutes at least).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The first command after the greeting.
    Greeting,
    /// A command.
    Command,
    /// A line of an AUTH dialogue.
    Auth,
    /// The content of a message.
    Data,
}

/// What the machine cannot decide by itself. Owned, so that it may be answered elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// EHLO or HELO. `Accept` greets back.
    Hello {
        /// What the client calls itself: printable, without spaces, unverified.
        name: String,
        /// EHLO.
        extended: bool,
    },
    /// AUTH: are these credentials good? Refuse with 535 5.7.8, or 454 4.7.0 if nobody can say.
    Authenticate {
        /// By which mechanism they came.
        mechanism: Mechanism,
        /// Not empty, without NUL.
        username: String,
        /// Not empty, without NUL.
        password: Secret,
    },
    /// MAIL: may this sender send?
    Mail {
        /// The reverse path.
        sender: ReversePath,
        /// What else was said.
        parameters: MailParameters,
    },
    /// RCPT: may mail go there?
    Recipient {
        /// The forward path without source route; a bare `<postmaster>` is ours.
        recipient: Mailbox,
    },
    /// DATA: is there room for the content now? Nothing of it has been read yet.
    Data {
        /// Recipients accepted so far, at least one.
        recipients: usize,
        /// The size that the client declared, at most the bound.
        declared_bytes: Option<u64>,
    },
    /// The whole message is here. `Accept` or `AcceptWith` says the 250 that makes it ours: durable before that.
    Message(Submission),
}

/// A mechanism of AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// Never a standard, always there.
    Login,
}

impl Mechanism {
    /// The name in the protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// Parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE= (RFC 1870), never above the bound.
    pub size: Option<u64>,
    /// BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// AUTH= decoded from xtext (RFC 4954 section 5); `<>` is kept as it is. A claim of the client, no proof.
    pub auth: Option<String>,
}

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The reverse path.
    pub sender: ReversePath,
    /// Those that were accepted, in order, repeats included; never empty.
    pub recipients: Vec<Mailbox>,
    /// Parameters of MAIL.
    pub parameters: MailParameters,
    /// The content, unstuffed. Every line ends in CRLF; there is no other CR, no other LF and no NUL.
    pub message: Bytes,
    /// The name given with EHLO or HELO.
    pub hello: String,
    /// EHLO, so ESMTP.
    pub extended: bool,
    /// Whether TLS was on.
    pub tls: bool,
    /// Who authenticated.
    pub authenticated: Option<String>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, in the machine's words.
    Accept,
    /// Yes, in these words (2xx; anything else counts as a refusal).
    AcceptWith(Reply),
    /// No (4xx or 5xx; anything else becomes 451).
    Refuse(Reply),
    /// Say this and close the connection (421, or another 4xx or 5xx; anything else becomes 421).
    Close(Reply),
}
