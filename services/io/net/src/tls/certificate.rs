//! The certificate a listener shows: from PEM text or files, replaced at run time without touching running connections.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// A certificate chain with its key, in force for new handshakes until it is replaced.
pub struct ServerCertificate {
    current: ArcSwap<Loaded>,
    files: Option<(PathBuf, PathBuf)>,
    provider: Arc<CryptoProvider>,
}

struct Loaded {
    certificate_pem: Vec<u8>,
    key_pem: Vec<u8>,
    certified: Arc<CertifiedKey>,
}

/// What a reload found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// New handshakes show the new certificate.
    Replaced,
}

impl ServerCertificate {
    /// A certificate from PEM text: the chain with the server's own certificate first, and its private key.
    pub fn from_pem(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Arc<Self>, TlsError> {
        Self::build(certificate_pem.to_vec(), key_pem.to_vec(), None)
    }

    /// A certificate from two PEM files, which [`Self::reload`] reads again.
    pub async fn from_files(certificate: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let (certificate_pem, key_pem) = (read(certificate).await?, read(key).await?);
        Self::build(certificate_pem, key_pem, Some((certificate.to_owned(), key.to_owned())))
    }

    fn build(
        certificate_pem: Vec<u8>,
        key_pem: Vec<u8>,
        files: Option<(PathBuf, PathBuf)>,
    ) -> Result<Arc<Self>, TlsError> {
        let provider = provider();
        let loaded = load(certificate_pem, key_pem, &provider)?;
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(loaded), files, provider }))
    }

    /// Reads the files again and puts what they hold in force for new handshakes. On an error (also a half-written pair
    /// that does not fit together) the old certificate stays. Call it now and then: it costs two small reads.
    pub async fn reload(&self) -> Result<Reload, TlsError> {
        let Some((certificate, key)) = &self.files else { return Ok(Reload::Unchanged) };
        let (certificate_pem, key_pem) = (read(certificate).await?, read(key).await?);
        let current = self.current.load();
        if current.certificate_pem == certificate_pem && current.key_pem == key_pem {
            return Ok(Reload::Unchanged);
        }
        self.current.store(Arc::new(load(certificate_pem, key_pem, &self.provider)?));
        Ok(Reload::Replaced)
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().certified.clone())
    }
}

/// The TLS side of a listener: TLS 1.2 and 1.3, no client certificates, no early data.
pub fn server_config(certificate: Arc<ServerCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let config = ServerConfig::builder_with_provider(certificate.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Refused)?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    Ok(Arc::new(config))
}

/// A certificate signed by itself, as PEM text.
#[derive(Clone)]
pub struct SelfSigned {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (ECDSA P-256, PKCS#8).
    pub key_pem: String,
}

impl fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelfSigned").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// Makes a certificate for host names and addresses that no authority vouches for: enough to encrypt.
pub fn self_signed(names: &[String]) -> Result<SelfSigned, TlsError> {
    let made = rcgen::generate_simple_self_signed(names).map_err(TlsError::Generate)?;
    Ok(SelfSigned { certificate_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() })
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|error| TlsError::Read { path: path.display().to_string(), error })
}

fn load(certificate_pem: Vec<u8>, key_pem: Vec<u8>, provider: &CryptoProvider) -> Result<Loaded, TlsError> {
    let bad_certificate = |error| TlsError::Pem { what: "certificate", error };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&certificate_pem).collect::<Result<_, _>>().map_err(bad_certificate)?;
    if chain.is_empty() {
        return Err(bad_certificate(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| TlsError::Pem { what: "private key", error })?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Refused)?;
    Ok(Loaded { certificate_pem, key_pem, certified: Arc::new(certified) })
}
