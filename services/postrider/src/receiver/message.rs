//! What the ledger says of a message: its token, the hash of its body. Reads raw bytes; parses no MIME.

use std::fmt::Write;

/// The value of `X-Token`, else of `Message-ID`, else nothing. Unfolded; what is no UTF-8 is replaced.
pub(super) fn token(message: &[u8]) -> String {
    field(message, b"x-token").or_else(|| field(message, b"message-id")).unwrap_or_default()
}

/// What follows the empty line behind the header.
pub(super) fn body(message: &[u8]) -> &[u8] {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return body;
    }
    match message.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(at) => message.get(at + 4..).unwrap_or_default(),
        None => &[],
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn field(message: &[u8], name: &[u8]) -> Option<String> {
    let mut value: Option<Vec<u8>> = None;
    for line in message.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match &mut value {
            Some(value) if matches!(line.first(), Some(b' ' | b'\t')) => value.extend_from_slice(line),
            Some(_) => break,
            None if line.is_empty() => break,
            None => {
                let mut halves = line.splitn(2, |&byte| byte == b':');
                if let (Some(found), Some(rest)) = (halves.next(), halves.next())
                    && found.trim_ascii_end().eq_ignore_ascii_case(name)
                {
                    value = Some(rest.to_vec());
                }
            }
        }
    }
    value.map(|value| String::from_utf8_lossy(value.trim_ascii()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_x_token_before_message_id() {
        assert_eq!(token(b"Message-ID: <a@b>\r\nx-token:  17 \r\n\r\nhi\r\n"), "17");
        assert_eq!(token(b"Subject: x\r\nMessage-Id:\r\n <a@b>\r\nTo: c\r\n\r\nhi\r\n"), "<a@b>");
        assert_eq!(token(b"Subject: x\r\n\r\nX-Token: in the body\r\n"), "");
    }

    #[test]
    fn a_header_folded_by_a_continuation_line_does_not_hide_the_next() {
        assert_eq!(token(b"Received: from a\r\n by b; now\r\nX-Token: 5\r\n\r\n"), "5");
    }

    #[test]
    fn the_body_begins_behind_the_first_empty_line() {
        assert_eq!(body(b"A: b\r\n\r\nhi\r\n\r\nyou\r\n"), b"hi\r\n\r\nyou\r\n");
        assert_eq!(body(b"\r\nno header"), b"no header");
        assert_eq!(body(b"A: b\r\n"), b"");
    }

    #[test]
    fn the_hash_is_what_sha256sum_prints() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
