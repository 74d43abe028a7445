//! The configuration of the control service, and what of it is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::ControlError;
use crate::audit::{Keep, LEAST_HOURS};

/// The section `[control]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Where gRPC is served. Anything but loopback needs TLS. Port 0 takes a free one. Default: 127.0.0.1:2090.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The file that holds the token of clients, at least 16 characters. Several lines are several tokens, so that one can
    /// be exchanged for another without a gap. Required, but for `postrider up`, which makes one.
    #[serde(default)]
    pub token_file: PathBuf,
    /// The certificate chain (PEM) to show; goes with `key_file`.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// The private key (PEM) of `certificate_file`.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// How often one of the control processes audits by itself: accepted = ended + waiting. It reads everything that
    /// waits. 0: never; `postrider audit` does it at any time. Default: 600.
    #[serde(default = "default_audit")]
    pub audit_every_secs: u64,
    /// For how many days sums of the audit are kept hour by hour, at least 9; after that day by day. Default: 14.
    #[serde(default = "default_audit_hours")]
    pub audit_hours_days: u64,
    /// For how many days sums of the audit are kept, at most 1000. Default: 366.
    #[serde(default = "default_audit_days")]
    pub audit_days: u64,
    /// How long a body that several parts of a message shared is kept after the last of them has ended. Default: 3600.
    #[serde(default = "default_bodies")]
    pub bodies_kept_secs: u64,
}

/// How often an audit is made that nobody asks for, unless the configuration says otherwise.
pub const AUDIT_EVERY_SECS: u64 = 600;

/// How long a shared body is kept after its last part, unless the configuration says otherwise.
pub const BODIES_KEPT_SECS: u64 = 3_600;

/// For how many days sums of the audit are kept hour by hour, unless the configuration says otherwise.
pub const AUDIT_HOURS_DAYS: u64 = 14;

/// For how many days sums of the audit are kept, unless the configuration says otherwise.
pub const AUDIT_DAYS: u64 = 366;

const fn default_audit_hours() -> u64 {
    AUDIT_HOURS_DAYS
}

const fn default_audit_days() -> u64 {
    AUDIT_DAYS
}

const fn default_bodies() -> u64 {
    BODIES_KEPT_SECS
}

const fn default_audit() -> u64 {
    AUDIT_EVERY_SECS
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 2090))
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            listen: default_listen(),
            token_file: PathBuf::new(),
            certificate_file: None,
            key_file: None,
            audit_every_secs: AUDIT_EVERY_SECS,
            audit_hours_days: AUDIT_HOURS_DAYS,
            audit_days: AUDIT_DAYS,
            bodies_kept_secs: BODIES_KEPT_SECS,
        }
    }
}

impl ControlConfig {
    /// How often an audit is made that nobody asks for.
    pub(crate) fn audit_every(&self) -> Option<Duration> {
        (self.audit_every_secs > 0).then(|| Duration::from_secs(self.audit_every_secs))
    }

    /// How long sums of the audit are kept.
    pub(crate) fn audit_kept(&self) -> Result<Keep, ControlError> {
        let (hours, days) = (self.audit_hours_days, self.audit_days);
        if hours < LEAST_HOURS || days < hours || days > 1_000 {
            return Err(ControlError::Config(format!(
                "control.audit_hours_days {hours} and control.audit_days {days}: the first is to be at least {LEAST_HOURS}, the second \
                 no less than the first and at most 1000"
            )));
        }
        Ok(Keep { hours, days })
    }

    /// How long a shared body is kept after its last part.
    pub(crate) fn bodies_kept(&self) -> Duration {
        Duration::from_secs(self.bodies_kept_secs.max(1))
    }

    /// The certificate and key files, if TLS is on.
    pub(crate) fn tls_files(&self) -> Result<Option<(&Path, &Path)>, ControlError> {
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) if self.listen.ip().is_loopback() => Ok(None),
            (None, None) => Err(ControlError::Config(format!(
                "control.listen {} is not loopback, and tokens do not travel in plain text: set control.certificate_file \
                 and control.key_file, or listen on 127.0.0.1",
                self.listen
            ))),
            (Some(_), None) => Err(ControlError::Config("control.certificate_file needs control.key_file".into())),
            (None, Some(_)) => Err(ControlError::Config("control.key_file needs control.certificate_file".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str) -> ControlConfig {
        ControlConfig {
            listen: listen.parse().unwrap(),
            token_file: "token".into(),
            certificate_file: None,
            key_file: None,
            audit_every_secs: 0,
            bodies_kept_secs: 0,
            audit_hours_days: AUDIT_HOURS_DAYS,
            audit_days: AUDIT_DAYS,
        }
    }

    #[test]
    fn plain_text_is_for_loopback_only() {
        assert!(config("127.0.0.1:0").tls_files().is_ok());
        assert!(config("[::1]:0").tls_files().is_ok());
        let refusal = config("0.0.0.0:2090").tls_files().unwrap_err().to_string();
        assert!(refusal.contains("0.0.0.0:2090") && refusal.contains("control.certificate_file"), "{refusal}");
    }

    #[test]
    fn sums_are_kept_by_the_hour_for_as_long_as_events_and_by_the_day_for_longer() {
        let kept = |hours, days| {
            ControlConfig { audit_hours_days: hours, audit_days: days, ..config("127.0.0.1:0") }.audit_kept()
        };
        assert!(kept(9, 9).is_ok() && kept(8, 366).is_err() && kept(20, 19).is_err() && kept(14, 1_001).is_err());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let config = ControlConfig { certificate_file: Some("cert.pem".into()), ..config("127.0.0.1:0") };
        assert!(config.tls_files().unwrap_err().to_string().contains("control.key_file"));
    }
}
