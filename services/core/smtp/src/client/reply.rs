//! The replies of a server, read line by line within bounds (RFC 5321 section 4.2). What a server says is data: it is
//! cleaned before anyone sees it, and nothing in it is obeyed beyond its code.

use memchr::memchr;
use postrider_model::{EnhancedCode, Reply};

use crate::Bounds;

/// A reply with its lines still apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawReply {
    pub(super) code: u16,
    /// The lines without codes and separators.
    pub(super) lines: Vec<String>,
}

/// How a reply breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nonsense {
    NoCode,
    UnequalCodes,
    TooManyLines,
    TooLong,
}

impl Nonsense {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoCode => "a line of the reply does not begin with a reply code",
            Self::UnequalCodes => "the lines of the reply have different codes",
            Self::TooManyLines => "the reply has too many lines",
            Self::TooLong => "the reply is too long",
        }
    }
}

/// Bytes become replies.
#[derive(Debug, Default)]
pub(super) struct Replies {
    buffer: Vec<u8>,
    /// Where the unread bytes begin.
    start: usize,
    /// The head of the present line; what exceeds its bound is dropped.
    line: Vec<u8>,
    /// The earlier lines of the present reply.
    present: Option<RawReply>,
    /// Octets of the present reply so far.
    present_bytes: usize,
}

impl Replies {
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing at all waits, not even a part of a reply.
    pub(super) fn is_empty(&self) -> bool {
        self.start >= self.buffer.len() && self.present_bytes == 0
    }

    /// The next whole reply. A line end without CR is forgiven: nothing depends on it.
    pub(super) fn next_reply(&mut self, bounds: &Bounds) -> Result<Option<RawReply>, Nonsense> {
        loop {
            let unread = self.buffer.get(self.start..).unwrap_or_default();
            let (piece, ended) = match memchr(b'\n', unread) {
                Some(end) => (unread.get(..=end).unwrap_or(unread), true),
                None => (unread, false),
            };
            self.present_bytes = self.present_bytes.saturating_add(piece.len());
            if self.present_bytes > bounds.reply_bytes {
                return Err(Nonsense::TooLong);
            }
            let room = bounds.reply_line_bytes.saturating_sub(self.line.len());
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            self.start += piece.len();
            if !ended {
                return Ok(None);
            }
            if self.end_line(bounds)? {
                self.present_bytes = 0;
                return Ok(self.present.take());
            }
        }
    }

    /// Adds the line to the present reply; true if it was the last (RFC 5321 section 4.2.1).
    fn end_line(&mut self, bounds: &Bounds) -> Result<bool, Nonsense> {
        let line = self.line.trim_ascii_end();
        let (code, separator) = (line.get(..3).and_then(code_of).ok_or(Nonsense::NoCode)?, line.get(3));
        let more = match separator {
            Some(b'-') => true,
            Some(b' ') | None => false,
            Some(_) => return Err(Nonsense::NoCode),
        };
        let text = String::from_utf8_lossy(line.get(4..).unwrap_or_default()).into_owned();
        let reply = self.present.get_or_insert(RawReply { code, lines: Vec::new() });
        if reply.code != code {
            return Err(Nonsense::UnequalCodes);
        }
        if reply.lines.len() >= bounds.reply_lines {
            return Err(Nonsense::TooManyLines);
        }
        reply.lines.push(text);
        self.line.clear();
        Ok(!more)
    }
}

/// Three digits from 200 to 599. The second and third may be any: RFC 5321 section 4.3.2 judges unknown codes by the first.
fn code_of(digits: &[u8]) -> Option<u16> {
    let value = digits.iter().try_fold(0_u16, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(10 * value + u16::try_from(digit).ok()?)
    })?;
    (200..600).contains(&value).then_some(value)
}

impl RawReply {
    pub(super) fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// 3xx: go on.
    pub(super) fn is_intermediate(&self) -> bool {
        (300..400).contains(&self.code)
    }

    /// The reply in one piece. An enhanced code of the same class that begins the first line is taken out of every line.
    pub(super) fn to_reply(&self) -> Reply {
        let enhanced = self.lines.first().and_then(|line| split_enhanced(line)).map(|(enhanced, _)| enhanced);
        let enhanced = enhanced.filter(|enhanced| u16::from(enhanced.0) == self.code / 100);
        let lines: Vec<&str> = self
            .lines
            .iter()
            .map(|line| match split_enhanced(line) {
                Some((repeated, text)) if Some(repeated) == enhanced => text,
                _ => line.as_str(),
            })
            .collect();
        Reply::new(self.code, enhanced, &lines.join(" "))
    }
}

fn split_enhanced(line: &str) -> Option<(EnhancedCode, &str)> {
    let (head, tail) = line.split_once(' ').unwrap_or((line, ""));
    Some((head.parse().ok()?, tail))
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
