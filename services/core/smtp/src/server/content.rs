//! The content of a message as it comes in after DATA: finds its one end, takes the stuffed dots away, keeps it within
//! bounds (RFC 5321 section 4.5.2). It never judges before the end, so that what follows a bad message is never taken
//! for a command.

use std::fmt;

use bytes::Bytes;
use memchr::{memchr, memrchr};

use crate::Bounds;
use crate::text::{CR, DOT, LF, LF_OF_A_LINE_BEFORE, NUL, STRETCH, first_dot, look, plain_prefix};

/// Room that is made at once for a message of declared size; more only as it comes in.
const FIRST_ROOM_BYTES: usize = 64 << 10;

/// Where in a line the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After CRLF (or after the command itself: the content may end at once).
    LineStart,
    /// After CRLF and a dot that is withheld.
    Dot,
    /// After CRLF, dot, CR: LF ends the content.
    DotCr,
    /// After a CR that wants its LF.
    Cr,
    /// Anywhere else.
    Within,
}

impl Place {
    /// The byte before, as far as it matters.
    fn before(self) -> u8 {
        match self {
            Self::LineStart => LF_OF_A_LINE_BEFORE,
            Self::Cr => CR,
            Self::Dot | Self::DotCr | Self::Within => DOT,
        }
    }

    fn after(byte: u8) -> Self {
        match byte {
            LF => Self::LineStart,
            CR => Self::Cr,
            _ => Self::Within,
        }
    }
}

/// Why a content is refused once it has ended. The worst stands first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A bare CR, a bare LF or a NUL: another server might see another end, so the connection is not trusted any further.
    Broken,
    /// Larger than the bound.
    TooLarge,
    /// A line is longer than the bound.
    LongLine,
}

/// What became of the bytes handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of them belong to the content, and it goes on.
    More,
    /// The content ended with the first of them.
    Ended {
        /// How many belong to the content and its end.
        consumed: usize,
    },
    /// The client sends without end.
    Endless,
}

/// A content on its way in.
pub(crate) struct Content {
    kept: Vec<u8>,
    place: Place,
    /// Octets of the unfinished line, unstuffed.
    line_bytes: usize,
    /// Octets of the content, unstuffed, whether kept or not.
    content_bytes: usize,
    /// Octets that may still be read before the client counts as endless.
    patience_bytes: u64,
    broken: bool,
    long_line: bool,
    message_bound: usize,
    line_bound: usize,
}

/// Shows sizes, never what somebody wrote.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("content_bytes", &self.content_bytes).finish_non_exhaustive()
    }
}

impl Content {
    pub(crate) fn new(bounds: &Bounds, declared_bytes: Option<u64>) -> Self {
        let declared = declared_bytes.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let patience = u64::try_from(bounds.message_bytes).unwrap_or(u64::MAX).saturating_mul(2);
        Self {
            kept: Vec::with_capacity(declared.min(FIRST_ROOM_BYTES).min(bounds.message_bytes)),
            place: Place::LineStart,
            line_bytes: 0,
            content_bytes: 0,
            patience_bytes: patience.saturating_add(bounds.discarded_bytes),
            broken: false,
            long_line: false,
            message_bound: bounds.message_bytes,
            line_bound: bounds.text_line_bytes,
        }
    }

