//! Mail addresses of the envelope: RFC 5321 section 4.1.2 with the internationalised forms of RFC 6531.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Why an address was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} is no valid {what}: {why}")]
pub struct AddressError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl AddressError {
    pub(crate) fn next_hop(text: &str, why: &'static str) -> Self {
        refuse("next hop", text, why)
    }
}

fn refuse(what: &'static str, text: &str, why: &'static str) -> AddressError {
    AddressError { what, text: text.chars().take(80).collect(), why }
}

/// A domain in lower-case A-labels (`xn--...`), without a trailing dot, or an address literal such as `[192.0.2.1]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

impl Domain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of an address literal (RFC 5321 section 4.1.3), or `None` for a name.
    pub fn literal(&self) -> Option<std::net::IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        match inner.strip_prefix("ipv6:") {
            Some(v6) => v6.parse().ok().map(std::net::IpAddr::V6),
            None => inner.parse().ok().map(std::net::IpAddr::V4),
        }
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let no = |why| Err(refuse("domain", text, why));
        if text.starts_with('[') {
            let domain = Self(text.to_ascii_lowercase().into());
            return if domain.literal().is_some() { Ok(domain) } else { no("not an address literal") };
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return no("empty");
        }
        let ascii = idna::domain_to_ascii(name).map_err(|_| refuse("domain", text, "not a valid IDN"))?;
        if ascii.len() > 253 {
            return no("longer than 253 octets");
        }
        for label in ascii.split('.') {
            if label.is_empty() || label.len() > 63 {
                return no("a label is empty or longer than 63 octets");
            }
            let edge = |c: Option<char>| c == Some('-');
            if edge(label.chars().next()) || edge(label.chars().last()) {
                return no("a label begins or ends with '-'");
            }
            if !label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
                return no("a label holds something other than letters, digits, '-' and '_'");
            }
        }
        Ok(Self(ascii.into()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0)
    }
}

/// `local-part@domain`. The local part is kept as it was written, quotes and case included; the domain is normalised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    local: Arc<str>,
    domain: Domain,
}

impl Mailbox {
    /// The part before the `@`, as written.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the local part needs SMTPUTF8 (RFC 6531 section 3.3); domains never do, they are kept as A-labels.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

fn check_local(text: &str, local: &str) -> Result<(), AddressError> {
    let no = |why| Err(refuse("address", text, why));
    if local.is_empty() {
        return no("nothing before the '@'");
    }
    if local.len() > 64 {
        return no("the local part is longer than 64 octets");
    }
    if local.chars().any(char::is_control) {
        return no("the local part holds a control character");
    }
    if let Some(inner) = local.strip_prefix('"') {
        let Some(inner) = inner.strip_suffix('"') else { return no("the quoted local part does not end") };
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return no("a bare quote within the quoted local part"),
                '\\' if chars.next().is_none() => return no("the quoted local part does not end"),
                _ => {}
            }
        }
        return Ok(());
    }
    let atom = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    if !local.split('.').all(|part| !part.is_empty() && part.chars().all(atom)) {
        return no("the local part is no dot-atom (quote it if it holds other characters)");
    }
    Ok(())
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| refuse("address", text, "no '@'"))?;
        check_local(text, local)?;
        Ok(Self { local: local.into(), domain: domain.parse()? })
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({self})")
    }
}

/// Where reports of failure go: a mailbox, or nowhere (`<>`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReversePath {
    /// `<>`: a report itself, never answered by another.
    Null,
    /// `<mailbox>`.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// The mailbox, if there is one.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

/// Prints the mailbox, or nothing: put it between `<` and `>`.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    /// Reads what stands between `<` and `>`; nothing is the null path.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { text.parse().map(Self::Mailbox) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, printed: &str) {
        assert_eq!(text.parse::<Mailbox>().map(|m| m.to_string()), Ok(printed.to_owned()));
    }

    #[test]
    fn addresses_keep_their_local_part_and_normalise_their_domain() {
        check("John.Doe+x@Example.COM", "John.Doe+x@example.com");
        check("\"a b\"@c.example", "\"a b\"@c.example");
        check("\"a@b\"@c.example", "\"a@b\"@c.example");
        check("u@[127.0.0.1]", "u@[127.0.0.1]");
        check("u@[IPv6:::1]", "u@[ipv6:::1]");
        check("δοκιμή@παράδειγμα.δοκιμή", "δοκιμή@xn--hxajbheg2az3al.xn--jxalpdlp");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        let long = format!("{}@example.com", "x".repeat(65));
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a..b@c",
            ".a@c",
            "a b@c",
            "a@b c",
            "a@-b",
            "a@b..c",
            "a\r\n@c",
            "\"a@c",
            "\"a\"b\"@c",
            "a@[1.2.3]",
            "a<b@c",
            long.as_str(),
        ] {
            assert!(bad.parse::<Mailbox>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_null_path_is_empty() {
        assert_eq!("".parse::<ReversePath>(), Ok(ReversePath::Null));
        assert_eq!(ReversePath::Null.to_string(), "");
    }
}
