//! The connection: credentials, TLS, the version of the server. Once made it comes back by itself for ever; only the first
//! attempt fails, and says why.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use thiserror::Error;
use tokio::sync::watch;

use crate::config::NatsConfig;
use crate::group_commit::{GroupCommit, suits};
use crate::link::Link;

/// The oldest nats-server that is not refused.
const OLDEST_SERVER: (u64, u64, u64) = (2, 15, 1);

/// A dead server is noticed after two of these.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody answers.
    #[error("cannot reach NATS at {url}: {why}. Is nats-server running there?")]
    Absent {
        /// The URLs tried.
        url: String,
        /// What the attempt met.
        why: String,
    },
    /// The server refuses our credentials.
    #[error("nats-server at {url} refuses us: {why}. Check user, password, token or credentials_file in [nats]")]
    Refused {
        /// The URLs tried.
        url: String,
        /// What it said.
        why: String,
    },
    /// The TLS session failed.
    #[error("TLS to NATS at {url} failed: {why}. Check [nats.tls]")]
    Tls {
        /// The URLs tried.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The server is older than what the durability promises need.
    #[error("nats-server {version} at {url} is too old: Postrider needs 2.15.1 or newer")]
    TooOld {
        /// What it is.
        version: String,
        /// Where it is.
        url: String,
    },
    /// The configuration cannot be right.
    #[error("[nats] {0}")]
    Config(String),
    /// A file cannot be read.
    #[error("cannot read {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

pub(crate) async fn connect(config: &NatsConfig, name: &str) -> Result<Link, ConnectError> {
    if config.urls.is_empty() {
        return Err(ConnectError::Config("urls is empty: name at least one server".to_owned()));
    }
    if !matches!(config.replicas, 1 | 3 | 5) {
        return Err(ConnectError::Config(format!("replicas is {}: it may be 1, 3 or 5", config.replicas)));
    }
    let commit = match &config.sync_folder {
        Some(_) if config.replicas > 1 => {
            return Err(ConnectError::Config("sync_folder goes with a single server (replicas = 1)".to_owned()));
        }
        Some(folder) if folder.exists() && !suits(folder) => {
            let why = "sync_folder lies on a filesystem that does not keep a renamed file through a power cut; use ext4 or btrfs";
            return Err(ConnectError::Config(why.to_owned()));
        }
        Some(folder) => Some(
            GroupCommit::start(folder)
                .map_err(|error| ConnectError::File { path: folder.clone(), why: error.to_string() })?,
        ),
        None => None,
    };
    let servers = config
        .urls
        .iter()
        .map(|url| {
            url.parse::<ServerAddr>()
                .map_err(|e| ConnectError::Config(format!("urls: one is no address of a NATS server: {e}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    // A URL may hold a password: only scheme, host and port are ever shown.
    let shown = servers.iter().map(|server| format!("{}://{}:{}", server.scheme(), server.host(), server.port()));
    let url = shown.collect::<Vec<_>>().join(", ");

    let (connections, reconnects) = watch::channel(0);
    let options = options(config, name)?.event_callback(move |event| {
        note(&event);
        if matches!(event, Event::Connected) {
            connections.send_modify(|count| *count += 1);
        }
        std::future::ready(())
    });
    let client = options.connect(servers).await.map_err(|error| {
        let why = chain(&error);
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ConnectError::Refused { url: url.clone(), why }
            }
            ConnectErrorKind::Tls => ConnectError::Tls { url: url.clone(), why },
            _ if is_tls(&error) => ConnectError::Tls { url: url.clone(), why },
            _ => ConnectError::Absent { url: url.clone(), why },
        }
    })?;
    let version = client.server_info().version;
    if !is_new_enough(&version) {
        return Err(ConnectError::TooOld { version, url });
    }
    Ok(Link { client, reconnects, commit })
}

fn options(config: &NatsConfig, name: &str) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(name)
        .ping_interval(PING_INTERVAL)
        .custom_inbox_prefix(&config.inbox_prefix)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_secs(5)))
        .client_capacity(8 * 1024)
        .subscription_capacity(128 * 1024)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let millis = 50u64.saturating_mul(1 << attempts.min(6));
            Duration::from_millis(millis.min(2_000))
        });
    if let Some(path) = &config.credentials_file {
        let text =
            std::fs::read_to_string(path).map_err(|e| ConnectError::File { path: path.clone(), why: e.to_string() })?;
        options = options
            .credentials(&text)
            .map_err(|e| ConnectError::Config(format!("credentials_file {}: {e}", path.display())))?;
    }
    match (&config.user, &config.password) {
        (Some(user), Some(password)) => options = options.user_and_password(user.clone(), password.clone()),
        (None, None) => {}
        (Some(_), None) => return Err(ConnectError::Config("user is set, password is not".to_owned())),
        (None, Some(_)) => return Err(ConnectError::Config("password is set, user is not".to_owned())),
    }
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    let tls = &config.tls;
    if let Some(path) = &tls.ca_file {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
        }
        (None, None) => {}
        _ => return Err(ConnectError::Config("tls: cert_file and key_file go together".to_owned())),
    }
    if tls.required {
        options = options.require_tls(true);
    }
    Ok(options)
}

fn note(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS; reconnecting"),
        other => tracing::debug!(event = %other, "NATS"),
    }
}

/// A handshake that fails comes as an I/O error around one of rustls.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<async_nats::rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn is_new_enough(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
    let (Some(Some(major)), Some(Some(minor)), Some(Some(patch))) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    (major, minor, patch) >= OLDEST_SERVER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_before_2_15_1_are_refused() {
        for old in ["2.15.0", "2.14.9", "2.9.10", "1.99.99", "", "x", "2.15"] {
            assert!(!is_new_enough(old), "{old:?}");
        }
        for new in ["2.15.1", "2.15.2-RC.1", "2.16.0", "3.0.0"] {
            assert!(is_new_enough(new), "{new:?}");
        }
    }
}
