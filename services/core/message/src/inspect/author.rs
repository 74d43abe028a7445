//! The header From: who a message says it is from (RFC 5322 section 3.6.2). Everything in it must be an address; what a
//! reader could take for another author than we did makes it unreadable.

use mail_parser::parsers::MessageStream;
use mail_parser::{Address, HeaderValue};
use postrider_model::Mailbox;
use thiserror::Error;

use super::Inspection;
use crate::header::Header;

/// Why a message has no author that could be checked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorError {
    /// No From field.
    #[error("the message has no From field")]
    Missing,
    /// More than one From field.
    #[error("the message has more than one From field")]
    Repeated,
    /// A From field without an address, or with something that is none.
    #[error("the From field of the message holds something that is no address")]
    Unreadable,
}

impl Inspection {
    /// The addresses of the header From if there is exactly one such field and every one of them could be read.
    ///
    /// # Errors
    /// An [`AuthorError`] says what is wrong with it.
    pub fn author(&self) -> Result<&[Mailbox], AuthorError> {
        match self.from_headers {
            0 => Err(AuthorError::Missing),
            1 if self.from_unreadable || self.from.is_empty() => Err(AuthorError::Unreadable),
            1 => Ok(&self.from),
            _ => Err(AuthorError::Repeated),
        }
    }
}

/// Reads one From field into `found`.
pub(super) fn read(field: &Header<'_>, found: &mut Inspection) {
    let mut line = field.raw_value().to_vec();
    if !line.ends_with(b"\n") {
        line.extend_from_slice(b"\r\n");
    }
    let value = MessageStream::new(&line).parse_address();
    let HeaderValue::Address(addresses) = value else {
        found.from_unreadable = true;
        return;
    };
    let all: Vec<_> = match &addresses {
        Address::List(list) => list.iter().collect(),
        Address::Group(groups) => groups.iter().flat_map(|group| &group.addresses).collect(),
    };
    for address in all {
        match address.address.as_deref().map(str::parse) {
            Some(Ok(mailbox)) => found.from.push(mailbox),
            Some(Err(_)) | None => found.from_unreadable = true,
        }
    }
}
