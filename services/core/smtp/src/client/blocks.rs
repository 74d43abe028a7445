//! The content of a message on its way out: dot-stuffed, with its one end (RFC 5321 section 4.5.2). Copies only what it must
//! change; never sends a text that another server could read differently.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;

use crate::text::{LF, look, look_at_all};

/// A message up to this size leaves in one piece with its end.
const WHOLE_BYTES: usize = 64 << 10;
/// Larger ones leave in blocks of this size, each with a deadline of its own (RFC 5321 section 4.5.3.2.5).
const BLOCK_BYTES: usize = 256 << 10;
/// At least so much goes with the end, so that no tiny packet trails behind.
const TAIL_BYTES: usize = 16 << 10;

/// What is left to send of a content.
#[derive(Debug)]
pub(super) struct Blocks {
    message: Bytes,
    dotted: bool,
    /// How much of the message has left.
    sent: usize,
}

impl Blocks {
    /// `None` if the message holds a bare CR, a bare LF or a NUL: the last wall against smuggling, whatever was checked
    /// before.
    pub(super) fn new(message: Bytes) -> Option<Self> {
        let look = look_at_all(&message);
        (!look.broken).then_some(Self { message, dotted: look.dotted, sent: 0 })
    }

    /// Octets as SIZE counts them: with the last line's CRLF, without stuffing (RFC 1870 section 3).
    pub(super) fn size(&self) -> usize {
        let (_, line_end) = self.end();
        self.message.len() + line_end.len()
    }

    /// The end of the content, and the line end it needs before.
    fn end(&self) -> (&'static [u8], &'static [u8]) {
        if self.message.last().is_none_or(|last| *last == LF) { (b".\r\n", b"") } else { (b".\r\n", b"\r\n") }
    }

    /// The next block, and whether it is the last.
    pub(super) fn next_block(&mut self) -> (Bytes, bool) {
        let left = self.message.len() - self.sent;
        let length = if left <= WHOLE_BYTES { left } else { BLOCK_BYTES.min(left - TAIL_BYTES) };
        let block = self.message.slice(self.sent..self.sent + length);
        let before = self.message.get(..self.sent).and_then(|sent| sent.last()).copied().unwrap_or(LF);
        self.sent += length;
        let last = length == left;
        let dotted = self.dotted && look(before, &block).dotted;
        if !last && !dotted {
            return (block, false);
        }
        let mut copy = BytesMut::with_capacity(block.len() + 8);
        if dotted {
            stuff(&mut copy, before, &block);
        } else {
            copy.put_slice(&block);
        }
        if last {
            let (end, line_end) = self.end();
            copy.put_slice(line_end);
            copy.put_slice(end);
        }
        (copy.freeze(), last)
    }
}

/// Doubles each dot that begins a line.
fn stuff(copy: &mut BytesMut, before: u8, block: &[u8]) {
    if before == LF && block.first() == Some(&b'.') {
        copy.put_u8(b'.');
    }
    let mut rest = block;
    while let Some((head, tail)) = memmem::find(rest, b"\n.").and_then(|at| rest.split_at_checked(at + 1)) {
        copy.extend_from_slice(head);
        copy.put_u8(b'.');
        rest = tail;
    }
    copy.extend_from_slice(rest);
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
