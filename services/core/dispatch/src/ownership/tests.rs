//! Who claims and who releases; and whole clusters of members that come, go and die.

use proptest::prelude::*;

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
fn a_lease_that_was_written_over_is_no_longer_ours_whatever_its_epoch() {
    let over = |lease: Option<Lease>| is_overwritten(&member("a"), 4, lease.as_ref());
    assert!(!over(Some(lease("a", 4, false))));
    assert!(!over(Some(lease("a", 4, true))));
    assert!(over(Some(lease("b", 4, false))));
    assert!(over(Some(lease("a", 3, false))));
    assert!(over(Some(lease("b", 3, true))));
    assert!(over(None));
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

/// A cluster as the bucket sees it: the leases, the living, and what each process believes to hold.
#[derive(Default)]
struct Cluster {
    leases: BTreeMap<ShardId, Lease>,
    holding: BTreeMap<MemberId, BTreeMap<ShardId, u64>>,
}

#[derive(Clone, Debug)]
enum Happening {
    /// Joins, or dies and comes back at once under its name.
    Start(usize),
    /// Dies, and its membership ends.
    Die(usize),
    /// Looks at the cluster and does what [`decide`] says.
    Look(usize),
}

const MEMBERS: [&str; 4] = ["a", "b", "c", "d"];

const SMALL: ShardLayout = ShardLayout { bulk: 5, transactional: 2, bulk_streams: 1, side_streams: 1 };

impl Cluster {
    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Start(index) => drop(self.holding.insert(member(MEMBERS[*index]), BTreeMap::new())),
            Happening::Die(index) => drop(self.holding.remove(&member(MEMBERS[*index]))),
            Happening::Look(index) => drop(self.look(&member(MEMBERS[*index]))),
        }
    }

    /// True if there was nothing to do.
    fn look(&mut self, me: &MemberId) -> bool {
        let living: BTreeSet<MemberId> = self.holding.keys().cloned().collect();
        let Some(mine) = self.holding.get_mut(me) else { return true };
        let steps = decide(me, &living, &self.leases, mine, &SMALL);
        for step in &steps {
            match step {
                OwnershipStep::Claim(shard) => {
                    let lease = Lease::claim(self.leases.get(shard), me);
                    mine.insert(*shard, lease.epoch);
                    self.leases.insert(*shard, lease);
                }
                OwnershipStep::Release(shard) => {
                    mine.remove(shard);
                    self.leases.get_mut(shard).unwrap().released = true;
                }
                OwnershipStep::Lost(shard) => drop(mine.remove(shard)),
            }
        }
        steps.is_empty()
    }

    /// Whoever holds a shard has its lease, so no two hold the same.
    fn check(&self) {
        for (member, shards) in &self.holding {
            for (shard, epoch) in shards {
                let lease = &self.leases[shard];
                assert!(lease.owner == *member && lease.epoch == *epoch && !lease.released, "{member} holds {shard}");
            }
        }
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let index = 0..MEMBERS.len();
    prop_oneof![
        1 => index.clone().prop_map(Happening::Start),
        1 => index.clone().prop_map(Happening::Die),
        4 => index.prop_map(Happening::Look),
    ]
}

proptest! {
    #[test]
    fn every_shard_comes_to_rest_with_its_assigned_member(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut cluster = Cluster::default();
        for happening in &happenings {
            cluster.happen(happening);
            cluster.check();
        }
        cluster.happen(&Happening::Start(0));
        let living: BTreeSet<MemberId> = cluster.holding.keys().cloned().collect();
        // Claim what was ours in an earlier life, release it, claim what is free, rest.
        for _ in 0..3 {
            for me in &living {
                cluster.look(me);
                cluster.check();
            }
        }
        for me in &living {
            prop_assert!(cluster.look(me), "{me} is not at rest");
        }
        for shard in SMALL.shards() {
            let assigned = assign(&living, shard).unwrap();
            prop_assert!(cluster.holding[assigned].contains_key(&shard), "{shard} is not held by {assigned}");
        }
    }
}

#[test]
fn permits_of_an_owner_that_let_go_are_waited_out_by_whoever_is_left() {
    let me: MemberId = "me".parse().unwrap();
    let lease = |owner: &str, released| Lease { owner: owner.parse().unwrap(), epoch: 3, released, settled_through: 0 };
    let quiet = |lease: Option<Lease>, others| !quiet_after(lease.as_ref(), &me, others, false).is_zero();
    // The last one to go may have given us a permit that we still use.
    assert!(quiet(Some(lease("other", true)), true) && quiet(Some(lease("other", true)), false));
    // Whoever died has no permits left.
    assert!(!quiet(Some(lease("other", false)), true));
    // What we gave out ourselves, in an earlier life, only others can hold.
    assert!(quiet(Some(lease("me", false)), true) && quiet(Some(lease("me", true)), true));
    assert!(!quiet(Some(lease("me", false)), false) && !quiet(None, true));
    // Unless it was this very life.
    assert!(!quiet_after(Some(&lease("me", false)), &me, false, true).is_zero());
}
