//! One DKIM signature (RFC 6376): RSA, rsa-sha256, relaxed/relaxed. Signs the message as it will be sent; never reads a
//! clock (t= is handed in) and never makes keys.

mod body;

use mail_auth::common::crypto::{Algorithm, HashContext, HashImpl, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::{Canonicalization, Signature};
use postrider_model::{Domain, Timestamp};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::header::{Header, headers};

/// Signed once more often than they occur, so that nobody can add another: RFC 6376 section 8.15.
const OVERSIGNED: [&str; 5] = ["From", "To", "Subject", "Date", "Message-ID"];

/// Signed as often as they occur: RFC 6376 section 5.4.1 and RFC 8058 section 4.
const SIGNED: [&str; 14] = [
    "Sender",
    "Reply-To",
    "Cc",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Post",
    "List-Help",
    "Feedback-ID",
];

/// What went wrong on our side.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DkimError {
    /// The key is no RSA key of at least 2048 bits in PKCS#8 or PKCS#1, DER or PEM.
    #[error("not a usable private RSA key: {0}")]
    Key(String),
    /// The selector is no sequence of labels.
    #[error("{0:?} is no selector")]
    Selector(String),
    /// A message without a From field cannot be signed (RFC 6376 section 5.4).
    #[error("the message has no From field")]
    NoFrom,
    /// The library refused to sign.
    #[error("signing failed: {0}")]
    Sign(String),
}

/// Signs for one domain with one key. Made once, used from many threads.
pub struct Signer {
    key: RsaKey<Sha256>,
    domain: String,
    selector: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("domain", &self.domain).field("selector", &self.selector).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer for `domain` (d=) whose public key stands at `<selector>._domainkey.<domain>`. The private key is PKCS#8 in
    /// DER, or PEM.
    ///
    /// # Errors
    /// [`DkimError::Key`] and [`DkimError::Selector`].
    pub fn from_pkcs8_or_pem(domain: &Domain, selector: &str, private_key: &[u8]) -> Result<Self, DkimError> {
        if domain.literal().is_some() || selector.parse::<Domain>().is_err() || !selector.is_ascii() {
            return Err(DkimError::Selector(selector.chars().take(80).collect()));
        }
        let key = if private_key.trim_ascii_start().starts_with(b"-----BEGIN") {
            PrivateKeyDer::from_pem_slice(private_key).map_err(|error| DkimError::Key(error.to_string()))?
        } else {
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private_key))
        };
        let key = RsaKey::from_key_der(key).map_err(|error| DkimError::Key(error.to_string()))?;
        Ok(Self { key, domain: domain.as_str().to_owned(), selector: selector.to_owned() })
    }

    /// The field `DKIM-Signature` with its CRLF, to be put before `message`.
    ///
    /// # Errors
    /// [`DkimError::NoFrom`] and [`DkimError::Sign`].
    pub fn sign(&self, message: &[u8], now: Timestamp) -> Result<String, DkimError> {
        let mut fields = headers(message);
        let present: Vec<Header<'_>> = fields.by_ref().collect();
        if !present.iter().any(|field| field.is("From")) {
            return Err(DkimError::NoFrom);
        }
        let rest = message.get(fields.position()..).unwrap_or_default();
        let selection = Selection::of(&present);
        let mut signature = Signature {
            v: 1,
            a: Algorithm::RsaSha256,
            d: self.domain.clone(),
            s: self.selector.clone(),
            h: selection.names,
            bh: body_hash(without_empty_line(rest)),
            t: now.as_secs(),
            ch: Canonicalization::Relaxed,
            cb: Canonicalization::Relaxed,
            ..Signature::default()
        };
        let to_sign = ToSign { fields: selection.fields, signature: &signature };
        signature.b = self.key.sign(to_sign).map_err(|error| DkimError::Sign(error.to_string()))?;
        let mut field = Vec::with_capacity(1024);
        signature.write(&mut field, true);
        String::from_utf8(field).map_err(|error| DkimError::Sign(error.to_string()))
    }
}

/// What h= names, and the fields that it stands for.
#[derive(Default)]
struct Selection<'a> {
    names: Vec<String>,
    fields: Vec<&'a Header<'a>>,
}

impl<'a> Selection<'a> {
    /// Fields of one name are taken from the last to the first (RFC 6376 section 5.4.2); a name more than there are fields
    /// stands for nothing.
    fn of(present: &'a [Header<'a>]) -> Self {
        let mut selection = Self::default();
        for name in OVERSIGNED {
            selection.add(present, name);
            selection.names.push(name.to_owned());
        }
        for name in SIGNED {
            selection.add(present, name);
        }
        selection
    }

    fn add(&mut self, present: &'a [Header<'a>], name: &str) {
        for field in present.iter().rev().filter(|field| field.is(name)) {
            self.names.push(name.to_owned());
            self.fields.push(field);
        }
    }
}

struct ToSign<'a> {
    fields: Vec<&'a Header<'a>>,
    signature: &'a Signature,
}

impl Writable for ToSign<'_> {
    fn write(self, writer: &mut impl Writer) {
        let fields = self.fields.iter().map(|field| (field.name().as_bytes(), field.raw_value()));
        Canonicalization::Relaxed.canonicalize_headers(fields, writer);
        self.signature.write(writer, false);
    }
}

fn without_empty_line(rest: &[u8]) -> &[u8] {
    rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest)
}

fn body_hash(body: &[u8]) -> Vec<u8> {
    let mut hasher = Sha256::hasher();
    body::relaxed(body, |piece| hasher.write(piece));
    hasher.complete().as_ref().to_vec()
}

#[cfg(test)]
mod tests;
