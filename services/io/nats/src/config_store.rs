//! The `config` bucket: the state of the system as control writes it, one value a key, compare-and-set on revisions.

use bytes::Bytes;
use postrider_model::Snapshot;
use std::sync::Arc;
use tokio::sync::watch;

use crate::bucket::{self, Bucket, BucketError, Expected};
use crate::key::ConfigKey;
use crate::snapshot;
use crate::spool::Spool;

/// A value of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its key.
    pub key: ConfigKey,
    /// Its bytes: a message of `postrider.config.v1`.
    pub value: Bytes,
    /// Its revision, unique in the bucket.
    pub revision: u64,
}

/// The bucket. Cheap to clone.
#[derive(Clone)]
pub struct ConfigStore {
    bucket: Bucket,
}

impl ConfigStore {
    /// A value, if the key exists.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn get(&self, key: &ConfigKey) -> Result<Option<ConfigEntry>, BucketError> {
        let found = self.bucket.get(&key.to_string()).await?;
        Ok(found.map(|entry| ConfigEntry { key: key.clone(), value: entry.value, revision: entry.revision }))
    }

    /// Writes a value if the key is as expected; returns the new revision.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if somebody else was first.
    pub async fn put(&self, key: &ConfigKey, value: Bytes, expected: Expected) -> Result<u64, BucketError> {
        self.bucket.put(&key.to_string(), value, expected).await
    }

    /// Deletes a key if it is as expected; returns the revision of the deletion.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if somebody else was first.
    pub async fn delete(&self, key: &ConfigKey, expected: Expected) -> Result<u64, BucketError> {
        self.bucket.delete(&key.to_string(), expected).await
    }

    /// Everything there is, in the order of revisions. Keys of later builds are left out.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn list(&self) -> Result<Vec<ConfigEntry>, BucketError> {
        let entries = self.bucket.list(">").await?;
        let known = entries.into_iter().filter_map(|entry| {
            let key = entry.key.parse().ok()?;
            Some(ConfigEntry { key, value: entry.value, revision: entry.revision })
        });
        Ok(known.collect())
    }
}

impl Spool {
    /// The `config` bucket.
    pub fn config_store(&self) -> ConfigStore {
        ConfigStore { bucket: self.bucket(bucket::CONFIG) }
    }

    /// The configuration as it is, and every change from now on, for as long as a receiver lives. Returns with the first
    /// complete snapshot; waits for it as long as it takes.
    pub async fn watch_snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        snapshot::watch(self.bucket(bucket::CONFIG)).await
    }
}
