//! Credentials and TLS.

use postrider_model::ShardLayout;
use postrider_nats::{ConnectError, NatsConfig, NatsTls, OpenError, Spool};
use tempfile::TempDir;

use crate::server::Server;

async fn open(config: &NatsConfig) -> Result<Spool, OpenError> {
    Spool::open(config, "test", ShardLayout::SINGLE).await
}

#[tokio::test]
async fn the_right_password_opens_and_a_wrong_one_is_one_clear_line() {
    let server = Server::start_with(TempDir::new().unwrap(), &["--user", "postrider", "--pass", "right"]);
    let with = |password: &str| NatsConfig {
        user: Some("postrider".to_owned()),
        password: Some(password.to_owned()),
        ..server.config()
    };
    open(&with("right")).await.unwrap();
    let error = open(&with("wrong")).await.unwrap_err();
    assert!(matches!(error, OpenError::Connect(ConnectError::Refused { .. })), "{error}");
    assert!(error.to_string().contains("Check user, password, token or credentials_file"), "{error}");
}

#[tokio::test]
async fn a_token_opens() {
    let server = Server::start_with(TempDir::new().unwrap(), &["--auth", "ticket"]);
    open(&NatsConfig { token: Some("ticket".to_owned()), ..server.config() }).await.unwrap();
    assert!(open(&server.config()).await.is_err());
}

#[tokio::test]
async fn tls_wants_a_certificate_that_is_trusted() {
    let directory = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert_text, key_text) = (cert.to_str().unwrap().to_owned(), key.to_str().unwrap().to_owned());
    let server = Server::start_with(directory, &["--tls", "--tlscert", &cert_text, "--tlskey", &key_text]);

    let trusting = NatsTls { ca_file: Some(cert), ..NatsTls::default() };
    open(&NatsConfig { tls: trusting, ..server.config() }).await.unwrap();
    let error = open(&NatsConfig { tls: NatsTls { required: true, ..NatsTls::default() }, ..server.config() }).await;
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::Connect(ConnectError::Tls { .. })), "{error}");
}

#[tokio::test]
async fn half_a_credential_is_named() {
    let error = open(&NatsConfig { user: Some("postrider".to_owned()), ..NatsConfig::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), "[nats] user is set, password is not");
}
