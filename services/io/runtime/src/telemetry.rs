//! Logs to standard error, as text for people or JSON for machines. Called once by `main`; libraries only emit.

use std::io::IsTerminal;

use serde::Deserialize;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// The `[log]` table of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` (default) or `json`.
    pub format: LogFormat,
    /// Which events are written, in the syntax of `RUST_LOG` (`info,postrider_ingress=debug`). The environment variable
    /// `RUST_LOG` goes before it; the default is `info,async_nats=warn`.
    pub filter: Option<String>,
}

/// Why logging could not begin.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log filter {filter:?} is not understood (an example: \"info,postrider_ingress=debug\")")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// Somebody was here before.
    #[error("logging was already set up in this process")]
    AlreadySet,
}

/// Begins logging to standard error. `RUST_LOG` goes before the configured filter.
///
/// # Errors
/// If the filter does not parse, or logging was set up before.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = filter(from_environment.as_deref().or(config.filter.as_deref()))?;
    // Where nobody reads the log any more, there is nobody to complain to either: complaining on standard error would panic.
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let begun = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    begun.map_err(|_| TelemetryError::AlreadySet)
}

fn filter(text: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let text = text.unwrap_or("info,async_nats=warn");
    EnvFilter::try_new(text).map_err(|source| TelemetryError::Filter { filter: text.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let error = filter(Some("postrider=loud")).unwrap_err();
        assert!(error.to_string().contains("postrider=loud"), "{error}");
    }

    #[test]
    fn the_default_filter_parses() {
        assert!(filter(None).is_ok());
    }
}
