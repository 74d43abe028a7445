//! Names that people give: tenants, campaigns, pools, sites, credentials. All are bounded and printable, because they end
//! up in subjects, logs and tables.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::Domain;

/// Why a name was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what} {text:?}: {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl NameError {
    pub(crate) fn unknown(what: &'static str, text: &str, why: &'static str) -> Self {
        refuse(what, text, why)
    }
}

fn refuse(what: &'static str, text: &str, why: &'static str) -> NameError {
    NameError { what, text: text.chars().take(80).collect(), why }
}

fn check_label(what: &'static str, text: &str, longest: usize, extra: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(refuse(what, text, "must not be empty"));
    }
    if text.len() > longest {
        return Err(refuse(what, text, "is too long"));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || extra.contains(c);
    if !text.chars().all(allowed) {
        return Err(refuse(what, text, "may hold only a-z, 0-9, '-' and for some names '.', '_', '@'"));
    }
    Ok(())
}

fn check_printable(what: &'static str, text: &str, longest: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(refuse(what, text, "must not be empty"));
    }
    if text.len() > longest {
        return Err(refuse(what, text, "is too long"));
    }
    if text.chars().any(char::is_control) {
        return Err(refuse(what, text, "must not hold control characters"));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, |$text:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str($text: &str) -> Result<Self, NameError> {
                $check?;
                Ok(Self($text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

name!(
    /// A sender with its own credentials, domains, pools and events: at most 32 of `a-z 0-9 -`.
    TenantId, "tenant", |text| check_label("tenant", text, 32, "")
);
name!(
    /// A tenant's label on messages (a mailing list, a job): at most 64 bytes, printable.
    Campaign, "campaign", |text| check_printable("campaign", text, 64)
);
name!(
    /// A pool of egress IPs: at most 32 of `a-z 0-9 -`.
    PoolName, "pool", |text| check_label("pool", text, 32, "")
);
name!(
    /// All recipient domains that share one mailbox provider's exchangers: `google`, `example.net`, `[192.0.2.1]`.
    SiteName, "site", |text| check_label("site", text, 255, "._[]:")
);

/// A domain that is a site of its own: every domain is a valid name of a site.
impl From<&Domain> for SiteName {
    fn from(domain: &Domain) -> Self {
        Self(domain.as_str().into())
    }
}

name!(
    /// The user name of a credential: at most 64 of `a-z 0-9 - . _ @`.
    CredentialName, "credential", |text| check_label("credential", text, 64, "._@")
);

name!(
    /// A process of the cluster, the same after a restart where its name is (`delivery-0`): at most 64 of `a-z 0-9 - .`.
    MemberId, "member", |text| check_label("member", text, 64, ".")
);

name!(
    /// An operator's rule about mail in the queue: at most 48 of `a-z 0-9 -`.
    RuleId, "rule", |text| check_label("rule", text, 48, "")
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_short_label() {
        assert_eq!("acme-1".parse::<TenantId>().unwrap().as_str(), "acme-1");
        for bad in ["", "Acme", "a b", "a.b", &"x".repeat(33)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_campaign_holds_no_control_characters() {
        assert!("Spring sale 2026 – été".parse::<Campaign>().is_ok());
        assert!("a\r\nBcc: x".parse::<Campaign>().is_err());
    }

    #[test]
    fn every_domain_is_a_valid_name_of_a_site() {
        for domain in ["example.com", "_dc-mx.example.com", "[192.0.2.1]", "[IPv6:2001:db8::1]", "bücher.example"] {
            let site = SiteName::from(&domain.parse().unwrap());
            assert_eq!(site.as_str().parse(), Ok(site));
        }
    }

    #[test]
    fn an_error_names_the_thing_and_the_text() {
        let error = "A B".parse::<PoolName>().unwrap_err().to_string();
        assert!(error.starts_with("pool \"A B\""), "{error}");
    }
}
