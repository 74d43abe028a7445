//! Who owns which shard: rendezvous hashing over the living members, and the claims and releases that follow from it.
//! Decides only; the leases are taken by compare-and-swap in the shell, and whoever loses that race has nothing.

mod fence;
pub use fence::{FENCE, Fence, MonotonicMillis, RENEW_EVERY, Renewal, TTL};

use std::collections::{BTreeMap, BTreeSet};

use postrider_model::{MemberId, ShardId, ShardLayout};
use xxhash_rust::xxh3::xxh3_64;

/// What the key `shard.<id>` says. It has no TTL: whether its owner lives is told by `member.<owner>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who owns the shard, or owned it last.
    pub owner: MemberId,
    /// Goes up by one with every claim.
    pub epoch: u64,
    /// The owner has let go of it in good order: nothing of it is unacked.
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
mod tests {
    use super::*;

    fn member(name: &str) -> MemberId {
        name.parse().unwrap()
    }

    fn members(names: &[&str]) -> BTreeSet<MemberId> {
        names.iter().map(|name| member(name)).collect()
    }

    fn lease(owner: &str, epoch: u64, released: bool) -> Lease {
        Lease { owner: member(owner), epoch, released, settled_through: 0 }
    }

    const LAYOUT: ShardLayout = ShardLayout { bulk: 1, transactional: 0, bulk_streams: 1, side_streams: 1 };

    fn shard() -> ShardId {
        LAYOUT.shards().next().unwrap()
    }

    /// Two members, the first of which is assigned the only shard.
    fn pair() -> (&'static str, &'static str) {
        let owner = assign(&members(&["a", "b"]), shard()).unwrap().to_string();
        if owner == "a" { ("a", "b") } else { ("b", "a") }
    }

    #[track_caller]
    fn check(me: &str, living: &[&str], lease: Option<Lease>, holding: Option<u64>, expected: &[OwnershipStep]) {
        let leases = lease.into_iter().map(|lease| (shard(), lease)).collect();
        let holding = holding.into_iter().map(|epoch| (shard(), epoch)).collect();
        assert_eq!(decide(&member(me), &members(living), &leases, &holding, &LAYOUT), expected);
    }

    #[test]
    fn a_free_shard_is_claimed_by_the_assigned_member_only() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], None, None, &[OwnershipStep::Claim(shard())]);
        check(other, &["a", "b"], None, None, &[]);
    }

    #[test]
    fn a_released_shard_is_claimed_by_the_assigned_member_only() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], Some(lease(other, 4, true)), None, &[OwnershipStep::Claim(shard())]);
        check(other, &["a", "b"], Some(lease(other, 4, true)), None, &[]);
    }

    #[test]
    fn the_shard_of_a_dead_owner_is_claimed_by_the_assigned_member() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], Some(lease("gone", 4, false)), None, &[OwnershipStep::Claim(shard())]);
        check(other, &["a", "b"], Some(lease("gone", 4, false)), None, &[]);
    }

    #[test]
    fn nobody_takes_the_shard_of_a_living_owner() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], Some(lease(other, 4, false)), None, &[]);
    }

    #[test]
    fn an_owner_that_is_no_longer_assigned_releases() {
        let (_, other) = pair();
        check(other, &["a", "b"], Some(lease(other, 4, false)), Some(4), &[OwnershipStep::Release(shard())]);
    }

    #[test]
    fn an_owner_that_is_assigned_rests() {
        let (assigned, _) = pair();
        check(assigned, &["a", "b"], Some(lease(assigned, 4, false)), Some(4), &[]);
    }

    #[test]
    fn a_restarted_process_claims_its_own_leases_at_once() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], Some(lease(assigned, 4, false)), None, &[OwnershipStep::Claim(shard())]);
        // Even one that is assigned elsewhere by now: it will be released in good order.
        check(other, &["a", "b"], Some(lease(other, 4, false)), None, &[OwnershipStep::Claim(shard())]);
    }

    #[test]
    fn a_shard_that_another_has_taken_is_lost() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], Some(lease(other, 5, false)), Some(4), &[OwnershipStep::Lost(shard())]);
        // The race for the same epoch was lost.
        check(assigned, &["a", "b"], Some(lease(other, 4, false)), Some(4), &[OwnershipStep::Lost(shard())]);
        // A second process of the same name.
        check(assigned, &["a", "b"], Some(lease(assigned, 5, false)), Some(4), &[OwnershipStep::Lost(shard())]);
    }

    #[test]
    fn a_lease_seen_late_loses_nothing() {
        let (assigned, other) = pair();
        check(assigned, &["a", "b"], Some(lease(other, 3, true)), Some(4), &[]);
    }

    #[test]
    fn whoever_is_not_among_the_living_does_nothing() {
        check("a", &["b"], None, None, &[]);
        check("a", &["b"], Some(lease("a", 4, false)), Some(4), &[]);
    }

    #[test]
    fn without_members_nobody_is_assigned() {
        assert_eq!(assign(&BTreeSet::new(), shard()), None);
    }

    #[test]
    fn a_member_that_comes_takes_shards_from_others_and_moves_no_other() {
        let (before, after) = (members(&["a", "b", "c"]), members(&["a", "b", "c", "d"]));
        let mut taken = 0;
        for shard in ShardLayout::CLUSTER.shards() {
            let (old, new) = (assign(&before, shard), assign(&after, shard));
            if new != old {
                assert_eq!(new, Some(&member("d")));
                taken += 1;
            }
        }
        assert!((8..=36).contains(&taken), "{taken} of 80 moved");
    }

    #[test]
    fn the_assignment_never_changes_with_a_new_version() {
        let three = members(&["delivery-0", "delivery-1", "delivery-2"]);
        let found: Vec<&str> = ["b00", "b01", "b02", "b47", "t00", "t15"]
            .iter()
            .filter_map(|shard| assign(&three, shard.parse().unwrap()).map(MemberId::as_str))
            .collect();
        assert_eq!(found, ["delivery-0", "delivery-0", "delivery-1", "delivery-0", "delivery-2", "delivery-1"]);
    }

    #[test]
    fn a_claim_goes_on_where_the_last_owner_had_come_to() {
        let previous = Lease { settled_through: 77, ..lease("a", 4, true) };
        let claim = Lease::claim(Some(&previous), &member("b"));
        assert_eq!(claim, Lease { owner: member("b"), epoch: 5, released: false, settled_through: 77 });
        assert_eq!(Lease::claim(None, &member("b")).epoch, 1);
    }
}
