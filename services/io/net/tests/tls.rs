//! Handshakes between our own server and client sides, with the certificates that real exchangers have.
#![allow(clippy::unwrap_used, reason = "what tests are built from may panic as tests do")]

use std::sync::Arc;

use anyhow::Result;
use postrider_net::Host;
use postrider_net::tls::{
    Reload, SelfSigned, ServerCertificate, TlsError, describe, opportunistic_client, self_signed, server_config,
    server_name,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What both sides saw of a handshake.
struct Shaken {
    client: String,
    server: String,
    asked_for: Option<String>,
    certificate: Vec<u8>,
}

async fn shake_hands(config: Arc<ServerConfig>, name: ServerName<'static>) -> Result<Shaken> {
    let (near, far) = tokio::io::duplex(16_384);
    let connector = TlsConnector::from(opportunistic_client()?);
    let (client, server) = tokio::join!(connector.connect(name, near), TlsAcceptor::from(config).accept(far));
    let (client, server) = (client?, server?);
    let certificate = client.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec());
    Ok(Shaken {
        client: describe(client.get_ref().1),
        server: describe(server.get_ref().1),
        asked_for: server.get_ref().1.server_name().map(str::to_owned),
        certificate: certificate.unwrap_or_default(),
    })
}

fn example() -> ServerName<'static> {
    server_name(&Host::Name("mx.example.com".parse().unwrap()), [192, 0, 2, 1].into())
}

fn made(name: &str) -> SelfSigned {
    self_signed(&[name.to_owned()]).unwrap()
}

fn shown(made: &SelfSigned) -> Vec<u8> {
    CertificateDer::from_pem_slice(made.certificate_pem.as_bytes()).unwrap().to_vec()
}

fn config(made: &SelfSigned) -> Result<Arc<ServerConfig>> {
    Ok(server_config(ServerCertificate::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes())?)?)
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_and_both_sides_say_the_same() -> Result<()> {
    let shaken = shake_hands(config(&made("mx.example.com"))?, example()).await?;
    assert_eq!(shaken.client, "TLSv1.3 TLS_AES_256_GCM_SHA384");
    assert_eq!(shaken.server, shaken.client);
    Ok(())
}

#[tokio::test]
async fn the_exchangers_host_name_is_asked_for() -> Result<()> {
    let shaken = shake_hands(config(&made("other.example"))?, example()).await?;
    assert_eq!(shaken.asked_for.as_deref(), Some("mx.example.com"));
    Ok(())
}

#[tokio::test]
async fn an_address_is_never_sent_as_a_name() -> Result<()> {
    let name = server_name(&Host::Address([192, 0, 2, 1].into()), [192, 0, 2, 1].into());
    let shaken = shake_hands(config(&made("other.example"))?, name).await?;
    assert_eq!(shaken.asked_for, None);
    Ok(())
}

#[tokio::test]
async fn an_expired_certificate_is_accepted() -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(["mx.example.com".to_owned()])?;
    parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate_pem = parameters.self_signed(&key)?.pem();
    shake_hands(config(&SelfSigned { certificate_pem, key_pem: key.serialize_pem() })?, example()).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_knows_only_tls_1_2_is_spoken_to() -> Result<()> {
    let made = made("mx.example.com");
    let certificate = ServerCertificate::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes())?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    let shaken = shake_hands(Arc::new(config), example()).await?;
    assert_eq!(shaken.client, "TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    Ok(())
}

/// X.509 version 1, as old appliances make them: `openssl x509 -req` without extensions.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBKDCBzwIUXEl0BjNY72V/oso1FCd9lgX/jeYwCgYIKoZIzj0EAwIwFjEUMBIG
A1UEAwwLb2xkLmV4YW1wbGUwIBcNMjYxMTIyMDUxNzQ3WhgPMjEyNjEwMjkwNTE3
NDdaMBYxFDASBgNVBAMMC29sZC5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEJp/WPIDRozlnBECWJopV4wAZkL2vyPjV1rgwzQveQssbW/Tx8fxCv2To
q6sjZdytuRPPwlMCwoEp0qlxhS1RdzAKBggqhkjOPQQDAgNIADBFAiA2OsIgIZs3
6cwm6euQe196IbL3utgGfyeYN/uLt46ErgIhAK7q2h0L34VZdxj0630mbSIVV9bI
K6+takheJNywfAm5
-----END CERTIFICATE-----
";
const VERSION_1_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBHiCkvhS3dbwBqMW
8DguVc3dbhbs7ZtI1cZJouOM5z6hRANCAAQmn9Y8gNGjOWcEQJYmilXjABmQva/I
+NXWuDDNC95Cyxtb9PHx/EK/ZOirqyNl3K25E8/CUwLCgSnSqXGFLVF3
-----END PRIVATE KEY-----
";

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[tokio::test]
async fn a_certificate_too_old_to_be_checked_is_accepted() -> Result<()> {
    let provider = aws_lc_rs::default_provider();
    let chain = vec![CertificateDer::from_pem_slice(VERSION_1.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(VERSION_1_KEY.as_bytes())?;
    let shown = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ServerConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[version])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shows(Arc::new(shown.clone()))));
        shake_hands(Arc::new(config), example()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_was_replaced_is_shown_after_a_reload() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (certificate_path, key_path) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let (old, new) = (made("mx.example.com"), made("mx.example.com"));
    std::fs::write(&certificate_path, &old.certificate_pem)?;
    std::fs::write(&key_path, &old.key_pem)?;
    let certificate = ServerCertificate::from_files(&certificate_path, &key_path).await?;
    let config = server_config(certificate.clone())?;
    assert_eq!(shake_hands(config.clone(), example()).await?.certificate, shown(&old));
    assert_eq!(certificate.reload().await?, Reload::Unchanged);

    // Half of the pair is new: they do not fit, the old one stays in force.
    std::fs::write(&certificate_path, &new.certificate_pem)?;
    assert!(matches!(certificate.reload().await, Err(TlsError::Refused(_))));
    assert_eq!(shake_hands(config.clone(), example()).await?.certificate, shown(&old));

    std::fs::write(&key_path, &new.key_pem)?;
    assert_eq!(certificate.reload().await?, Reload::Replaced);
    assert_eq!(shake_hands(config, example()).await?.certificate, shown(&new));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_a_certificate_is_named() {
    let made = made("mx.example.com");
    let error = |certificate: &str, key: &str| {
        ServerCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(error("", &made.key_pem), "no usable certificate in PEM form");
    assert_eq!(error(&made.certificate_pem, "nonsense"), "no usable private key in PEM form");
    let absent = ServerCertificate::from_files("/nowhere/tls.crt".as_ref(), "/nowhere/tls.key".as_ref()).await;
    assert_eq!(absent.unwrap_err().to_string(), "cannot read /nowhere/tls.crt");
}

#[test]
fn private_keys_are_not_printed() {
    let made = made("mx.example.com");
    let certificate = ServerCertificate::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes()).unwrap();
    for printed in [format!("{made:?}"), format!("{certificate:?}")] {
        assert!(!printed.contains("PRIVATE KEY"), "{printed}");
    }
}
