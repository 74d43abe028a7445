//! Configuration of a process: one TOML file, environment overrides by name, unknown keys refused with the nearest known
//! one. Nothing is ever silently ignored, apart from variables that name no table of the configuration.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

mod tree;
use tree::Tree;

mod reader;
use reader::Reader;

/// Why a configuration was refused. One line each, with what to do.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{origin}:{line}:{column}: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key that means nothing.
    #[error("{origin}: unknown key {key:?}{}", suggestion(.nearest.as_deref(), .known))]
    UnknownKey {
        /// The file or the environment variable.
        origin: String,
        /// The key with its tables: `ingress.hostname`.
        key: String,
        /// The known key that is most like it.
        nearest: Option<String>,
        /// All keys known there.
        known: Vec<String>,
    },
    /// A value of the wrong kind, a missing key, or a value out of its range.
    #[error("{origin}: {key}: {message}")]
    Value {
        /// The file or the environment variable.
        origin: String,
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        message: String,
    },
}

fn suggestion(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None if known.is_empty() => "; no keys are known there".to_owned(),
        None => format!("; known there: {}", known.join(", ")),
    }
}

/// Reads a process's configuration from a TOML file and lets the environment override it: with `prefix` `POSTRIDER` the
/// variable `POSTRIDER_INGRESS__HOST_NAME` sets `host_name` in `[ingress]`, and `POSTRIDER_INGRESS__LISTENERS__0__ADDRESS`
/// reaches into a list. Two underscores separate tables. A value is taken as text where text is expected, else read as
/// TOML. A variable without two underscores counts only if it names a key at the top, so that `POSTRIDER_TOKEN_FILE` and
/// what Kubernetes sets for services do not disturb.
///
/// # Errors
/// See [`ConfigError`].
pub fn load_config<T: DeserializeOwned>(path: &Path, prefix: &str) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse_config(&text, &path.display().to_string(), prefix, std::env::vars_os().filter_map(utf8))
}

/// As [`load_config`], from a text and a handed-in environment. `origin` names the text in errors.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse_config<T: DeserializeOwned>(
    text: &str,
    origin: &str,
    prefix: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut tree = Tree::parse(text, origin)?;
    let prefix = format!("{prefix}_");
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(&prefix).filter(|path| !path.is_empty()) {
            tree.set(path, &name, &value)?;
        }
    }
    T::deserialize(Reader::root(tree)).map_err(|refusal| refusal.with_origin(origin))
}

fn utf8((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

#[cfg(test)]
mod tests;
