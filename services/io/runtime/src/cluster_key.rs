//! The cluster key: one secret of 32 bytes that every process of a cluster reads from a file. It authenticates (HMAC of
//! credentials and tokens) and seals (DKIM keys in the config bucket). It never leaves this module.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hmac};
use thiserror::Error;

use crate::random;

/// Why there is no cluster key.
#[derive(Debug, Error)]
pub enum ClusterKeyError {
    /// The file could not be read or made.
    #[error("cluster key {path}: cannot {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others may read or change the file.
    #[error("cluster key {path}: mode {mode:04o} lets others at it; run: chmod 600 {path}")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error("cluster key {path}: {length} bytes that are no key; expected 32 bytes, or 64 hexadecimal digits")]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes found.
        length: usize,
    },
}

/// What could not be sealed, or opened: it was sealed under another key or for another purpose, or was changed since.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not sealed by this cluster's key for this purpose, or changed since")]
pub struct SealError;

/// The key. Cloning copies it; printing hides it.
#[derive(Clone)]
pub struct ClusterKey {
    authenticate: hmac::Key,
    seal: [u8; 32],
}

impl ClusterKey {
    /// The format of what [`ClusterKey::seal`] makes: its first byte.
    const SEAL_VERSION: u8 = 1;

    /// A key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        // Two purposes, two keys: neither result tells anything about the other.
        let root = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let authenticate = derive(&root, "postrider authenticate");
        Self { authenticate: hmac::Key::new(hmac::HMAC_SHA256, &authenticate), seal: derive(&root, "postrider seal") }
    }

    /// Reads the key from a file: 32 bytes, or 64 hexadecimal digits. Only its owner may have access to the file; reading
    /// by its group is let pass, because that is how Kubernetes mounts a Secret for a process that is not root.
    ///
    /// # Errors
    /// If the file is absent, open to others, or no key.
    pub fn load(path: &Path) -> Result<Self, ClusterKeyError> {
        let failed = |what| move |source| ClusterKeyError::File { path: path.to_owned(), what, source };
        let mut file = File::open(path).map_err(failed("open it"))?;
        let mode = file.metadata().map_err(failed("read its mode"))?.permissions().mode() & 0o777;
        if mode & 0o037 != 0 {
            return Err(ClusterKeyError::Mode { path: path.to_owned(), mode });
        }
        let mut content = Vec::new();
        Read::by_ref(&mut file).take(1024).read_to_end(&mut content).map_err(failed("read it"))?;
        let bytes =
            parse(&content).ok_or_else(|| ClusterKeyError::Length { path: path.to_owned(), length: content.len() })?;
        Ok(Self::from_bytes(bytes))
    }

    /// As [`ClusterKey::load`], but makes a new key (mode 0600) where there is no file yet. Two processes that start at the
    /// same time end up with the same key.
    ///
    /// # Errors
    /// As [`ClusterKey::load`], and if the file cannot be made.
    pub fn load_or_create(path: &Path) -> Result<Self, ClusterKeyError> {
        match Self::load(path) {
            Err(ClusterKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|source| ClusterKeyError::File {
                    path: path.to_owned(),
                    what: "make it",
                    source,
                })?;
                Self::load(path)
            }
            found => found,
        }
    }

    /// HMAC-SHA-256 over `context` (the purpose) and `parts`, each with its length, so that no two lists meet.
    pub fn mac(&self, context: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut signing = hmac::Context::with_key(&self.authenticate);
        for part in std::iter::once(context.as_bytes()).chain(parts.iter().copied()) {
            signing.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            signing.update(part);
        }
        let mut mac = [0; 32];
        mac.copy_from_slice(signing.sign().as_ref());
        mac
    }

    /// Whether `mac` is what [`ClusterKey::mac`] makes of the rest, in constant time.
    pub fn verify(&self, context: &str, parts: &[&[u8]], mac: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.mac(context, parts), mac).is_ok()
    }

    /// Seals `plain` for the purpose `context` (AES-256-GCM, random nonce): what comes out may be kept where others read.
    ///
    /// # Errors
    /// If the cryptography fails; in practice never.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random::bytes::<NONCE_LEN>();
        let mut sealed = plain.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut sealed)
            .map_err(|_| SealError)?;
        Ok([&[Self::SEAL_VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what [`ClusterKey::seal`] made for the same purpose.
    ///
    /// # Errors
    /// If it was sealed by another key, for another purpose, or changed since.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError)?;
        let (nonce, cipher_text) = rest.split_at_checked(NONCE_LEN).ok_or(SealError)?;
        if *version != Self::SEAL_VERSION {
            return Err(SealError);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
        let mut plain = cipher_text.to_vec();
        let length = self
            .cipher()?
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut plain)
            .map_err(|_| SealError)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        UnboundKey::new(&AES_256_GCM, &self.seal).map(LessSafeKey::new).map_err(|_| SealError)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(***)")
    }
}

fn derive(root: &hmac::Key, purpose: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(hmac::sign(root, purpose.as_bytes()).as_ref());
    key
}

fn parse(content: &[u8]) -> Option<[u8; 32]> {
    if let Ok(bytes) = content.try_into() {
        return Some(bytes);
    }
    let digits = content.trim_ascii();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// Writes a new key beside `path` and links it into place: nobody ever sees half a key, and the first one stays.
fn create(path: &Path) -> io::Result<()> {
    let suffix = u64::from_be_bytes(random::bytes());
    let beside = path.with_extension(format!("{suffix:016x}.new"));
    let digits: String = random::bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect();
    let linked = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(format!("{digits}\n").as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| match fs::hard_link(&beside, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    fs::remove_file(&beside)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    linked
}

#[cfg(test)]
mod tests;
