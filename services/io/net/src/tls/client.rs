//! Opportunistic encryption towards exchangers (RFC 7435): any certificate is better than clear text. Never says that the
//! other side is who it claims to be.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::{TlsError, provider};
use crate::Host;

/// Client side for exchangers nobody vouches for: TLS 1.2 and 1.3, every certificate accepted. If a handshake fails all the
/// same, the caller may go on in clear text over a new connection (RFC 7435 section 4).
pub fn opportunistic_client() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(AcceptsAnybody { provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Refused)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The name to ask for in a handshake (SNI, RFC 6066 section 3): the exchanger's host name. For a host known by address, or
/// whose name TLS cannot carry, the address, which is not sent.
pub fn server_name(host: &Host, address: IpAddr) -> ServerName<'static> {
    match host {
        Host::Name(name) => ServerName::try_from(name.to_string()).unwrap_or_else(|_| address.into()),
        Host::Address(address) => (*address).into(),
    }
}

/// Accepts every certificate and every handshake signature. A signature by a key that nobody vouches for proves nothing,
/// and exchangers with X.509 v1 certificates, short RSA keys or unknown extensions would fail the check and get their
/// mail in clear text instead.
#[derive(Debug)]
struct AcceptsAnybody {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptsAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
