//! The `lease` bucket: who lives (`member.<id>`, vanishing by itself) and who owns which shard (`shard.<id>`, for good until
//! somebody else takes it). Every write is compare-and-set; who may take what is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_dispatch::ownership::MEMBER_TTL;
use postrider_model::{MemberId, ShardId, Timestamp};
use postrider_proto::config::v1 as wire;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::bucket::{self, Bucket, BucketError, Entry, Expected, Seen};
use crate::spool::{API_TIMEOUT, Spool};

/// A process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its identity; two processes never share one at the same time.
    pub id: MemberId,
    /// `delivery`, `ingress`, `control`.
    pub roles: Vec<String>,
    /// The version it runs.
    pub version: String,
    /// The revision of the configuration that it has in force.
    pub config_revision: u64,
    /// When it started.
    pub started: Timestamp,
}

/// The role of a process that promotes what is due in the tiers, besides what it serves.
pub const PROMOTER: &str = "promoter";

impl Member {
    /// Whether it has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }
}

/// The ownership of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLease {
    /// Who owns it, or did last.
    pub owner: MemberId,
    /// Counts owners.
    pub epoch: u64,
    /// Given back in good order: anybody it is assigned to may take it, though its last owner lives.
    pub released: bool,
    /// Everything in EVENTS up to this sequence is settled: a replay begins behind it.
    pub settled_through: u64,
}

/// Who owns what cannot be read: no member that lives.
const UNREADABLE: &str = "unreadable";

/// All living members.
pub type Members = BTreeMap<MemberId, Member>;

/// All recorded shard leases, each with its revision.
pub type ShardLeases = BTreeMap<ShardId, (ShardLease, u64)>;

/// The bucket. Cheap to clone.
#[derive(Clone)]
pub struct LeaseStore {
    bucket: Bucket,
}

impl Spool {
    /// The `lease` bucket.
    pub fn lease_store(&self) -> LeaseStore {
        LeaseStore { bucket: self.bucket(bucket::LEASE) }
    }
}

impl LeaseStore {
    /// Begins a member's life, over whatever is left of a former one. A process that still lives under this id finds out
    /// at its next renewal. Returns the revision to renew.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn join(&self, member: &Member) -> Result<u64, BucketError> {
        let (key, value) = (member_key(&member.id), encode_member(member));
        self.bucket.put_for(&key, value, Expected::Whatever, MEMBER_TTL, API_TIMEOUT).await
    }

    /// Lives on for another [`MEMBER_TTL`]; returns the next revision to renew.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if the life has ended meanwhile, or another process lives under this id.
    pub async fn renew(&self, member: &Member, revision: u64) -> Result<u64, BucketError> {
        let expected = Expected::Revision(revision);
        // An answer that comes late is as good as one that comes at once: it tells when it was asked for.
        self.bucket.put_for(&member_key(&member.id), encode_member(member), expected, MEMBER_TTL, MEMBER_TTL).await
    }

    /// A living member and the revision of its entry.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn member(&self, id: &MemberId) -> Result<Option<(Member, u64)>, BucketError> {
        let entry = self.bucket.get(&member_key(id)).await?;
        Ok(entry.and_then(|entry| decode_member(entry.value).map(|member| (member, entry.revision))))
    }

    /// Ends a member's life in good order.
    ///
    /// # Errors
    /// [`BucketError`]; it would have ended by itself.
    pub async fn leave(&self, id: &MemberId, revision: u64) -> Result<(), BucketError> {
        self.bucket.delete(&member_key(id), Expected::Revision(revision)).await.map(|_| ())
    }

    /// A shard's lease and its revision, if it ever had an owner.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`].
    pub async fn shard(&self, shard: ShardId) -> Result<Option<(ShardLease, u64)>, BucketError> {
        let entry = self.bucket.get(&shard_key(shard)).await?;
        Ok(entry.and_then(|entry| read_lease(shard, entry.value).map(|lease| (lease, entry.revision))))
    }

    /// Writes a shard's lease if it is as expected; returns the new revision. This is the one way to claim, keep and
    /// release a shard.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if somebody else was first.
    pub async fn put_shard(&self, shard: ShardId, lease: &ShardLease, expected: Expected) -> Result<u64, BucketError> {
        let value = wire::ShardLease {
            owner: lease.owner.to_string(),
            epoch: lease.epoch,
            released: lease.released,
            settled_through: lease.settled_through,
        };
        self.bucket.put(&shard_key(shard), value.encode_to_vec().into(), expected).await
    }

    /// The living members, and every change, for as long as a receiver lives. A member counts as dead once the bucket
    /// says so, or if it has not been heard of for its time to live and a second.
    pub fn watch_members(&self) -> watch::Receiver<Arc<Members>> {
        let (sender, receiver) = watch::channel(Arc::new(Members::new()));
        let store = self.clone();
        tokio::spawn(async move {
            let mut heard = Heard::default();
            let (seen_sender, mut seen) = mpsc::unbounded_channel();
            let watching = store.bucket.watch("member.>", |event| {
                if seen_sender.send(event).is_err() {
                    tracing::debug!("nobody watches the members any more");
                }
            });
            tokio::pin!(watching);
            loop {
                let deaf_at = heard.next_death().unwrap_or_else(|| Instant::now() + MEMBER_TTL);
                tokio::select! {
                    () = &mut watching => return,
                    () = sender.closed() => return,
                    Some(event) = seen.recv() => heard.see(event, Instant::now()),
                    () = tokio::time::sleep_until(deaf_at) => {}
                }
                let living = heard.living(Instant::now());
                if **sender.borrow() != living {
                    sender.send_replace(Arc::new(living));
                }
            }
        });
        receiver
    }

    /// All shard leases, and every change, for as long as a receiver lives.
    pub fn watch_shards(&self) -> watch::Receiver<Arc<ShardLeases>> {
        let (sender, receiver) = watch::channel(Arc::new(ShardLeases::new()));
        let sender = Arc::new(sender);
        let gone = Arc::clone(&sender);
        let store = self.clone();
        tokio::spawn(async move {
            let mut leases = ShardLeases::new();
            let mut complete = false;
            let watching = store.bucket.watch("shard.>", |event| {
                match event {
                    Seen::Restarted => {
                        leases.clear();
                        complete = false;
                    }
                    Seen::Put(entry) => {
                        if let Some((shard, lease)) =
                            key_shard(&entry.key).and_then(|shard| Some((shard, read_lease(shard, entry.value)?)))
                        {
                            leases.insert(shard, (lease, entry.revision));
                        }
                    }
                    Seen::Gone { key, .. } => {
                        if let Some(shard) = key_shard(&key) {
                            leases.remove(&shard);
                        }
                    }
                    Seen::Complete { .. } => complete = true,
                }
                if complete {
                    sender.send_replace(Arc::new(leases.clone()));
                }
            });
            tokio::select! {
                () = watching => {}
                () = gone.closed() => {}
            }
        });
        receiver
    }
}

