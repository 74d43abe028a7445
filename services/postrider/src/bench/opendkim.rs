//! The signer beside Postfix: opendkim as a milter with an RSA-2048 key of its own, signing what Postrider signs (relaxed/relaxed,
//! the same fields oversigned). Debian package `opendkim`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::system::SENDER_DOMAIN;

const PROGRAM: &str = "/usr/sbin/opendkim";

/// The words that start it in this folder on this port of 127.0.0.1.
///
/// # Errors
/// If it is not installed, or its files cannot be written.
pub fn command(folder: &Path, port: u16) -> anyhow::Result<Vec<std::ffi::OsString>> {
    if !Path::new(PROGRAM).exists() {
        bail!(
            "opendkim is not installed ({PROGRAM} is missing), and --dkim --compare postfix needs it: \
             apt-get install --no-install-recommends opendkim"
        );
    }
    let key_file = folder.join("dkim.pem");
    std::fs::write(&key_file, key().context("cannot make an RSA key")?)?;
    std::fs::set_permissions(&key_file, Permissions::from_mode(0o600))?;
    let config = folder.join("opendkim.conf");
    let text = format!(
        "Background no\nSyslog no\nMode s\nDomain {SENDER_DOMAIN}\nSelector bench\nKeyFile {}\n\
         Socket inet:{port}@127.0.0.1\nCanonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\n\
         InternalHosts 127.0.0.1\nOversignHeaders From,To,Subject,Date,Message-ID\nRequireSafeKeys no\nUserID root\n",
        key_file.display()
    );
    std::fs::write(&config, text)?;
    Ok(vec![PROGRAM.into(), "-f".into(), "-x".into(), config.into()])
}

/// A private key in PEM form (PKCS#8, RFC 7468).
fn key() -> anyhow::Result<String> {
    let pair = KeyPair::generate(KeySize::Rsa2048)?;
    let der: Pkcs8V1Der<'_> = pair.as_der()?;
    let text = STANDARD.encode(der.as_ref());
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}
