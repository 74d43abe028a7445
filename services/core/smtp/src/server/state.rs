//! The states of a session and how one leads to the next. Only types: each is entered in one place of its own.

use postrider_model::{Mailbox, ReversePath};

use super::auth::Dialogue;
use super::content::Content;
use super::session::Hello;
use super::{MailParameters, Question, ServerStep};

/// Where a session stands.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing was said yet.
    Opening,
    /// A command is next.
    Commands,
    /// A question is to be put.
    Asking(Box<Question>, Subject),
    /// It was put.
    Asked(Subject),
    /// Amid an AUTH dialogue.
    Auth(Dialogue),
    /// Amid the content of a message.
    Content(Content),
    /// 220 to STARTTLS.
    TlsAgreed,
    /// The driver does the handshake.
    Handshake,
    /// Last words.
    Ending,
    /// It is over.
    Closed,
}

impl State {
    pub(super) fn asking(question: Question, subject: Subject) -> Self {
        Self::Asking(Box::new(question), subject)
    }
}

/// What a verdict will be about.
#[derive(Debug)]
pub(super) enum Subject {
    Hello(Hello),
    Authenticate { username: String },
    Mail { sender: ReversePath, parameters: MailParameters },
    Recipient(Mailbox),
    Data { declared_bytes: Option<u64> },
    Message,
}

impl Subject {
    /// Passwords may be looked up, messages are written somewhere; the others are decided from memory.
    pub(super) fn may_take_long(&self) -> bool {
        match self {
            Self::Authenticate { .. } | Self::Message => true,
            Self::Hello(_) | Self::Mail { .. } | Self::Recipient(_) | Self::Data { .. } => false,
        }
    }
}

/// Where a state leads.
#[derive(Debug)]
pub(super) enum Next {
    /// On at once.
    Go(State),
    /// On after the gathered replies are sent.
    Flush(State),
    /// On after the driver has done this.
    Stop(State, ServerStep),
}
