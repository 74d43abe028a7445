//! The `audit` bucket: hourly sums that outlive EVENTS, compare-and-set on revisions. What they mean is decided elsewhere.

use bytes::Bytes;

use crate::bucket::{self, Bucket, BucketError, Expected};
use crate::spool::Spool;

/// A value of the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its key.
    pub key: String,
    /// Its bytes: a message of `postrider.control.v1`.
    pub value: Bytes,
    /// Its revision.
    pub revision: u64,
}

/// The bucket. Cheap to clone.
#[derive(Clone)]
pub struct AuditStore {
    bucket: Bucket,
}

impl AuditStore {
    /// A value, if the key exists.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn get(&self, key: &str) -> Result<Option<AuditEntry>, BucketError> {
        Ok(self.bucket.get(key).await?.map(entry))
    }

    /// Writes a value if the key is as expected; returns the new revision.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if somebody else was first.
    pub async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64, BucketError> {
        self.bucket.put(key, value, expected).await
    }

    /// Deletes a value if it is as expected.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if somebody else was first.
    pub async fn delete(&self, key: &str, expected: Expected) -> Result<(), BucketError> {
        self.bucket.delete(key, expected).await.map(|_| ())
    }

    /// How full the bucket is, 0.0 to 1.0.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn fullness(&self) -> Result<f64, BucketError> {
        self.bucket.fullness().await
    }

    /// Everything there is.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn list(&self) -> Result<Vec<AuditEntry>, BucketError> {
        Ok(self.bucket.list(">").await?.into_iter().map(entry).collect())
    }
}

fn entry(entry: bucket::Entry) -> AuditEntry {
    AuditEntry { key: entry.key, value: entry.value, revision: entry.revision }
}

impl Spool {
    /// The `audit` bucket.
    pub fn audit_store(&self) -> AuditStore {
        AuditStore { bucket: self.bucket(bucket::AUDIT) }
    }
}
