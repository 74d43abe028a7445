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
        // The parser takes a quoted local part for a name, so that one is refused here with everything else that is odd.
        match address.address.as_deref().map(str::parse) {
            Some(Ok(mailbox)) => found.from.push(mailbox),
            Some(Err(_)) | None => found.from_unreadable = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inspect;
    use super::*;

    #[track_caller]
    fn check(from: &str, expected: &[&str]) {
        let message = format!("Subject: x\r\nFrom:{from}\r\nTo: y@example.net\r\n\r\nFrom: body@example.net\r\n");
        let found = inspect(message.as_bytes()).unwrap();
        let author = found.author().map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(author, Ok(expected.iter().map(|&s| s.to_owned()).collect()), "{from:?}");
    }

    #[track_caller]
    fn check_refused(fields: &str, expected: AuthorError) {
        let found = inspect(format!("{fields}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(found.author(), Err(expected), "{fields:?}: {:?}", found.from);
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        check(" ann@acme.example", &["ann@acme.example"]);
        check("ann@ACME.example", &["ann@acme.example"]);
        check(" Ann Lee <ann@acme.example>", &["ann@acme.example"]);
        check(" \"Lee, Ann\" <ann@acme.example>", &["ann@acme.example"]);
        check("\r\n\tAnn\r\n <ann@acme.example>", &["ann@acme.example"]);
        check(" ann@acme.example (Ann Lee)", &["ann@acme.example"]);
        check(" (our (very own)) Ann <ann@acme.example>", &["ann@acme.example"]);
        check(" =?utf-8?q?J=C3=BCrgen?= <ann@acme.example>", &["ann@acme.example"]);
        check(" Jürgen <jürgen@bücher.example>", &["jürgen@xn--bcher-kva.example"]);
        check(" <ann+tag@acme.example>", &["ann+tag@acme.example"]);
    }

    #[test]
    fn several_authors_are_all_read() {
        check(" a@acme.example, B <b@other.example>", &["a@acme.example", "b@other.example"]);
        check(" Team: a@acme.example, B <b@other.example>;", &["a@acme.example", "b@other.example"]);
    }

    #[test]
    fn an_address_in_a_display_name_is_no_author() {
        check(" \"boss@bank.example\" <ann@acme.example>", &["ann@acme.example"]);
        check(" =?utf-8?q?boss=40bank.example?= <ann@acme.example>", &["ann@acme.example"]);
        check(" ann@acme.example (boss@bank.example)", &["ann@acme.example"]);
        // Not RFC 5322, but what many programs write for an author without a name.
        check(" ann@acme.example <ann@acme.example>", &["ann@acme.example"]);
    }

    #[test]
    fn what_holds_no_address_or_more_than_addresses_is_unreadable() {
        for from in [
            "From:",
            "From: Ann",
            "From: <>",
            "From: ann@",
            "From: Team:;",
            "From: a@b@acme.example",
            "From: \"a b\"@acme.example",
            "From: \"a@b\"@acme.example",
            "From: Ann ann@acme.example",
            "From: ann@acme.example, Bob",
            "From: ann@acme.example boss@bank.example",
            "From: <ann@acme.example> <boss@bank.example>",
            "From: <ann@acme.example>, <boss@@bank.example>",
            "From: <@relay.example:ann@acme.example>",
            "From: ann@acme.example\r\n boss@bank.example",
        ] {
            check_refused(from, AuthorError::Unreadable);
        }
    }

    #[test]
    fn there_is_exactly_one_from_field() {
        check_refused("Subject: x", AuthorError::Missing);
        check_refused("From: a@acme.example\r\nfrom: a@acme.example", AuthorError::Repeated);
        check_refused("From: a@acme.example\r\nFrom :b@bank.example", AuthorError::Repeated);
    }

    proptest! {
        #[test]
        fn any_from_field_is_taken(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let message = [&b"From:"[..], &value, b"\r\n\r\n"].concat();
            prop_assert!(inspect(&message).is_ok());
        }

        #[test]
        fn any_from_field_of_address_like_text_is_taken(value in "([a-c@.<>,;:()\"\\\\ ]|\r\n |=\\?utf-8\\?q\\?|\\?=){0,40}") {
            let message = format!("From:{value}\r\n\r\n");
            prop_assert!(inspect(message.as_bytes()).is_ok());
        }
    }
}
