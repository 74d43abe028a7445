//! The trace field `Received:` (RFC 5321 section 4.4). Every text of the client in it is cleaned and cut, every clause stands
//! on a line of its own, so that no line comes near 998 bytes.

use std::fmt::{self, Write};
use std::net::IpAddr;

use postrider_model::{Domain, Mailbox, MessageId, Timestamp};

/// The most bytes of a client's hello that are kept.
const HELLO_BYTES: usize = 255;

/// The most bytes of the description of TLS that are kept.
const TLS_BYTES: usize = 120;

/// How a message came in: the protocol types of RFC 5321 section 4.4, RFC 3848 and RFC 6531 section 4.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// The client said EHLO.
    pub extended: bool,
    /// Over TLS.
    pub tls: bool,
    /// After AUTH.
    pub authenticated: bool,
    /// With the parameter SMTPUTF8.
    pub smtputf8: bool,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.smtputf8, self.extended) {
            (true, _) => "UTF8SMTP",
            (false, true) => "ESMTP",
            (false, false) => return f.write_str("SMTP"),
        })?;
        f.write_str(if self.tls { "S" } else { "" })?;
        f.write_str(if self.authenticated { "A" } else { "" })
    }
}

/// What `Received:` tells.
#[derive(Clone, Debug)]
pub struct Trace<'a> {
    /// What the client said in HELO or EHLO.
    pub from_hello: &'a str,
    /// Where it connected from.
    pub peer_address: IpAddr,
    /// Our own name.
    pub by_host: &'a str,
    /// How it came in.
    pub protocol: Protocol,
    /// Our id of the message.
    pub id: MessageId,
    /// TLS version and cipher suite, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    pub tls: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
    /// The recipient, if there is only one: several must not learn of each other (RFC 5321 section 7.2).
    pub for_: Option<&'a Mailbox>,
}

impl Trace<'_> {
    /// The field with its CRLF.
    pub(super) fn field(&self) -> String {
        let mut field = String::with_capacity(512);
        // Writing to a string does not fail.
        if self.write(&mut field).is_err() {
            field.clear();
        }
        field
    }

    fn write(&self, field: &mut String) -> fmt::Result {
        write!(field, "Received: from {} ({})", hello(self.from_hello), literal(self.peer_address))?;
        write!(field, "\r\n\tby {} with {}", hello(self.by_host), self.protocol)?;
        if let Some(tls) = self.tls {
            write!(field, " ({})", comment(tls))?;
        }
        write!(field, "\r\n\tid {}", self.id)?;
        if let Some(recipient) = self.for_ {
            write!(field, "\r\n\tfor <{recipient}>")?;
        }
        write!(field, ";\r\n\t{}\r\n", self.now.rfc5322())
    }
}

/// A name for the clause `from` or `by`: a domain or address literal as it is, of anything else what is harmless.
fn hello(name: &str) -> String {
    if name.len() <= HELLO_BYTES && name.is_ascii() && name.parse::<Domain>().is_ok() {
        return name.to_owned();
    }
    let harmless = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    let clean: String = name.chars().take(HELLO_BYTES).map(|c| if harmless(c) { c } else { '?' }).collect();
    if clean.is_empty() { "unknown".to_owned() } else { clean }
}

/// The address as a literal of RFC 5321 section 4.1.3.
fn literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("[{v4}]"),
        IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
    }
}

/// A text that may stand in a comment.
fn comment(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || " .-_:/=,".contains(c);
    text.chars().take(TLS_BYTES).map(|c| if harmless(c) { c } else { '?' }).collect()
}
