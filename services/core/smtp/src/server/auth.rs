//! The AUTH dialogue (RFC 4954) with PLAIN (RFC 4616) and LOGIN. Decodes; whether credentials are good is not known here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Mechanism;
use super::reply::Said;
use crate::Secret;

const CANCELLED: Said = Said::new(501, 5, 7, 0, "Authentication cancelled");
const NOT_BASE64: Said = Said::new(501, 5, 5, 2, "Cannot decode the response");
const NOT_PLAIN: Said = Said::new(501, 5, 5, 2, "Not a PLAIN response: authzid NUL authcid NUL password");
pub(super) const NOT_GOOD: Said = Said::new(535, 5, 7, 8, "Authentication credentials invalid");

/// Which response is waited for.
#[derive(Debug)]
pub(super) enum Dialogue {
    Plain,
    LoginUsername,
    LoginPassword { username: String },
}

/// What follows from a response.
#[derive(Debug)]
pub(super) enum Turn {
    /// 334 with this text, then another response.
    Challenge(&'static str, Dialogue),
    /// To be judged.
    Credentials { mechanism: Mechanism, username: String, password: Secret },
    /// The dialogue is over.
    Refused(Said),
}

impl Dialogue {
    /// The AUTH command, perhaps with an initial response; `=` is an empty one (RFC 4954 section 4).
    pub(super) fn begin(mechanism: Mechanism, initial: Option<&Secret>) -> Turn {
        let (challenge, dialogue) = match mechanism {
            Mechanism::Plain => ("", Self::Plain),
            Mechanism::Login => ("VXNlcm5hbWU6", Self::LoginUsername), // "Username:"
        };
        match initial.map(Secret::expose) {
            None => Turn::Challenge(challenge, dialogue),
            Some("=") => dialogue.take(Vec::new()),
            Some(response) => dialogue.decode(response.as_bytes()),
        }
    }

    /// A line of the dialogue.
    pub(super) fn respond(self, line: &[u8]) -> Turn {
        if line == b"*" { Turn::Refused(CANCELLED) } else { self.decode(line) }
    }

    fn decode(self, response: &[u8]) -> Turn {
        match STANDARD.decode(response) {
            Ok(decoded) => self.take(decoded),
            Err(_) => Turn::Refused(NOT_BASE64),
        }
    }

    fn take(self, response: Vec<u8>) -> Turn {
        let Ok(text) = String::from_utf8(response) else { return Turn::Refused(NOT_BASE64) };
        match self {
            Self::Plain => plain(&text),
            _ if text.contains('\0') => Turn::Refused(NOT_BASE64),
            Self::LoginUsername => Turn::Challenge("UGFzc3dvcmQ6", Self::LoginPassword { username: text }), // "Password:"
            Self::LoginPassword { username } => credentials(Mechanism::Login, &username, &text),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd` with exactly two NULs. Nobody may act for another here: authzid is empty or the same.
fn plain(text: &str) -> Turn {
    let mut parts = text.split('\0');
    let (Some(authzid), Some(authcid), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Turn::Refused(NOT_PLAIN);
    };
    if !authzid.is_empty() && authzid != authcid {
        return Turn::Refused(NOT_GOOD);
    }
    credentials(Mechanism::Plain, authcid, password)
}

fn credentials(mechanism: Mechanism, username: &str, password: &str) -> Turn {
    if username.is_empty() || password.is_empty() || username.chars().any(char::is_control) {
        return Turn::Refused(NOT_GOOD);
    }
    Turn::Credentials { mechanism, username: username.to_owned(), password: Secret::new(password.to_owned()) }
}
