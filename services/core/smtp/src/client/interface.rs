//! What goes into the client machine and what comes out of it. Only types: nothing here decides.

use std::time::Duration;

use bytes::Bytes;
use postrider_model::{Domain, Mailbox, Reply, ReversePath};

/// How a client introduces itself and what it insists on.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The name for EHLO, HELO or LHLO.
    pub ehlo_name: Domain,
    /// Speak LMTP (RFC 2033).
    pub lmtp: bool,
    /// What to do about STARTTLS.
    pub tls: TlsWish,
}

/// What to do about STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsWish {
    /// Speak plain text even if TLS is offered (or TLS is on already).
    Never,
    /// TLS where it is offered; plain text if it is not, or if the offer is taken back with a 4xx or 5xx.
    Opportunistic,
    /// TLS or nothing.
    Required,
}

/// One message for one or more recipients.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The reverse path.
    pub sender: ReversePath,
    /// The caller's number of each recipient, given back with its result, and its address.
    pub recipients: Vec<(u32, Mailbox)>,
    /// The content holds octets above 127: BODY=8BITMIME is said where it is offered; sent as it is where not.
    pub eight_bit: bool,
    /// The content needs SMTPUTF8. Addresses that need it are seen by the machine.
    pub smtputf8: bool,
    /// The content, unstuffed: every line ends in CRLF (a missing last one is added). A content with a bare CR, a bare LF
    /// or a NUL is not sent: its recipients are refused with 550 5.6.0.
    pub message: Bytes,
}

/// The one next thing the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Write all of it, within the timeout of [`crate::Client::phase`]. A short message and its end come in one; a long
    /// one comes in blocks, the last of them with the end. If writing fails, hand in what can still be read and call
    /// [`crate::Client::end_of_stream`].
    Send(Bytes),
    /// Do the TLS handshake, then call [`crate::Client::tls_started`] or [`crate::Client::tls_failed`].
    StartTls,
    /// Read once within [`ClientPhase::timeout`].
    Read {
        /// The reply that is waited for.
        phase: ClientPhase,
    },
    /// Connected, greeted, idle: [`crate::Client::transact`] or [`crate::Client::quit`].
    Ready,
    /// What became of the transaction. `Ready` or `Close` follows.
    Done(TransactionResult),
    /// Close the socket. Every further step says the same.
    Close(CloseReason),
}

/// Which reply a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientPhase {
    /// The greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// Nothing: between transactions.
    Idle,
    /// RSET.
    Rset,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    DataCommand,
    /// Nothing: the content is being sent.
    DataBlock,
    /// The end of the content.
    DataEnd,
    /// QUIT.
    Quit,
}

impl ClientPhase {
    /// How long to wait: RFC 5321 section 4.5.3.2, and what is sensible where it is silent.
    pub const fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::Greeting | Self::Ehlo | Self::Idle | Self::Mail | Self::Rcpt => 300,
            Self::StartTls | Self::DataCommand | Self::Rset => 120,
            Self::DataBlock => 180,
            Self::DataEnd => 600,
            Self::Quit => 10,
        })
    }

    /// The phase in a few words, for logs and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Idle => "idle",
            Self::Rset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::DataCommand => "DATA",
            Self::DataBlock => "content",
            Self::DataEnd => "end of data",
            Self::Quit => "QUIT",
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionResult {
    /// One result per recipient, in the order and with the numbers of the transaction.
    pub recipients: Vec<(u32, RecipientResult)>,
    /// The connection may carry another transaction; if not, `Close` follows.
    pub usable: bool,
}

/// What became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientResult {
    /// The server has taken the message for this recipient.
    Accepted(Reply),
    /// Refused by the server, or by this machine where the outcome is certain without asking.
    Refused {
        /// By the reply to which command.
        phase: ClientPhase,
        /// The reply; a 552 to RCPT appears as 452 (RFC 5321 section 4.5.3.1.10).
        reply: Reply,
    },
    /// No reply that could be understood: a temporary failure of this connection.
    Lost {
        /// The reply that was waited for.
        phase: ClientPhase,
        /// The end of the content was on its way: the server may have taken the message.
        after_end_of_data: bool,
        /// What happened.
        why: String,
    },
}

/// Why a connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// We said QUIT.
    Finished,
    /// The server does not want to talk: a negative greeting or EHLO, or 421 at any time.
    Refused {
        /// When.
        phase: ClientPhase,
        /// What it said.
        reply: Reply,
    },
    /// TLS is required, but not offered or refused.
    NoTls {
        /// What the server said to STARTTLS, if it was asked.
        reply: Option<Reply>,
    },
    /// The handshake failed. Without need of TLS the caller may connect again with [`TlsWish::Never`].
    TlsFailed,
    /// The server broke the protocol.
    Protocol {
        /// When.
        phase: ClientPhase,
        /// How.
        why: String,
    },
    /// The connection ended by itself.
    Lost {
        /// When.
        phase: ClientPhase,
    },
    /// No reply in time.
    TimedOut {
        /// When.
        phase: ClientPhase,
    },
}
