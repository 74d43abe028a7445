//! A configuration before it is understood: TOML values with the environment's overrides laid over them, each leaf knowing
//! where it came from.

use std::collections::BTreeMap;

use super::ConfigError;

/// One value, or a table or list of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Keys and values.
    Table(BTreeMap<String, Tree>),
    /// Values in order.
    List(Vec<Tree>),
    /// A single value of the file.
    Leaf(toml::Value),
    /// A value of the environment; its kind is known only when it is read.
    Variable {
        /// The variable.
        name: String,
        /// Its value.
        text: String,
        /// Whether it may mean something else altogether: it is dropped if no key bears its name.
        may_be_foreign: bool,
    },
}

impl Tree {
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            ConfigError::Syntax {
                origin: origin.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.get(line_start..).map_or(0, |line| line.chars().count()) + 1,
                message: error.message().lines().collect::<Vec<_>>().join(", "),
            }
        })?;
        Ok(toml::Value::Table(table).into())
    }

    /// Lays one variable over the tree. `path` is its name without the prefix.
    pub(super) fn set(&mut self, path: &str, name: &str, text: &str) -> Result<(), ConfigError> {
        let path = path.to_lowercase();
        let keys: Vec<&str> = path.split("__").collect();
        let mut node = self;
        for (depth, key) in keys.iter().enumerate() {
            let unreachable = || ConfigError::Value {
                origin: name.to_owned(),
                key: keys[..=depth].join("."),
                message: "cannot be set: the configuration has a single value or a shorter list above it".to_owned(),
            };
            node = match node {
                Self::Table(table) => table.entry((*key).to_owned()).or_insert_with(|| Self::Table(BTreeMap::new())),
                Self::List(list) => {
                    key.parse::<usize>().ok().and_then(|index| list.get_mut(index)).ok_or_else(unreachable)?
                }
                Self::Leaf(_) | Self::Variable { .. } => return Err(unreachable()),
            };
        }
        *node = Self::Variable { name: name.to_owned(), text: text.to_owned(), may_be_foreign: keys.len() == 1 };
        Ok(())
    }

    /// The variable that is responsible for this value, if it came from the environment.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::Variable { name, .. } => Some(name),
            Self::Table(table) => table.values().find_map(Self::variable),
            Self::List(_) | Self::Leaf(_) => None,
        }
    }
}

impl From<toml::Value> for Tree {
    fn from(value: toml::Value) -> Self {
        match value {
            toml::Value::Table(table) => {
                Self::Table(table.into_iter().map(|(key, value)| (key, value.into())).collect())
            }
            toml::Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            leaf => Self::Leaf(leaf),
        }
    }
}
