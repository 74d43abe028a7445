//! The fields of a header, one after the other, as ranges of the raw bytes (RFC 5322 section 2.2). Takes whatever bytes
//! there are; never copies and never fails.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

/// One field: its name, its raw value, and where both stand in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    name: &'a str,
    raw_value: &'a [u8],
    range: Range<usize>,
}

impl<'a> Header<'a> {
    /// The name as it is written, without the colon.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Whether the field is called `name`; case does not matter.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Everything behind the colon, line breaks and the last CRLF included.
    pub fn raw_value(&self) -> &'a [u8] {
        self.raw_value
    }

    /// The value on one line without the space around it; what is no UTF-8 is replaced.
    pub fn value(&self) -> Cow<'a, str> {
        match String::from_utf8_lossy(self.raw_value) {
            Cow::Borrowed(text) => {
                let text = text.trim();
                if text.contains(['\r', '\n']) { Cow::Owned(unfold(text)) } else { Cow::Borrowed(text) }
            }
            Cow::Owned(text) => Cow::Owned(unfold(text.trim())),
        }
    }

    /// Where the whole field stands in the message, its last CRLF included.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// Unfolding (RFC 5322 section 2.2.3): line breaks go, the space behind them stays.
fn unfold(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

/// The fields of `message`, in order, up to the empty line or the first line that is no field.
pub fn headers(message: &[u8]) -> Headers<'_> {
    Headers { message, position: 0 }
}

/// The iterator that [`headers`] gives.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    message: &'a [u8],
    position: usize,
}

impl Headers<'_> {
    /// Where the next field would begin. Behind the last one: where the header ends, before the empty line if there is one.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let rest = self.message.get(self.position..)?;
        let (name, colon) = field_name(rest)?;
        let length = field_length(rest, colon);
        let raw_value = rest.get(colon + 1..length)?;
        let range = self.position..self.position + length;
        self.position = range.end;
        Some(Header { name, raw_value, range })
    }
}

/// The name of the field that `line` begins with, and where its colon is. Space before the colon is obsolete syntax (RFC
/// 5322 section 4.5) and allowed.
fn field_name(line: &[u8]) -> Option<(&str, usize)> {
    let end = line.iter().position(|b| !matches!(b, b'!'..=b'9' | b';'..=b'~'))?;
    let space = line.get(end..)?.iter().position(|b| !matches!(b, b' ' | b'\t'))?;
    let name = std::str::from_utf8(line.get(..end)?).ok()?;
    (end > 0 && line.get(end + space) == Some(&b':')).then_some((name, end + space))
}

/// The length of the field with all its continuation lines: lines that begin with a space or tab.
fn field_length(rest: &[u8], colon: usize) -> usize {
    let mut position = colon;
    while let Some(offset) = rest.get(position..).and_then(|tail| memchr(b'\n', tail)) {
        position += offset + 1;
        if !matches!(rest.get(position), Some(b' ' | b'\t')) {
            return position;
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &[(&str, &str)], end: usize) {
        let mut fields = headers(message.as_bytes());
        let found: Vec<_> = fields.by_ref().map(|h| (h.name().to_owned(), h.value().into_owned())).collect();
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!(fields.position(), end);
    }

    #[test]
    fn fields_are_unfolded_and_trimmed() {
        check("A: 1\r\nB:2\r\n\t 3 \r\n\r\nbody", &[("A", "1"), ("B", "2\t 3")], 17);
    }

    #[test]
    fn the_header_ends_at_the_empty_line() {
        check("A: 1\r\n\r\nB: 2\r\n", &[("A", "1")], 6);
        check("\r\nB: 2\r\n", &[], 0);
    }

    #[test]
    fn the_header_ends_at_the_first_line_that_is_no_field() {
        check("A: 1\r\nhello world\r\nB: 2\r\n", &[("A", "1")], 6);
        check("hello\r\n", &[], 0);
        check(" folded: at once\r\n", &[], 0);
        check(": no name\r\n", &[], 0);
        check("", &[], 0);
    }

    #[test]
    fn a_header_may_end_with_the_message() {
        check("A: 1\r\nB: 2", &[("A", "1"), ("B", "2")], 10);
    }

    #[test]
    fn space_before_the_colon_is_allowed() {
        check("Subject \t: x\r\n\r\n", &[("Subject", "x")], 14);
    }

    #[test]
    fn what_is_no_utf_8_is_replaced() {
        let field = headers(b"A: \xff\r\n").next().unwrap();
        assert_eq!(field.value(), "\u{fffd}");
        assert_eq!(field.raw_value(), b" \xff\r\n");
    }

    proptest! {
        #[test]
        fn fields_of_arbitrary_bytes_stand_side_by_side(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut end = 0;
            for field in headers(&message) {
                prop_assert_eq!(field.range().start, end);
                prop_assert!(field.range().end > end && field.range().end <= message.len());
                end = field.range().end;
            }
        }

        #[test]
        fn fields_of_header_like_bytes_stand_side_by_side(message in "([A-Z: \t\r\n]|\r\n){0,80}") {
            let mut fields = headers(message.as_bytes());
            let end = fields.by_ref().last().map_or(0, |field| field.range().end);
            prop_assert_eq!(fields.position(), end);
        }
    }
}
