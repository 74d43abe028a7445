//! What a key of the config bucket is about, in words.

use std::fmt;

use postrider_nats::ConfigKey;

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Layout,
    Tenant,
    Credential,
    Domain,
    Route,
    Rule,
}

impl Kind {
    pub(crate) fn of(key: &ConfigKey) -> Self {
        match key {
            ConfigKey::Layout => Self::Layout,
            ConfigKey::Tenant(_) => Self::Tenant,
            ConfigKey::Credential(_) => Self::Credential,
            ConfigKey::Domain(_) => Self::Domain,
            ConfigKey::Route(_) => Self::Route,
            ConfigKey::Rule(_) => Self::Rule,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Layout => "layout",
            Self::Tenant => "tenant",
            Self::Credential => "credential",
            Self::Domain => "domain",
            Self::Route => "route",
            Self::Rule => "order",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of the object, as people write it.
pub(crate) fn key_name(key: &ConfigKey) -> String {
    match key {
        ConfigKey::Layout => String::new(),
        ConfigKey::Tenant(id) => id.to_string(),
        ConfigKey::Credential(name) => name.to_string(),
        ConfigKey::Domain(domain) => domain.to_string(),
        ConfigKey::Route(domain) => domain.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string),
        ConfigKey::Rule(id) => id.to_string(),
    }
}
