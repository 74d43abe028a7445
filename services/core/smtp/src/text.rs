//! The form of mail text: lines that end in CRLF, with no other CR, no other LF and no NUL. Looks at stretches of bytes in
//! one pass that the compiler turns into vector instructions; never changes them.

use memchr::memchr_iter;

pub(crate) const NUL: u8 = 0;
pub(crate) const LF: u8 = b'\n';
pub(crate) const CR: u8 = b'\r';
pub(crate) const DOT: u8 = b'.';

/// How many bytes are looked at in one go: long enough for vectors, short enough to look twice where a dot was found, and
/// shorter than the longest line, so that a stretch with a line end in it rarely needs a count of its lines.
pub(crate) const STRETCH: usize = 512;

/// What stands in a stretch of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// A bare CR, a bare LF or a NUL.
    pub(crate) broken: bool,
    /// A dot that begins a line.
    pub(crate) dotted: bool,
    /// An LF.
    pub(crate) line_end: bool,
}

/// Looks at a stretch that follows the byte `before`. A CR that ends the stretch is judged by whoever looks at the next.
pub(crate) fn look(before: u8, stretch: &[u8]) -> Look {
    let (mut broken, mut dotted, mut line_end) = (0_u8, 0_u8, 0_u8);
    let mut see = |previous: u8, byte: u8| {
        let lf = u8::from(byte == LF);
        broken |= (lf ^ u8::from(previous == CR)) | u8::from(byte == NUL);
        dotted |= u8::from(previous == LF) & u8::from(byte == DOT);
        line_end |= lf;
    };
    if let Some(first) = stretch.first() {
        see(before, *first);
    }
    for (byte, previous) in stretch.iter().skip(1).zip(stretch) {
        see(*previous, *byte);
    }
    Look { broken: broken != 0, dotted: dotted != 0, line_end: line_end != 0 }
}

/// Whether `byte` after `previous` ends plain text: it breaks it, or is a dot that begins a line.
fn stands_out(previous: u8, byte: u8) -> bool {
    ((byte == LF) != (previous == CR)) || byte == NUL || (previous == LF && byte == DOT)
}

/// How many bytes of the stretch come before the first that breaks the text or is a dot that begins a line.
pub(crate) fn plain_prefix(before: u8, stretch: &[u8]) -> usize {
    let mut previous = before;
    for (index, byte) in stretch.iter().enumerate() {
        if stands_out(previous, *byte) {
            return index;
        }
        previous = *byte;
    }
    stretch.len()
}

/// How many bytes of an unbroken stretch come before the first dot that begins a line.
pub(crate) fn first_dot(before: u8, stretch: &[u8]) -> usize {
    let begins_line = |dot: &usize| match dot.checked_sub(1) {
        Some(previous) => stretch.get(previous) == Some(&LF),
        None => before == LF,
    };
    memchr_iter(DOT, stretch).find(begins_line).unwrap_or(stretch.len())
}

/// Whether a whole text is free of bare CR, bare LF and NUL, and whether a line of it begins with a dot.
pub(crate) fn look_at_all(text: &[u8]) -> Look {
    let mut whole = Look { broken: text.last() == Some(&CR), dotted: false, line_end: false };
    let mut before = LF_OF_A_LINE_BEFORE;
    for stretch in text.chunks(8 * STRETCH) {
        let look = look(before, stretch);
        whole.broken |= look.broken;
        whole.dotted |= look.dotted;
        whole.line_end |= look.line_end;
        before = stretch.last().copied().unwrap_or(before);
    }
    whole
}

/// Text begins where a line begins: after the LF of the line before.
pub(crate) const LF_OF_A_LINE_BEFORE: u8 = LF;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, byte by byte and without cleverness.
    fn slow_look(text: &[u8]) -> (bool, bool) {
        let at = |index: usize| text.get(index).copied();
        let broken = (0..text.len()).any(|i| match text[i] {
            NUL => true,
            CR => at(i + 1) != Some(LF),
            LF => i == 0 || text[i - 1] != CR,
            _ => false,
        });
        let dotted = (0..text.len()).any(|i| text[i] == DOT && (i == 0 || text[i - 1] == LF));
        (broken, dotted)
    }

    proptest! {
        #[test]
        fn the_fast_look_sees_what_the_slow_one_sees(
            text in prop::collection::vec(prop_oneof![Just(CR), Just(LF), Just(NUL), Just(DOT), Just(b'a')], 0..40),
            pad in 0_usize..9000,
        ) {
            let mut padded = vec![b'x'; pad];
            padded.extend_from_slice(&text);
            let look = look_at_all(&padded);
            prop_assert_eq!((look.broken, look.dotted), slow_look(&padded));
        }

        #[test]
        fn clean_text_is_never_called_broken(lines in prop::collection::vec("[a-z.]{0,90}", 0..200)) {
            let text = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>();
            let look = look_at_all(text.as_bytes());
            prop_assert!(!look.broken);
            prop_assert_eq!(look.dotted, lines.iter().any(|line| line.starts_with('.')));
        }

        #[test]
        fn the_plain_prefix_ends_at_the_first_byte_that_stands_out(
            text in prop::collection::vec(prop_oneof![Just(CR), Just(LF), Just(NUL), Just(DOT), Just(b'a')], 0..40),
        ) {
            let length = plain_prefix(b'a', &text);
            let prefix = look(b'a', &text[..length]);
            prop_assert!(!prefix.broken && !prefix.dotted);
            if length < text.len() {
                let longer = look(b'a', &text[..=length]);
                prop_assert!(longer.broken || longer.dotted);
            }
        }
    }
}
