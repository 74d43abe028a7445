//! What a session has agreed on so far, and the transaction that is open in it.

use bytes::Bytes;
use postrider_model::{Mailbox, ReversePath};

use super::{MailParameters, Submission};

/// The session between greeting and goodbye.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) hello: Option<Hello>,
    pub(super) tls: bool,
    pub(super) authenticated: Option<String>,
    pub(super) transaction: Option<Transaction>,
    /// MAIL was refused: what a pipelining client sent after it is out of order through no fault of its own.
    pub(super) mail_refused: bool,
}

/// How the client introduced itself.
#[derive(Clone, Debug)]
pub(super) struct Hello {
    pub(super) name: String,
    pub(super) extended: bool,
}

/// From MAIL to the end of the content.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) sender: ReversePath,
    pub(super) parameters: MailParameters,
    pub(super) recipients: Vec<Mailbox>,
    pub(super) any_refused: bool,
}

impl Transaction {
    pub(super) fn new(sender: ReversePath, parameters: MailParameters) -> Self {
        Self { sender, parameters, recipients: Vec::new(), any_refused: false }
    }
}

impl Session {
    /// EHLO was said, not HELO.
    pub(super) fn extended(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.extended)
    }

    /// No transaction is open, none was refused.
    pub(super) fn reset(&mut self) {
        self.transaction = None;
        self.mail_refused = false;
    }

    /// TLS is on: nothing said before counts any more (RFC 3207 section 4.2).
    pub(super) fn begin_anew_over_tls(&mut self) {
        *self = Self { tls: true, ..Self::default() };
    }

    /// The open transaction with its content becomes a submission.
    pub(super) fn submit(&mut self, message: Bytes) -> Option<Submission> {
        let Transaction { sender, parameters, recipients, .. } = self.transaction.take()?;
        let Hello { name, extended } = self.hello.clone()?;
        Some(Submission {
            sender,
            recipients,
            parameters,
            message,
            hello: name,
            extended,
            tls: self.tls,
            authenticated: self.authenticated.clone(),
        })
    }
}
