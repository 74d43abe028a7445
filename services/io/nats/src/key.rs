//! Keys of the `config` bucket. Characters that a key may not hold (`*`, `@`, brackets) are written `=` and two hex digits.

use std::fmt;
use std::str::FromStr;

use postrider_model::{CredentialName, Domain, RuleId, TenantId};
use thiserror::Error;

/// A key of the `config` bucket, printed as `tenant.<id>`, `credential.<name>`, `domain.<domain>`,
/// `route.<domain or *>` or `rule.<id>`, escaped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKey {
    /// How the queue is cut; written once, by whoever starts first.
    Layout,
    /// A tenant.
    Tenant(TenantId),
    /// A credential.
    Credential(CredentialName),
    /// A sending domain.
    Domain(Domain),
    /// A route; `None` is that of everything else.
    Route(Option<Domain>),
    /// An operator's rule about mail in the queue.
    Rule(RuleId),
}

/// A text that is no key of ours.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no key of the config bucket")]
pub struct KeyError(String);

fn escape(name: &str) -> String {
    let mut key = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            key.push(char::from(byte));
        } else {
            key.push_str(&format!("={byte:02x}"));
        }
    }
    key
}

fn unescape(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str(crate::layout::LAYOUT_KEY),
            Self::Tenant(id) => write!(f, "tenant.{}", escape(id.as_str())),
            Self::Credential(name) => write!(f, "credential.{}", escape(name.as_str())),
            Self::Domain(domain) => write!(f, "domain.{}", escape(domain.as_str())),
            Self::Route(Some(domain)) => write!(f, "route.{}", escape(domain.as_str())),
            Self::Route(None) => write!(f, "route.{}", escape("*")),
            Self::Rule(id) => write!(f, "rule.{}", escape(id.as_str())),
        }
    }
}

impl FromStr for ConfigKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let no = || KeyError(text.chars().take(300).collect());
        if text == crate::layout::LAYOUT_KEY {
            return Ok(Self::Layout);
        }
        let (kind, name) = text.split_once('.').ok_or_else(no)?;
        let name = unescape(name).ok_or_else(no)?;
        match kind {
            "tenant" => name.parse().map(Self::Tenant).map_err(|_| no()),
            "credential" => name.parse().map(Self::Credential).map_err(|_| no()),
            "domain" => name.parse().map(Self::Domain).map_err(|_| no()),
            "route" if name == "*" => Ok(Self::Route(None)),
            "route" => name.parse().map(|domain| Self::Route(Some(domain))).map_err(|_| no()),
            "rule" => name.parse().map(Self::Rule).map_err(|_| no()),
            _ => Err(no()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse() {
        for text in [
            "layout",
            "tenant.acme",
            "credential.app=40acme.example",
            "domain.acme.example",
            "route.=2a",
            "route.=5b192.0.2.1=5d",
            "rule.hold-1",
        ] {
            let key = text.parse::<ConfigKey>().unwrap();
            assert_eq!(key.to_string(), text);
        }
        for bad in ["", "tenant", "tenant.A B", "other.x", "route.=", "route.=zz", "credential.=ff"] {
            assert!(bad.parse::<ConfigKey>().is_err(), "{bad:?}");
        }
    }
}
