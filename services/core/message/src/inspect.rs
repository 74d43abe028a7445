//! What a message says about itself, as far as accepting it depends on it. Reads the header only; judges nothing.

mod author;
pub use author::AuthorError;

use std::ops::Range;

use mail_parser::parsers::MessageStream;
use postrider_model::Mailbox;
use thiserror::Error;

use crate::header::{Header, headers};

/// The longest header that is accepted, in bytes.
pub const HEADER_BYTES: usize = 256 * 1024;

/// The longest Message-ID that is read: a line of RFC 5322 section 2.1.1.
const MESSAGE_ID_BYTES: usize = 998;

/// Why a message is not looked into.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// The header is longer than [`HEADER_BYTES`].
    #[error("the header is longer than {limit} bytes")]
    HeaderTooLong {
        /// The bound.
        limit: usize,
    },
}

/// The fields by which a submitter chooses class, campaign and pool; taken out before the message goes on. Of a field that
/// occurs several times the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `X-Postrider-Class`.
    pub class: Option<String>,
    /// `X-Postrider-Campaign`.
    pub campaign: Option<String>,
    /// `X-Postrider-Pool`.
    pub pool: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The addresses of all From fields that could be read, groups dissolved; see [`Inspection::author`].
    pub from: Vec<Mailbox>,
    /// How many From fields there are.
    pub from_headers: usize,
    /// Whether a From field holds something that is no address.
    pub from_unreadable: bool,
    /// The Message-ID without brackets, if there is a field that is not empty.
    pub message_id: Option<String>,
    /// Whether there is a Message-ID field, empty or not.
    pub has_message_id: bool,
    /// Whether there is a Date field.
    pub has_date: bool,
    /// How many Received fields there are: a message with more than a hundred is in a loop (RFC 5321 section 6.3).
    pub received_count: usize,
    /// What the submitter chooses.
    pub directives: Directives,
    /// Where the fields of [`Directives`] stand, in order.
    pub directive_ranges: Vec<Range<usize>>,
    /// Where the header ends: at the empty line, at the first line that is no field, or at the end of the message.
    pub header_end: usize,
    /// Whether the header ends at a line that is neither empty nor a field: the body begins without an empty line.
    pub separator_missing: bool,
}

/// Looks into the header of `message`.
///
/// # Errors
/// [`MessageError::HeaderTooLong`].
pub fn inspect(message: &[u8]) -> Result<Inspection, MessageError> {
    let mut found = Inspection::default();
    let mut fields = headers(message);
    for field in fields.by_ref() {
        if field.range().end > HEADER_BYTES {
            return Err(MessageError::HeaderTooLong { limit: HEADER_BYTES });
        }
        found.note(&field);
    }
    found.header_end = fields.position();
    let rest = message.get(found.header_end..).unwrap_or_default();
    found.separator_missing = !(rest.is_empty() || rest.starts_with(b"\r\n") || rest.starts_with(b"\n"));
    Ok(found)
}

impl Inspection {
    fn note(&mut self, field: &Header<'_>) {
        if field.is("From") {
            self.from_headers += 1;
            author::read(field, self);
        } else if field.is("Message-ID") {
            self.has_message_id = true;
            self.message_id = self.message_id.take().or_else(|| message_id(&field.value()));
        } else if field.is("Date") {
            self.has_date = true;
        } else if field.is("Received") {
            self.received_count += 1;
        } else if let Some(slot) = self.directives.slot(field) {
            slot.get_or_insert_with(|| decoded(field));
            self.directive_ranges.push(field.range());
        }
    }
}

impl Directives {
    fn slot(&mut self, field: &Header<'_>) -> Option<&mut Option<String>> {
        if field.is("X-Postrider-Class") {
            Some(&mut self.class)
        } else if field.is("X-Postrider-Campaign") {
            Some(&mut self.campaign)
        } else if field.is("X-Postrider-Pool") {
            Some(&mut self.pool)
        } else {
            None
        }
    }
}

/// The text of an unstructured field with its encoded words (RFC 2047) decoded: mail libraries write a campaign with an
/// umlaut that way.
fn decoded(field: &Header<'_>) -> String {
    let value = field.value();
    if !value.contains("=?") {
        return value.into_owned();
    }
    let line = format!("{value}\r\n");
    MessageStream::new(line.as_bytes()).parse_unstructured().as_text().map_or_else(|| value.into_owned(), str::to_owned)
}

/// What stands between the brackets, or all of it if there are none.
fn message_id(value: &str) -> Option<String> {
    let inner = value.split_once('<').map_or(value, |(_, rest)| rest.split_once('>').map_or(rest, |(id, _)| id));
    let inner = inner.trim();
    let bounded = inner.get(..inner.floor_char_boundary(MESSAGE_ID_BYTES)).unwrap_or_default();
    (!bounded.is_empty()).then(|| bounded.chars().filter(|c| !c.is_control()).collect())
}
