//! What a configuration struct refuses, before it is known which file it stood in.

use std::fmt;

use serde::de;

use super::join;
use crate::config::ConfigError;

/// A refusal on its way out: the innermost value that has a name gives it.
#[derive(Debug)]
pub(in crate::config) struct Refusal {
    what: What,
    /// The keys of the table or value, once known.
    path: Option<String>,
    /// The environment variable that is to blame.
    variable: Option<String>,
}

#[derive(Debug)]
enum What {
    UnknownKey { key: String, known: &'static [&'static str] },
    MissingKey { key: &'static str },
    Value { message: String },
}

impl Refusal {
    /// Names the place, unless a place further in has done so.
    pub(super) fn within(mut self, path: &str, variable: Option<&str>) -> Self {
        if self.path.is_none() {
            self.path = Some(path.to_owned());
            self.variable = variable.map(str::to_owned);
        }
        self
    }

    pub(in crate::config) fn with_origin(self, origin: &str) -> ConfigError {
        let origin = self.variable.unwrap_or_else(|| origin.to_owned());
        let path = self.path.unwrap_or_default();
        match self.what {
            What::UnknownKey { key, known } => ConfigError::UnknownKey {
                origin,
                nearest: nearest(&key, known).map(str::to_owned),
                known: known.iter().map(|&key| key.to_owned()).collect(),
                key: join(&path, &key),
            },
            What::MissingKey { key } => {
                ConfigError::Value { origin, key: join(&path, key), message: "is required".to_owned() }
            }
            What::Value { message } => ConfigError::Value { origin, key: path, message },
        }
    }
}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { what: What::Value { message: message.to_string() }, path: None, variable: None }
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self { what: What::UnknownKey { key: key.to_owned(), known }, path: None, variable: None }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { what: What::MissingKey { key }, path: None, variable: None }
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let hint = nearest(word, known).map(|word| format!("; did you mean {word:?}?")).unwrap_or_default();
        Self::custom(format_args!("{word:?} is none of {}{hint}", known.join(", ")))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::UnknownKey { key, .. } => write!(f, "unknown key {key:?}"),
            What::MissingKey { key } => write!(f, "missing key {key:?}"),
            What::Value { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for Refusal {}

/// The known word most like `word`, if any is like it at all.
fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let folded = word.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|&candidate| (strsim::jaro_winkler(&folded, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}
