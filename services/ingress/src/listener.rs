//! One listener as its sessions need it: checked, with the certificate loaded.

use std::sync::Arc;

use postrider_model::Domain;
use postrider_smtp::{AuthOffer, ServerConfig, TlsOffer};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

use crate::config::{ListenerConfig, ListenerTls};

/// Why a listener cannot work as configured.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ListenerError {
    /// TLS without a certificate.
    #[error("listener {0:?} speaks TLS: set certificate_file and key_file in [ingress]")]
    NoCertificate(String),
    /// AUTH is demanded and can never be had.
    #[error(
        "listener {0:?} requires AUTH but has no TLS to protect passwords: give it a certificate, or set \
         allow_auth_without_tls"
    )]
    AuthImpossible(String),
    /// The name is no label.
    #[error("listener {0:?}: a name is 1 to 32 of a-z, 0-9 and '-'")]
    Name(String),
}

/// A listener in use.
pub(crate) struct Listener {
    pub(crate) name: Arc<str>,
    pub(crate) smtp: ServerConfig,
    /// How to begin TLS, where it is offered.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Listener {
    pub(crate) fn new(
        config: &ListenerConfig,
        host_name: &Domain,
        acceptor: Option<&TlsAcceptor>,
    ) -> Result<Self, ListenerError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=32).contains(&config.name.len()) || !config.name.chars().all(allowed) {
            return Err(ListenerError::Name(config.name.chars().take(80).collect()));
        }
        let tls = match config.tls(acceptor.is_some()) {
            ListenerTls::None => TlsOffer::None,
            ListenerTls::StartTls => TlsOffer::StartTls,
            ListenerTls::Implicit => TlsOffer::Implicit,
        };
        if tls != TlsOffer::None && acceptor.is_none() {
            return Err(ListenerError::NoCertificate(config.name.clone()));
        }
        let auth = match tls {
            _ if config.allow_auth_without_tls => AuthOffer::Always,
            TlsOffer::None => AuthOffer::Never,
            TlsOffer::StartTls | TlsOffer::Implicit => AuthOffer::OnlyOverTls,
        };
        if config.requires_auth() && auth == AuthOffer::Never {
            return Err(ListenerError::AuthImpossible(config.name.clone()));
        }
        let smtp =
            ServerConfig { tls, auth, require_auth: config.requires_auth(), ..ServerConfig::new(host_name.clone()) };
        let tls = acceptor.filter(|_| tls != TlsOffer::None).cloned();
        Ok(Self { name: config.name.as_str().into(), smtp, tls })
    }

    /// Whether TLS is on from the first byte.
    pub(crate) fn is_implicit(&self) -> bool {
        self.smtp.tls == TlsOffer::Implicit
    }

    /// Whether AUTH would be taken.
    pub(crate) fn may_authenticate(&self) -> bool {
        self.smtp.auth != AuthOffer::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerKind;

    fn config(kind: ListenerKind) -> ListenerConfig {
        ListenerConfig::new("it", "127.0.0.1:0".parse().unwrap(), kind)
    }

    fn check(config: &ListenerConfig) -> Result<ServerConfig, ListenerError> {
        Listener::new(config, &"mx.example".parse().unwrap(), None).map(|listener| listener.smtp)
    }

    #[test]
    fn a_relay_without_a_certificate_takes_no_passwords() {
        let smtp = check(&config(ListenerKind::Relay)).unwrap();
        assert_eq!((smtp.tls, smtp.auth, smtp.require_auth), (TlsOffer::None, AuthOffer::Never, false));
    }

    #[test]
    fn a_submission_listener_that_nobody_could_use_is_refused() {
        let error = check(&config(ListenerKind::Submission)).unwrap_err();
        assert_eq!(error, ListenerError::AuthImpossible("it".to_owned()));
        let mut open = config(ListenerKind::Submission);
        open.allow_auth_without_tls = true;
        assert_eq!(check(&open).unwrap().auth, AuthOffer::Always);
    }

    #[test]
    fn tls_needs_a_certificate() {
        let error = check(&config(ListenerKind::Submissions)).unwrap_err();
        assert_eq!(error, ListenerError::NoCertificate("it".to_owned()));
    }

    #[test]
    fn a_name_is_a_label() {
        for name in ["", "a b", "A", &"x".repeat(33)] {
            let config = ListenerConfig { name: name.to_owned(), ..config(ListenerKind::Relay) };
            assert!(check(&config).is_err(), "{name:?}");
        }
    }
}
