//! Relaxed canonicalisation of the body (RFC 6376 section 3.4.4). Written here because the library's takes lines of nothing
//! but space at the end of a body for content, and other verifiers do not.

use memchr::memchr2;

/// Gives the canonical body of `body` to `sink`, piece by piece, copying nothing: space at the ends of lines goes, runs of
/// it become one space, empty lines at the end go, and what is not empty ends with one CRLF.
pub(super) fn relaxed(body: &[u8], mut sink: impl FnMut(&[u8])) {
    let body = content(body);
    if body.is_empty() {
        return;
    }
    let (mut kept_from, mut position) = (0, 0);
    while let Some(offset) = memchr2(b' ', b'\t', &body[position..]) {
        let start = position + offset;
        // The content does not end with space.
        let end = body[start..].iter().position(|b| !is_space(*b)).map_or(body.len(), |length| start + length);
        position = end;
        let at_line_end = body[end..].starts_with(b"\r\n");
        if !at_line_end && &body[start..end] == b" " {
            continue;
        }
        sink(&body[kept_from..start]);
        if !at_line_end {
            sink(b" ");
        }
        kept_from = end;
    }
    sink(&body[kept_from..]);
    sink(b"\r\n");
}

/// The body without the lines at its end that hold nothing but space, and without the space and CRLF of the line before.
fn content(body: &[u8]) -> &[u8] {
    let mut end = body;
    loop {
        let shorter = match end {
            [rest @ .., b'\r', b'\n'] => rest,
            [rest @ .., b' ' | b'\t'] => rest,
            _ => return end,
        };
        end = shorter;
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        relaxed(body, |piece| out.extend_from_slice(piece));
        out
    }

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(String::from_utf8(canonical(body.as_bytes())).unwrap(), expected);
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6376 section 3.4.5.
        check(" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n");
    }

    #[test]
    fn an_empty_body_is_nothing() {
        for body in ["", "\r\n", "\r\n\r\n", " ", "\t\r\n \r\n", " \r\n"] {
            check(body, "");
        }
    }

    #[test]
    fn lines_of_space_at_the_end_are_empty_lines() {
        check("x\r\n \r\n", "x\r\n");
        check("x \r\n\t\r\n\r\n \t\r\n", "x\r\n");
    }

    #[test]
    fn a_body_without_a_line_break_at_the_end_gets_one() {
        check("x", "x\r\n");
        check("x \t", "x\r\n");
    }

    #[test]
    fn lines_before_the_last_stay() {
        check("\r\n \r\nx\r\n\r\ny\r\n", "\r\n\r\nx\r\n\r\ny\r\n");
        check("\ta\t\tb \r\n  c\r\n", " a b\r\n c\r\n");
    }

    /// The rules of the RFC, step by step.
    fn by_the_book(body: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for line in body.split("\r\n") {
            let mut out = String::new();
            for c in line.trim_end_matches([' ', '\t']).chars() {
                match c {
                    ' ' | '\t' if out.ends_with(' ') => {}
                    ' ' | '\t' => out.push(' '),
                    c => out.push(c),
                }
            }
            lines.push(out);
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.into_iter().map(|line| line + "\r\n").collect()
    }

    proptest! {
        #[test]
        fn it_is_what_the_rules_say(body in "( |\t|\r\n|a|b){0,40}") {
            prop_assert_eq!(canonical(body.as_bytes()), by_the_book(&body).into_bytes());
        }

        #[test]
        fn arbitrary_bytes_are_taken(body in prop::collection::vec(any::<u8>(), 0..100)) {
            canonical(&body);
        }
    }
}
