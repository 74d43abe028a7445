//! Replies as bytes: codes, enhanced codes, lines within 512 octets (RFC 5321 section 4.5.3.1.5), ASCII only. Several gather
//! in one buffer and leave together (RFC 2920 section 3.2).

use bytes::{BufMut, Bytes, BytesMut};
use postrider_model::{EnhancedCode, Reply};

/// Octets of text on one line of a reply: with codes, separators and CRLF it stays below 512.
const TEXT_LINE_BYTES: usize = 480;

/// A reply in the machine's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said(pub(super) u16, pub(super) EnhancedCode, pub(super) &'static str);

impl Said {
    pub(super) const fn new(code: u16, class: u8, subject: u16, detail: u16, text: &'static str) -> Self {
        Self(code, EnhancedCode(class, subject, detail), text)
    }

    pub(super) fn to_reply(self) -> Reply {
        Reply { code: self.0, enhanced: Some(self.1), text: self.2.to_owned() }
    }
}

/// Replies that were decided and not yet sent.
#[derive(Debug, Default)]
pub(super) struct Output(BytesMut);

impl Output {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Hands out all of it.
    pub(super) fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    /// A reply without enhanced code: greeting, EHLO and 3xx have none (RFC 2034 section 4).
    pub(super) fn plain(&mut self, code: u16, text: &str) {
        self.lines(code, None, text);
    }

    /// A reply of several short lines without enhanced code.
    pub(super) fn plain_lines(&mut self, code: u16, lines: &[&str]) {
        for (index, line) in lines.iter().enumerate() {
            self.line(code, index + 1 < lines.len(), None, line);
        }
    }

    /// A reply in the machine's own words.
    pub(super) fn say(&mut self, said: Said) {
        self.line(said.0, false, Some(said.1), said.2);
    }

    /// A reply in somebody else's words. A missing enhanced code, or one of another class, becomes X.0.0.
    pub(super) fn reply(&mut self, reply: &Reply) {
        let class = match reply.code {
            200..300 => 2,
            500..600 => 5,
            _ => 4,
        };
        let enhanced = reply.enhanced.filter(|enhanced| enhanced.0 == class).unwrap_or(EnhancedCode(class, 0, 0));
        self.lines(reply.code, Some(enhanced), &reply.text);
    }

    fn lines(&mut self, code: u16, enhanced: Option<EnhancedCode>, text: &str) {
        let mut rest = text;
        while let Some((line, more)) = split_long(rest) {
            self.line(code, true, enhanced, line);
            rest = more;
        }
        self.line(code, false, enhanced, rest);
    }

    fn line(&mut self, code: u16, more: bool, enhanced: Option<EnhancedCode>, text: &str) {
        self.0.reserve(text.len() + 24);
        self.number(code);
        self.0.put_u8(if more { b'-' } else { b' ' });
        if let Some(EnhancedCode(class, subject, detail)) = enhanced {
            self.number(u16::from(class));
            self.0.put_u8(b'.');
            self.number(subject);
            self.0.put_u8(b'.');
            self.number(detail);
            self.0.put_u8(b' ');
        }
        // RFC 6531 section 3.7.4 lets only clients that asked for it see UTF-8 in replies: nobody sees it here.
        let printable = |byte: u8| if (b' '..=b'~').contains(&byte) { byte } else { b'?' };
        self.0.extend(text.bytes().map(printable));
        self.0.put_slice(b"\r\n");
    }

    fn number(&mut self, number: u16) {
        let digits = [10_000, 1_000, 100, 10, 1].map(|unit| number / unit % 10);
        let first = digits.iter().position(|digit| *digit != 0).unwrap_or(4);
        for digit in digits.iter().skip(first) {
            self.0.put_u8(b'0' + u8::try_from(*digit).unwrap_or(0));
        }
    }
}

/// Cuts a long text at a space, or anywhere if it has none.
fn split_long(text: &str) -> Option<(&str, &str)> {
    if text.len() <= TEXT_LINE_BYTES {
        return None;
    }
    let limit = (0..=TEXT_LINE_BYTES).rev().find(|index| text.is_char_boundary(*index))?;
    let (head, tail) = text.split_at_checked(limit)?;
    match head.rfind(' ').filter(|space| *space > TEXT_LINE_BYTES / 2) {
        Some(space) => Some((head.get(..space)?, text.get(space + 1..)?)),
        None => Some((head, tail)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: &Reply, printed: &str) {
        let mut output = Output::default();
        output.reply(reply);
        assert_eq!(std::str::from_utf8(&output.take()), Ok(printed));
    }

    #[test]
    fn an_enhanced_code_is_added_where_it_is_missing_or_of_another_class() {
        check(&Reply::new(250, None, "yes"), "250 2.0.0 yes\r\n");
        check(&Reply::new(451, Some(EnhancedCode(5, 1, 1)), "later"), "451 4.0.0 later\r\n");
        check(&Reply::new(550, Some(EnhancedCode(5, 7, 26)), "no"), "550 5.7.26 no\r\n");
    }

    #[test]
    fn a_long_text_is_cut_at_spaces_into_lines_below_512_octets() {
        let mut output = Output::default();
        output.reply(&Reply::new(550, None, &"abcdefghi ".repeat(100)));
        let bytes = output.take();
        let lines: Vec<&str> = std::str::from_utf8(&bytes).unwrap().split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() <= 510));
        assert!(lines[0].starts_with("550-5.0.0 abc") && lines[0].ends_with("ghi"));
        assert!(lines[2].starts_with("550 5.0.0 abc"));
    }

    #[test]
    fn a_long_text_without_spaces_is_cut_between_characters() {
        let mut output = Output::default();
        output.reply(&Reply::new(550, None, &"é".repeat(400)));
        assert!(output.take().split(|byte| *byte == b'\n').all(|line| line.len() <= 511));
    }

    #[test]
    fn nothing_but_printable_ascii_leaves() {
        check(&Reply { code: 550, enhanced: None, text: "a\r\n250 é\x1b".to_owned() }, "550 5.0.0 a??250 ???\r\n");
    }
}
