//! The receiver's certificate: self-signed, made at start, kept nowhere.

use anyhow::Context;
use postrider_net::tls::{self, ServerCertificate};
use tokio_rustls::TlsAcceptor;

/// A server side of TLS with a new self-signed certificate for `name`.
pub(super) fn self_signed(name: &str) -> anyhow::Result<TlsAcceptor> {
    let made = tls::self_signed(&[name.to_owned()])
        .with_context(|| format!("receiver: no certificate can be made for {name:?}"))?;
    let certificate = ServerCertificate::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes())?;
    Ok(TlsAcceptor::from(tls::server_config(certificate)?))
}
