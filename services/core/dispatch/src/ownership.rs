//! Who owns which shard: rendezvous hashing over the living members, and the claims and releases that follow from it.
//! Decides only; the leases are taken by compare-and-swap in the shell, and whoever loses that race has nothing.

mod fence;
pub use fence::{FENCE, Fence, MEMBER_TTL, MonotonicMillis, RENEW_EVERY, Renewal};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postrider_model::{MemberId, ShardId, ShardLayout};
use xxhash_rust::xxh3::xxh3_64;

use crate::limits::LONGEST_PERMIT;

/// What the key `shard.<id>` says. It has no TTL: whether its owner lives is told by `member.<owner>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who owns the shard, or owned it last.
    pub owner: MemberId,
    /// Goes up by one with every claim.
    pub epoch: u64,
    /// The owner has let go of it in good order: it has handed back what it had. A hand-back may get lost, so a takeover resets all
    /// the same.
    pub released: bool,
    /// Every record of the shard up to this sequence of EVENTS belongs to a finished settle.
    pub settled_through: u64,
}

impl Lease {
    /// The lease that claims a shard after `previous`.
    pub fn claim(previous: Option<&Self>, me: &MemberId) -> Self {
        Self {
            owner: me.clone(),
            epoch: previous.map_or(1, |lease| lease.epoch.saturating_add(1)),
            released: false,
            settled_through: previous.map_or(0, |lease| lease.settled_through),
        }
    }
}

/// How long the new owner of a shard's limits grants nothing, because permits of the owner before may still be used: its
/// longest permit, unless it is certain that none lives. Those of a dead member died before its membership did. Those of a
/// living one that let go may be in any hands, also in `me`'s own, even if nobody else lives by now. Those of `me` in an earlier
/// life are in the hands of others, if there are any; or in `me`'s own, if this very process `gave_out` permits of this shard, lost
/// it when its fence closed, and has it again before they have ended.
pub fn quiet_after(previous: Option<&Lease>, me: &MemberId, others_live: bool, gave_out: bool) -> Duration {
    let of_mine = others_live || gave_out;
    let may_live = previous.is_some_and(|lease| if lease.owner == *me { of_mine } else { lease.released });
    if may_live { LONGEST_PERMIT } else { Duration::ZERO }
}

/// What to do about a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnershipStep {
    /// Begin a takeover ([`crate::takeover::Takeover`]).
    Claim(ShardId),
    /// Begin a release ([`crate::takeover::Release`]): another member is assigned.
    Release(ShardId),
    /// Another has taken it: forget everything about it at once, cut its conversations, settle nothing.
    Lost(ShardId),
}

/// The member that a shard belongs to: the one whose hash with it is highest, xxh3-64 of `<member>` NUL `<shard>`. A member
/// that comes or goes moves only the shards that it gets or had.
pub fn assign<'a>(members: impl IntoIterator<Item = &'a MemberId>, shard: ShardId) -> Option<&'a MemberId> {
    members.into_iter().max_by_key(|member| (weight(member, shard), *member))
}

fn weight(member: &MemberId, shard: ShardId) -> u64 {
    let mut key = Vec::with_capacity(member.as_str().len() + 4);
    key.extend_from_slice(member.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(shard.to_string().as_bytes());
    xxh3_64(&key)
}

/// What `me` is to do, from the living members, the leases as last seen, and the shards that it owns, takes or releases
/// with the epoch of its own claim. To be called whenever one of them changes; an empty answer is the resting state.
pub fn decide(
    me: &MemberId,
    members: &BTreeSet<MemberId>,
    leases: &BTreeMap<ShardId, Lease>,
    holding: &BTreeMap<ShardId, u64>,
    layout: &ShardLayout,
) -> Vec<OwnershipStep> {
    // Whoever does not see itself among the living has lost its membership: the fence decides, not this.
    if !members.contains(me) {
        return Vec::new();
    }
    layout
        .shards()
        .filter_map(|shard| {
            let mine = assign(members, shard) == Some(me);
            let lease = leases.get(&shard);
            match holding.get(&shard) {
                Some(epoch) if lease.is_some_and(|lease| is_lost(me, lease, *epoch)) => {
                    Some(OwnershipStep::Lost(shard))
                }
                Some(_) if mine => None,
                Some(_) => Some(OwnershipStep::Release(shard)),
                None => may_claim(me, mine, members, lease).then_some(OwnershipStep::Claim(shard)),
            }
        })
        .collect()
}

fn is_lost(me: &MemberId, lease: &Lease, epoch: u64) -> bool {
    lease.epoch > epoch || (lease.epoch == epoch && lease.owner != *me)
}

/// Whether the lease of a shard that `me` holds since `epoch` is another's by now. `seen` was written after `me` wrote it last,
/// or is gone. Whoever may write to the bucket may have done so, also with an earlier epoch.
pub fn is_overwritten(me: &MemberId, epoch: u64, seen: Option<&Lease>) -> bool {
    seen.is_none_or(|lease| lease.owner != *me || lease.epoch != epoch)
}

fn may_claim(me: &MemberId, mine: bool, members: &BTreeSet<MemberId>, lease: Option<&Lease>) -> bool {
    let Some(lease) = lease else { return mine };
    if lease.released {
        return mine;
    }
    // Our own from an earlier life: nobody else may take it while we live, so we take it even if it is assigned to
    // another by now, and then release it in good order.
    if lease.owner == *me {
        return true;
    }
    mine && !members.contains(&lease.owner)
}

#[cfg(test)]
mod tests;
