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

/// A message with more Received fields than this is in a loop (RFC 5321 section 6.3).
pub const MOST_RECEIVED: usize = 100;

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
    /// How many Received fields there are.
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
    /// Whether the message has passed through so many servers that it must be in a loop.
    pub fn is_looping(&self) -> bool {
        self.received_count > MOST_RECEIVED
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn of(message: &str) -> Inspection {
        inspect(message.as_bytes()).unwrap()
    }

    #[test]
    fn names_of_fields_are_known_in_any_case() {
        let found = of("DATE: x\r\nmessage-id: <1@a>\r\nReCeIvEd: y\r\nreceived: z\r\nFROM: a@b.example\r\n\r\n");
        assert!(found.has_date && found.has_message_id);
        assert_eq!((found.received_count, found.from_headers), (2, 1));
    }

    #[test]
    fn a_message_that_passed_through_more_than_a_hundred_servers_is_looping() {
        assert!(!of(&format!("{}\r\n", "Received: x\r\n".repeat(100))).is_looping());
        assert!(of(&format!("{}\r\n", "Received: x\r\n".repeat(101))).is_looping());
    }

    #[test]
    fn the_body_is_not_looked_into() {
        let found = of("To: a@b.example\r\n\r\nFrom: a@b.example\r\nDate: x\r\nX-Postrider-Class: bulk\r\n");
        assert_eq!(found, Inspection { header_end: 17, ..Inspection::default() });
    }

    #[track_caller]
    fn check_message_id(value: &str, expected: Option<&str>) {
        let found = of(&format!("Message-ID:{value}\r\n\r\n"));
        assert!(found.has_message_id);
        assert_eq!(found.message_id.as_deref(), expected);
    }

    #[test]
    fn a_message_id_is_read_without_its_brackets() {
        check_message_id(" <1@a.example>", Some("1@a.example"));
        check_message_id("\r\n\t<1@a.example> (comment)", Some("1@a.example"));
        check_message_id(" 1@a.example", Some("1@a.example"));
        check_message_id(" <1@a.example", Some("1@a.example"));
        check_message_id(" <>", None);
        check_message_id("", None);
    }

    #[test]
    fn a_message_id_is_bounded() {
        let found = of(&format!("Message-ID: <{}>\r\n\r\n", "é".repeat(2_000)));
        assert_eq!(found.message_id.map(|id| id.len()), Some(998));
    }

    #[test]
    fn the_submitters_choice_is_read_and_found() {
        let message = "X-Postrider-Class: bulk\r\nSubject: x\r\nx-postrider-campaign:\r\n =?utf-8?q?Fr=C3=BChling?=\r\n\
            X-Postrider-Pool: warm\r\nX-Postrider-Pool: other\r\nX-Postrider-Poolside: y\r\n\r\n";
        let found = of(message);
        assert_eq!(
            found.directives,
            Directives { class: Some("bulk".into()), campaign: Some("Frühling".into()), pool: Some("warm".into()) }
        );
        let fields: Vec<&str> = found.directive_ranges.iter().map(|range| &message[range.clone()]).collect();
        assert_eq!(
            fields,
            [
                "X-Postrider-Class: bulk\r\n",
                "x-postrider-campaign:\r\n =?utf-8?q?Fr=C3=BChling?=\r\n",
                "X-Postrider-Pool: warm\r\n",
                "X-Postrider-Pool: other\r\n"
            ]
        );
    }

    #[test]
    fn the_end_of_the_header_is_found_in_every_shape() {
        for (message, header_end, separator_missing) in [
            ("", 0, false),
            ("\r\nbody", 0, false),
            ("A: b\r\n\r\nbody", 6, false),
            ("A: b\r\n", 6, false),
            ("A: b", 4, false),
            ("A: b\r\nbody\r\n", 6, true),
            ("body\r\n", 0, true),
            (" folded: field\r\n", 0, true),
        ] {
            let found = of(message);
            assert_eq!((found.header_end, found.separator_missing), (header_end, separator_missing), "{message:?}");
        }
    }

    #[test]
    fn a_header_without_end_is_refused_and_a_long_body_is_not() {
        let long = format!("A: {}\r\n", "x".repeat(HEADER_BYTES));
        assert_eq!(inspect(long.as_bytes()), Err(MessageError::HeaderTooLong { limit: HEADER_BYTES }));
        assert!(inspect(format!("A: b\r\n\r\n{long}").as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_taken(message in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(inspect(&message).is_ok());
        }

        #[test]
        fn arbitrary_headers_are_taken(message in "((From|Date|Message-ID|X-Postrider-Class|Received|Subject|[a-z]{1,3}) ?:|[<>@a-z=?. ]{0,6}|\r\n ?){0,30}") {
            let found = inspect(message.as_bytes());
            prop_assert!(found.is_ok_and(|found| found.header_end <= message.len()));
        }
    }
}
