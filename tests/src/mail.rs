//! Messages to send, and what of them must arrive: everything but the header fields that the way adds.

use anyhow::{Context, Result, ensure};

/// A message as a test submits it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope sender.
    pub sender: String,
    /// The recipients.
    pub recipients: Vec<String>,
    /// Header and body, lines ended by CRLF.
    pub message: Vec<u8>,
    /// The value of `X-Token`.
    pub token: String,
}

impl Mail {
    /// A short message with `token` as subject, `X-Token` and part of the Message-ID.
    pub fn new(sender: &str, recipients: &[&str], token: &str) -> Self {
        let to = recipients.first().copied().unwrap_or("nobody@invalid");
        Self::with_body(sender, recipients, token, to, b"A line.\r\n.a dot\r\n..two\r\n\r\nThe end.\r\n")
    }

    /// As [`Mail::new`], with a body of its own (CRLF lines) and a `To:` of its own.
    pub fn with_body(sender: &str, recipients: &[&str], token: &str, to: &str, body: &[u8]) -> Self {
        let header = format!(
            "From: A sender <{sender}>\r\nTo: <{to}>\r\nSubject: {token}\r\nDate: Sat, 22 Nov 2025 10:00:00 +0000\r\n\
             Message-ID: <{token}@test.invalid>\r\nX-Token: {token}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        );
        Self {
            sender: sender.to_owned(),
            recipients: recipients.iter().map(|&recipient| recipient.to_owned()).collect(),
            message: [header.as_bytes(), body].concat(),
            token: token.to_owned(),
        }
    }

    /// A further header field, `Name: value`.
    #[must_use]
    pub fn field(mut self, line: &str) -> Self {
        self.message.splice(..0, format!("{line}\r\n").into_bytes());
        self
    }
}

/// Header fields (unfolded not at all: name, colon, value with its CRLFs) and the body.
///
/// # Errors
/// If there is no empty line.
pub fn split(message: &[u8]) -> Result<(Vec<&[u8]>, &[u8])> {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").context("no empty line behind the header")?;
    let (header, body) = (&message[..end + 2], &message[end + 4..]);
    let mut fields: Vec<&[u8]> = Vec::new();
    let mut begun = 0;
    for at in (0..header.len()).filter(|&at| header[at] == b'\n') {
        if !matches!(header.get(at + 1), Some(b' ' | b'\t')) {
            fields.push(&header[begun..=at]);
            begun = at + 1;
        }
    }
    Ok((fields, body))
}

/// Checks that `arrived` is `sent`, byte for byte, with header fields of only these names added (in any place before those
/// that were sent) and those of the names in `taken_out` missing.
///
/// # Errors
/// Names the first difference.
pub fn check_same(sent: &[u8], arrived: &[u8], added: &[&str], taken_out: &[&str]) -> Result<()> {
    let (sent_fields, sent_body) = split(sent)?;
    let (arrived_fields, arrived_body) = split(arrived)?;
    let mut expected =
        sent_fields.into_iter().filter(|field| !taken_out.iter().any(|name| is_named(field, name))).peekable();
    for field in arrived_fields {
        if expected.peek() == Some(&field) {
            expected.next();
        } else {
            let shown = String::from_utf8_lossy(field);
            ensure!(added.iter().any(|name| is_named(field, name)), "a header field that was not sent: {shown:?}");
        }
    }
    if let Some(missing) = expected.next() {
        anyhow::bail!("a header field is missing or changed: {:?}", String::from_utf8_lossy(missing));
    }
    let differs = sent_body.iter().zip(arrived_body).position(|(sent, arrived)| sent != arrived);
    ensure!(
        sent_body == arrived_body,
        "the body differs: {} bytes sent, {} arrived, first difference at {differs:?}",
        sent_body.len(),
        arrived_body.len()
    );
    Ok(())
}

fn is_named(field: &[u8], name: &str) -> bool {
    field
        .split(|&byte| byte == b':')
        .next()
        .is_some_and(|found| found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_a_field_added_is_the_same() {
        let arrived = b"Received: from a\r\n by b; now\r\nA: 1\r\nB: 2\r\n\r\nbody\r\n";
        assert!(check_same(b"A: 1\r\nB: 2\r\n\r\nbody\r\n", arrived, &["received"], &[]).is_ok());
        assert!(check_same(b"A: 1\r\nB: 2\r\n\r\nbody\r\n", arrived, &[], &[]).is_err());
    }

    #[test]
    fn a_changed_field_or_body_is_named() {
        let error = check_same(b"A: 1\r\n\r\nx", b"A: 2\r\n\r\nx", &["a"], &[]).unwrap_err().to_string();
        assert!(error.contains("\"A: 1\\r\\n\""), "{error}");
        let error = check_same(b"A: 1\r\n\r\nxyz", b"A: 1\r\n\r\nxYz", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("Some(1)"), "{error}");
    }

    #[test]
    fn a_field_that_is_taken_out_is_not_missed() {
        assert!(
            check_same(b"X-Postrider-Class: bulk\r\nA: 1\r\n\r\n", b"A: 1\r\n\r\n", &[], &["X-Postrider-Class"])
                .is_ok()
        );
    }
}
