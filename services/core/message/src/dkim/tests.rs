//! Signatures are checked by mail-auth's verifier, with the public key in its cache: no DNS, no socket.

use std::borrow::Borrow;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt};

use super::*;

/// A key, and the DNS as a cache that holds nothing but its record.
struct Key {
    private: Vec<u8>,
    record: Arc<DomainKey>,
}

impl Key {
    fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let record = format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref()));
        Self { private: private.as_ref().to_vec(), record: Arc::new(DomainKey::parse(record.as_bytes()).unwrap()) }
    }

    fn signer(&self) -> Signer {
        Signer::from_pkcs8_or_pem(&"acme.example".parse().unwrap(), "s2026", &self.private).unwrap()
    }

    fn sign(&self, message: &str) -> String {
        self.signer().sign(message.as_bytes(), Timestamp::from_millis(1_763_786_400_123)).unwrap()
    }

    fn verify(&self, message: &str) -> bool {
        let parsed = AuthenticatedMessage::parse(message.as_bytes()).unwrap();
        let dns = MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default()).unwrap();
        let verifying = std::pin::pin!(dns.verify_dkim(Parameters::new(&parsed).with_txt_cache(self)));
        let Poll::Ready(results) = verifying.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("the verifier asked for more than the one record");
        };
        assert_eq!(results.len(), 1);
        matches!(results[0].result(), DkimResult::Pass)
    }
}

impl ResolverCache<Box<str>, Txt> for Key {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let record: Box<str> = "s2026._domainkey.acme.example.".into();
        (record.borrow() == name).then(|| Txt::DomainKey(Arc::clone(&self.record)))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

const MESSAGE: &str = "From: Ann <ann@acme.example>\r\nTo: bob@example.net\r\nSubject:  Hello \r\n\tthere\r\n\
    Date: Sat, 22 Nov 2025 04:40:00 +0000\r\nMessage-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\n\
    List-Unsubscribe: <https://acme.example/u>\r\n\r\nHi  Bob, \r\n\r\n.\r\nAnn\r\n\r\n\r\n";

#[test]
fn a_signed_message_verifies() {
    let key = Key::generate();
    assert!(key.verify(&format!("{}{MESSAGE}", key.sign(MESSAGE))));
}

#[test]
fn messages_of_every_shape_verify() {
    let key = Key::generate();
    for message in [
        "From: ann@acme.example\r\n\r\n",
        "From: ann@acme.example\r\n",
        "From: ann@acme.example\r\n\r\nno line break at the end",
        "From: ann@acme.example\r\n\r\n\r\n\r\n",
        "FROM: ann@acme.example\r\nto:\r\n\tbob@example.net ,\r\n\tcy@example.net\r\n\r\n \t\r\nx\t y\r\n",
        "From: Jürgen <ann@acme.example>\r\nSubject: é\r\n\r\nä\r\n",
        "Received: from a\r\nFrom: a@acme.example\r\nTo: b@c.example\r\nTo: d@e.example\r\n\r\ntwo To fields\r\n",
    ] {
        assert!(key.verify(&format!("{}{message}", key.sign(message))), "{message:?}");
    }
}

#[test]
fn a_changed_body_or_field_does_not_verify() {
    let key = Key::generate();
    let signed = format!("{}{MESSAGE}", key.sign(MESSAGE));
    for (old, new) in
        [("Hi  Bob", "Hi Rob"), ("bob@", "rob@"), ("example/u", "example/v"), ("MIME-Version: 1.0\r\n", "")]
    {
        assert!(!key.verify(&signed.replacen(old, new, 1)), "{old:?} became {new:?}");
    }
}

#[test]
fn nobody_can_add_another_of_the_oversigned_fields() {
    let key = Key::generate();
    let field = key.sign(MESSAGE);
    for name in OVERSIGNED {
        assert!(!key.verify(&format!("{field}{name}: added@evil.example\r\n{MESSAGE}")), "{name} before");
        let below = MESSAGE.replacen("\r\n\r\n", &format!("\r\n{name}: added@evil.example\r\n\r\n"), 1);
        assert!(!key.verify(&format!("{field}{below}")), "{name} behind");
    }
}

#[test]
fn fields_that_are_not_signed_may_be_added_on_the_way() {
    let key = Key::generate();
    assert!(key.verify(&format!("Received: from x\r\n{}X-Spam: no\r\n{MESSAGE}", key.sign(MESSAGE))));
}

#[test]
fn relaxed_canonicalisation_forgives_space() {
    let key = Key::generate();
    let signed = format!("{}{MESSAGE}", key.sign(MESSAGE));
    assert!(key.verify(&signed.replacen("Hi  Bob, ", "Hi Bob,", 1).replacen(
        "Subject:  Hello \r\n\tthere",
        "SUBJECT: Hello there",
        1
    )));
}

#[test]
fn the_field_names_domain_selector_time_and_each_oversigned_field_once_too_often() {
    let field = Key::generate().sign("From: a@acme.example\r\nTo: b@c.example\r\nTo: d@c.example\r\n\r\n");
    let flat: String = field.split_whitespace().collect();
    assert!(field.starts_with("DKIM-Signature: v=1; a=rsa-sha256; s=s2026; d=acme.example; c=relaxed/relaxed;"));
    assert!(flat.contains(";h=From:From:To:To:To:Subject:Date:Message-ID;"), "{flat}");
    assert!(flat.contains(";t=1763786400;"), "{flat}");
    assert!(field.ends_with(";\r\n") && field.lines().all(|line| line.len() <= 78), "{field}");
}

#[test]
fn the_same_message_at_the_same_time_has_the_same_signature() {
    let key = Key::generate();
    assert_eq!(key.sign(MESSAGE), key.sign(MESSAGE));
}

#[test]
fn keys_are_taken_as_pem_too() {
    let key = Key::generate();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&key.private));
    let signer = Signer::from_pkcs8_or_pem(&"acme.example".parse().unwrap(), "s2026", pem.as_bytes()).unwrap();
    let field = signer.sign(MESSAGE.as_bytes(), Timestamp::from_millis(1_763_786_400_123)).unwrap();
    assert_eq!(field, key.sign(MESSAGE));
}

#[test]
fn what_is_no_key_is_refused() {
    for key in [&b""[..], b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let error = Signer::from_pkcs8_or_pem(&"acme.example".parse().unwrap(), "s", key).unwrap_err();
        assert!(matches!(error, DkimError::Key(_)), "{error}");
    }
}

#[test]
fn a_selector_is_a_name() {
    let key = Key::generate();
    for (domain, selector) in
        [("acme.example", ""), ("acme.example", "a b"), ("acme.example", "a;d=x"), ("[192.0.2.1]", "s")]
    {
        let error = Signer::from_pkcs8_or_pem(&domain.parse().unwrap(), selector, &key.private).unwrap_err();
        assert!(matches!(error, DkimError::Selector(_)), "{error}");
    }
}

#[test]
fn a_message_without_from_is_not_signed() {
    let signer = Key::generate().signer();
    assert_eq!(signer.sign(b"To: b@c.example\r\n\r\n", Timestamp::default()), Err(DkimError::NoFrom));
    assert_eq!(signer.sign(b"From nobody\r\n", Timestamp::default()), Err(DkimError::NoFrom));
}

#[test]
fn a_signer_hides_its_key() {
    let text = format!("{:?}", Key::generate().signer());
    assert_eq!(text, "Signer { domain: \"acme.example\", selector: \"s2026\", .. }");
}