/// Members as they were last heard of.
#[derive(Default)]
struct Heard {
    members: BTreeMap<MemberId, (Member, Instant)>,
    /// The list that is being read anew; takes the place of the old one when it is complete.
    next: Option<BTreeMap<MemberId, (Member, Instant)>>,
}

impl Heard {
    const DEAF: Duration = MEMBER_TTL.saturating_add(Duration::from_secs(1));

    fn see(&mut self, event: Seen, now: Instant) {
        let current = self.next.as_mut().unwrap_or(&mut self.members);
        match event {
            Seen::Restarted => self.next = Some(BTreeMap::new()),
            Seen::Put(Entry { key, value, .. }) => match decode_member(value) {
                Some(member) => drop(current.insert(member.id.clone(), (member, now))),
                None => tracing::warn!(key, "a member of the lease bucket cannot be read"),
            },
            Seen::Gone { key, .. } => {
                current.retain(|id, _| member_key(id) != key);
            }
            Seen::Complete { .. } => {
                if let Some(next) = self.next.take() {
                    self.members = next;
                }
            }
        }
    }

    fn living(&self, now: Instant) -> Members {
        let living = self.members.iter().filter(|(_, (_, heard))| now < *heard + Self::DEAF);
        living.map(|(id, (member, _))| (id.clone(), member.clone())).collect()
    }

    fn next_death(&self) -> Option<Instant> {
        let now = Instant::now();
        self.members.values().map(|(_, heard)| *heard + Self::DEAF).filter(|death| *death > now).min()
    }
}

fn member_key(id: &MemberId) -> String {
    format!("member.{id}")
}

fn shard_key(shard: ShardId) -> String {
    format!("shard.{shard}")
}

fn key_shard(key: &str) -> Option<ShardId> {
    key.strip_prefix("shard.")?.parse().ok()
}

fn encode_member(member: &Member) -> Bytes {
    let value = wire::Member {
        id: member.id.to_string(),
        roles: member.roles.clone(),
        version: member.version.clone(),
        config_revision: member.config_revision,
        started_ms: member.started.as_millis(),
    };
    value.encode_to_vec().into()
}

fn decode_member(value: Bytes) -> Option<Member> {
    let member = wire::Member::decode(value).ok()?;
    Some(Member {
        id: member.id.parse().ok()?,
        roles: member.roles,
        version: member.version,
        config_revision: member.config_revision,
        started: Timestamp::from_millis(member.started_ms),
    })
}

/// The lease of a shard. One that cannot be read is nobody's, and older than any: its owner lets go, and it is taken anew.
fn read_lease(shard: ShardId, value: Bytes) -> Option<ShardLease> {
    decode_lease(value).or_else(|| {
        tracing::error!(%shard, "what lies in the lease bucket is no lease; the shard is taken anew");
        let owner = UNREADABLE.parse().ok()?;
        Some(ShardLease { owner, epoch: 0, released: false, settled_through: 0 })
    })
}

fn decode_lease(value: Bytes) -> Option<ShardLease> {
    let lease = wire::ShardLease::decode(value).ok()?;
    Some(ShardLease {
        owner: lease.owner.parse().ok()?,
        epoch: lease.epoch,
        released: lease.released,
        settled_through: lease.settled_through,
    })
}