    /// Takes bytes up to the end of the content.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Progress {
        let patience = usize::try_from(self.patience_bytes).unwrap_or(usize::MAX);
        let (mut rest, endless) = match bytes.split_at_checked(patience) {
            Some((head, tail)) => (head, !tail.is_empty()),
            None => (bytes, false),
        };
        self.patience_bytes -= u64::try_from(rest.len()).unwrap_or(self.patience_bytes);
        self.make_room(rest.len());
        let length = rest.len();
        while !rest.is_empty() {
            let withheld = matches!(self.place, Place::Dot | Place::DotCr);
            let plain = if withheld { 0 } else { self.take_plain(rest) };
            rest = rest.get(plain..).unwrap_or_default();
            if plain > 0 {
                continue;
            }
            let Some((byte, tail)) = rest.split_first() else { break };
            rest = tail;
            if self.take_byte(*byte) {
                return Progress::Ended { consumed: length - rest.len() };
            }
        }
        if endless { Progress::Endless } else { Progress::More }
    }

    /// Takes what is plain text at the head of `rest`, at most a stretch of it, and returns its length.
    fn take_plain(&mut self, rest: &[u8]) -> usize {
        let stretch = rest.get(..STRETCH).unwrap_or(rest);
        let before = self.place.before();
        let look = look(before, stretch);
        let length = match (look.broken, look.dotted) {
            (true, _) => plain_prefix(before, stretch),
            (false, true) => first_dot(before, stretch),
            (false, false) => stretch.len(),
        };
        let plain = stretch.get(..length).unwrap_or(stretch);
        if let Some(last) = plain.last() {
            if look.line_end {
                self.measure_lines(plain);
            } else {
                self.lengthen_line(plain.len());
            }
            self.keep(plain);
            self.place = Place::after(*last);
        }
        plain.len()
    }

    /// Measures the lines that end in `plain`. Their lengths matter only where one could be too long.
    fn measure_lines(&mut self, plain: &[u8]) {
        let mut plain = plain;
        if self.line_bytes + plain.len() > self.line_bound {
            while let Some(end) = memchr(LF, plain) {
                self.lengthen_line(end + 1);
                self.line_bytes = 0;
                plain = plain.get(end + 1..).unwrap_or_default();
            }
            return self.lengthen_line(plain.len());
        }
        match memrchr(LF, plain) {
            Some(end) => self.line_bytes = plain.len() - end - 1,
            None => self.line_bytes += plain.len(),
        }
    }

    fn lengthen_line(&mut self, bytes: usize) {
        self.line_bytes = self.line_bytes.saturating_add(bytes);
        self.long_line |= self.line_bytes > self.line_bound;
    }

    /// Takes one byte in its place; true if it ends the content.
    fn take_byte(&mut self, byte: u8) -> bool {
        match (self.place, byte) {
            // The dot is withheld: it ends the content or is stuffing (RFC 5321 section 4.5.2).
            (Place::LineStart, DOT) => {
                self.place = Place::Dot;
                return false;
            }
            (Place::Dot, CR) => {
                self.place = Place::DotCr;
                return false;
            }
            (Place::DotCr, LF) => return true,
            // CRLF, dot, CR and no LF: a bare CR, and no end (section 4.1.1.4 knows only one).
            (Place::DotCr, _) => {
                self.broken = true;
                self.place = Place::Cr;
            }
            (Place::Dot, _) => self.place = Place::Within,
            (Place::LineStart | Place::Cr | Place::Within, _) => {}
        }
        // Section 2.3.8: CR and LF appear together or not at all.
        let whole_line_end = self.place == Place::Cr && byte == LF;
        self.broken |= byte == NUL || (self.place == Place::Cr) != (byte == LF);
        self.lengthen_line(1);
        if whole_line_end {
            self.line_bytes = 0;
        }
        self.place = match byte {
            LF if whole_line_end => Place::LineStart,
            CR => Place::Cr,
            _ => Place::Within,
        };
        self.keep(&[byte]);
        false
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.content_bytes = self.content_bytes.saturating_add(bytes.len());
        if self.refusal().is_none() {
            self.kept.extend_from_slice(bytes);
        } else if self.kept.capacity() > 0 {
            self.kept = Vec::new();
        }
    }

    /// Doubles the room where it is too small, never past the bound.
    fn make_room(&mut self, coming: usize) {
        if self.refusal().is_some() {
            return;
        }
        let needed = self.kept.len().saturating_add(coming).min(self.message_bound);
        if needed > self.kept.capacity() {
            let room = needed.max(self.kept.capacity().saturating_mul(2).min(self.message_bound));
            self.kept.reserve_exact(room - self.kept.len());
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.broken {
            return Some(Refusal::Broken);
        }
        if self.content_bytes > self.message_bound {
            return Some(Refusal::TooLarge);
        }
        self.long_line.then_some(Refusal::LongLine)
    }

    /// The content after its end, without a copy.
    pub(crate) fn finish(self) -> Result<Bytes, Refusal> {
        match self.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(Bytes::from(self.kept)),
        }
    }

    /// Memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.kept.capacity()
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
