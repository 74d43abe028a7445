//! What the client has said and nobody has looked at yet, cut into command lines. Only CRLF ends a line; bounded memory
//! whatever comes.

use std::fmt;
use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::Bounds;
use crate::text::{CR, LF, NUL};

/// One line of the dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its CRLF, to be read by [`Input::text`] before anything else is received.
    Whole(Range<usize>),
    /// It was longer than its bound.
    TooLong,
    /// It held a bare CR, a bare LF or a NUL, or follows such an LF without a CRLF between. Each LF is answered, but only
    /// CRLF ends the line: what somebody hid behind a bare LF is never obeyed (RFC 5321 section 2.3.8).
    Broken,
    /// It does not end.
    Endless,
}

/// Room that an idle session may keep.
const IDLE_BYTES: usize = 4 << 10;

/// Which bound a line obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A command, AUTH among them.
    Command,
    /// A line of an AUTH dialogue.
    Auth,
}

/// The unread input.
#[derive(Default)]
pub(super) struct Input {
    buffer: Vec<u8>,
    /// Where the unread bytes begin.
    start: usize,
    /// Up to where no LF was found.
    scanned: usize,
    /// Octets of the present line that were thrown away because it is too long.
    skipped_bytes: u64,
    /// The last of them.
    skipped_last: u8,
    /// A bare LF was seen since the last CRLF.
    tainted: bool,
}

/// Shows sizes, never what somebody sent: passwords pass here.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("unread_bytes", &self.unread().len()).finish_non_exhaustive()
    }
}

impl Input {
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start.min(self.scanned);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether nothing at all waits, not even a part of a line.
    pub(super) fn is_empty(&self) -> bool {
        self.unread().is_empty() && self.skipped_bytes == 0
    }

    /// What waits.
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Marks the first `bytes` of what waits as read.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.buffer.len());
        self.scanned = self.start;
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The text of a whole line.
    pub(super) fn text(&self, range: &Range<usize>) -> &[u8] {
        self.buffer.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next line, if its end has come or can be waited for no longer.
    pub(super) fn next_line(&mut self, expected: Expected, bounds: &Bounds) -> Option<Line> {
        let from = self.scanned.max(self.start);
        let Some(distance) = memchr(LF, self.buffer.get(from..)?) else {
            return self.wait_for_end(expected, bounds);
        };
        let (begin, end) = (self.start, from + distance);
        let last = if end > begin { self.buffer.get(end - 1).copied() } else { None };
        let last = last.unwrap_or(if self.skipped_bytes > 0 { self.skipped_last } else { NUL });
        let line_bytes = self.skipped_bytes.saturating_add(length(end + 1 - begin));
        let bound = self.bound(begin..end, expected, bounds);
        self.consume(end + 1 - begin);
        let was_skipping = self.skipped_bytes > 0;
        self.skipped_bytes = 0;
        let was_tainted = self.tainted;
        self.tainted = last != CR;
        if line_bytes > bounds.discarded_bytes.max(length(bound)) {
            return Some(Line::Endless);
        }
        if was_skipping || line_bytes > length(bound) {
            return Some(Line::TooLong);
        }
        let text = begin..end.saturating_sub(1).max(begin);
        let broken = self.tainted || was_tainted || memchr2(CR, NUL, self.text(&text)).is_some();
        Some(if broken { Line::Broken } else { Line::Whole(text) })
    }

    /// No line end yet: throws away what is too long, keeping only its length and last byte.
    fn wait_for_end(&mut self, expected: Expected, bounds: &Bounds) -> Option<Line> {
        if self.unread().is_empty() && self.buffer.capacity() > IDLE_BYTES {
            self.buffer = Vec::new();
            self.start = 0;
        }
        let end = self.buffer.len();
        self.scanned = end;
        let bound = self.bound(self.start..end, expected, bounds);
        if self.skipped_bytes == 0 && end - self.start < bound {
            return None;
        }
        if let Some(last) = self.unread().last() {
            self.skipped_last = *last;
            self.skipped_bytes = self.skipped_bytes.saturating_add(length(end - self.start));
            self.consume(end - self.start);
        }
        (self.skipped_bytes >= bounds.discarded_bytes.max(length(bound))).then_some(Line::Endless)
    }

    /// AUTH may carry a long initial response (RFC 4954 section 4).
    fn bound(&self, line: Range<usize>, expected: Expected, bounds: &Bounds) -> usize {
        let auth = self.text(&line).get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"));
        if auth || expected == Expected::Auth { bounds.auth_line_bytes } else { bounds.command_line_bytes }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
