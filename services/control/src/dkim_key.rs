//! Makes DKIM keys: RSA-2048, and the DNS record that publishes the public half. Stores and seals nothing.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// The library could not make a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("no DKIM key could be made")]
pub struct GenerateKeyError;

/// A new key.
#[derive(Clone, PartialEq, Eq)]
pub struct GeneratedKey {
    /// The private half, PKCS#8 in DER. To be sealed before it is stored.
    pub private_key: Vec<u8>,
    /// The text of the TXT record at `<selector>._domainkey.<domain>` (RFC 6376 section 3.6.1).
    pub dns_record: String,
}

impl std::fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeneratedKey").field("dns_record", &self.dns_record).finish_non_exhaustive()
    }
}

/// Makes an RSA-2048 key. Takes some 100 ms of CPU: not for an async thread that serves others.
///
/// # Errors
/// [`GenerateKeyError`] if the library fails.
pub fn generate_key() -> Result<GeneratedKey, GenerateKeyError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| GenerateKeyError)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| GenerateKeyError)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| GenerateKeyError)?;
    Ok(GeneratedKey {
        private_key: private.as_ref().to_vec(),
        dns_record: format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public.as_ref())),
    })
}

#[cfg(test)]
mod tests {
    use postrider_message::dkim::Signer;

    use super::*;

    #[test]
    fn a_new_key_signs_and_its_record_holds_no_secret() {
        let key = generate_key().unwrap();
        assert!(Signer::from_pkcs8_or_pem(&"acme.example".parse().unwrap(), "s1", &key.private_key).is_ok());
        assert!(key.dns_record.starts_with("v=DKIM1; k=rsa; p=MII"));
        assert!((400..=440).contains(&key.dns_record.len()), "{}", key.dns_record.len());
        assert!(!format!("{key:?}").contains("private"));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(generate_key().unwrap().dns_record, generate_key().unwrap().dns_record);
    }
}
