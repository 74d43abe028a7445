//! The data folder of `postrider up`: who holds it, and the secrets that are made once and kept.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use postrider_net::tls;
use postrider_runtime::{ClusterKey, random};

/// The folder, held by this process alone.
pub struct Store {
    /// Its absolute path.
    pub path: PathBuf,
    // The lock lasts as long as the file is open.
    _lock: File,
}

/// The secrets of a data folder.
pub struct Secrets {
    /// Signs credentials and seals keys.
    pub cluster_key: ClusterKey,
    /// The demo credential's password.
    pub password: String,
    /// The token of the control service.
    pub token: String,
    /// The certificate chain of the listeners.
    pub certificate: PathBuf,
    /// Its private key.
    pub certificate_key: PathBuf,
}

impl Store {
    /// Makes the folder if needed and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another `postrider up` holds it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let path = path.canonicalize()?;
        let lock = File::create(path.join("lock"))
            .with_context(|| format!("cannot write to the data folder {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "another `postrider up` is running on {}: end it first, or start with another --data DIR and --port-base N",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock the data folder {}", path.display()))
            }
        }
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the secrets, making those that are not there yet.
    ///
    /// # Errors
    /// If a file can be neither read nor made.
    pub fn secrets(&self) -> anyhow::Result<Secrets> {
        let cluster_key = ClusterKey::load_or_create(&self.file("secret.key"))?;
        let certificate = self.file("tls.crt");
        let certificate_key = self.file("tls.key");
        if !certificate.exists() || !certificate_key.exists() {
            let made = tls::self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            write_private(&certificate_key, &made.key_pem)?;
            std::fs::write(&certificate, made.certificate_pem)?;
        }
        Ok(Secrets {
            cluster_key,
            password: self.secret("demo.password")?,
            token: self.secret("token")?,
            certificate,
            certificate_key,
        })
    }

    fn secret(&self, name: &str) -> anyhow::Result<String> {
        let file = self.file(name);
        if !file.exists() {
            write_private(&file, &format!("{}\n", random::secret()))?;
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let text = text.trim();
        if text.is_empty() {
            bail!("{} is empty: remove it, and the next start makes a new one", file.display());
        }
        Ok(text.to_owned())
    }
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let draft = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&draft, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let held = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("another `postrider up`") && error.contains("--data"), "{error}");
        drop(held);
        assert!(Store::open(dir.path()).is_ok());
    }

    #[test]
    fn secrets_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let first = store.secrets().unwrap();
        let second = store.secrets().unwrap();
        assert_eq!(first.password, second.password);
        assert_ne!(first.password, first.token);
        for name in ["demo.password", "token", "tls.key", "secret.key"] {
            let mode = std::fs::metadata(store.file(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
