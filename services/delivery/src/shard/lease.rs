//! The lease of a shard that is ours: told how far the shard is settled, and looked at for whoever wrote over it.

use postrider_dispatch::ownership::{Lease, is_overwritten};
use postrider_dispatch::takeover::TakeoverFailure;
use postrider_nats::{BucketError, Expected, ShardLease};

use super::{Owned, ShardTask};

#[derive(PartialEq, Eq)]
pub(super) enum Kept {
    Ours,
    Lost,
}

impl ShardTask {
    /// Tells the lease how far the shard is settled, if that has changed.
    pub(super) async fn keep(&self, owned: &mut Owned) -> Kept {
        let through = owned.settlements.journal.tracker().through();
        if through <= owned.lease.settled_through || !self.tools.fence.may_act() {
            return Kept::Ours;
        }
        let lease = Lease { settled_through: through, ..owned.lease.clone() };
        match self.write(owned, lease).await {
            Ok(()) => Kept::Ours,
            Err(TakeoverFailure::LeaseLost) => Kept::Lost,
            Err(_) => {
                tracing::debug!(shard = %self.shard, "the lease could not be kept up to date");
                Kept::Ours
            }
        }
    }

    /// Whether somebody has written over the lease since we did, or deleted it.
    pub(super) async fn is_overwritten(&self, owned: &Owned) -> bool {
        let Ok(found) = self.tools.spool.lease_store().shard(self.shard).await else { return false };
        let (lease, revision) = found.map(|(lease, revision)| (machine(&lease), revision)).unzip();
        let later = revision.is_none_or(|revision| revision > owned.revision);
        later && is_overwritten(&owned.lease.owner, owned.lease.epoch, lease.as_ref())
    }

    /// Writes our lease over itself.
    pub(super) async fn write(&self, owned: &mut Owned, lease: Lease) -> Result<(), TakeoverFailure> {
        let store = self.tools.spool.lease_store();
        match store.put_shard(self.shard, &wire(&lease), Expected::Revision(owned.revision)).await {
            Ok(revision) => {
                owned.revision = revision;
                owned.lease = lease;
                Ok(())
            }
            // An answer that was lost looks like a conflict: the lease itself tells.
            Err(BucketError::Conflict { .. }) => match store.shard(self.shard).await {
                Ok(Some((found, revision))) if found.epoch == lease.epoch && found.owner == lease.owner => {
                    owned.revision = revision;
                    Err(TakeoverFailure::Unavailable)
                }
                Ok(_) => Err(TakeoverFailure::LeaseLost),
                Err(_) => Err(TakeoverFailure::Unavailable),
            },
            Err(_) => Err(TakeoverFailure::Unavailable),
        }
    }
}

/// A lease as it lies in the bucket, for the machines.
pub fn machine(lease: &ShardLease) -> Lease {
    Lease {
        owner: lease.owner.clone(),
        epoch: lease.epoch,
        released: lease.released,
        settled_through: lease.settled_through,
    }
}

pub(super) fn wire(lease: &Lease) -> ShardLease {
    ShardLease {
        owner: lease.owner.clone(),
        epoch: lease.epoch,
        released: lease.released,
        settled_through: lease.settled_through,
    }
}
