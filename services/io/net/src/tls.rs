//! TLS on both sides, always with aws-lc-rs and never older than 1.2: server certificates that can be replaced while
//! connections run, and a client that encrypts where it can (RFC 7435). Verifies nobody's identity.

use std::sync::Arc;

use rustls::CommonState;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use thiserror::Error;

mod certificate;
pub use certificate::{Reload, SelfSigned, ServerCertificate, self_signed, server_config};

mod client;
pub use client::{opportunistic_client, server_name};

/// Why TLS could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A certificate or key file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The PEM text is malformed or holds nothing of what it should.
    #[error("no usable {what} in PEM form")]
    Pem {
        /// `certificate` or `private key`.
        what: &'static str,
        /// What was wrong.
        #[source]
        error: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit together, or the provider refuses them.
    #[error("the certificate and its key cannot be used")]
    Refused(#[source] rustls::Error),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Generate(#[source] rcgen::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Version and cipher suite of a connection after its handshake, for logs and `Received:` fields:
/// `TLSv1.3 TLS_AES_256_GCM_SHA384`.
pub fn describe(connection: &CommonState) -> String {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let suite = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
    // rustls names the suites of TLS 1.3 `TLS13_...`; the registered names begin with `TLS_` as all others do.
    let suite = suite.strip_prefix("TLS13_").map_or_else(|| suite.clone(), |rest| format!("TLS_{rest}"));
    format!("{version} {suite}").trim_end().to_owned()
}
