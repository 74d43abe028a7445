//! What others are told of a shard, and what promoters may bring back.

use std::time::Duration;

use postrider_model::{Class, Tier, WaitReason};

use super::world::{BULK, World, failure, reply};
use crate::dispatcher::{AttemptResult, DispatcherConfig, Fact, FailureScope, Ticket};
use crate::limits::Shaping;
use crate::shard_state::{Credit, CreditLine, Jam};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn world() -> World {
    let config = DispatcherConfig { jam_from: 20, ..DispatcherConfig::default() };
    World::new(config, Shaping::default())
}

fn jams(world: &mut World) -> Vec<Jam> {
    world.dispatcher.shard_state(BULK, world.now).jams
}

fn credit(world: &mut World, tenant: &str, from: Tier, count: u32) -> Credit {
    let line = CreditLine { site: "google".parse().unwrap(), tenant: tenant.parse().unwrap(), from, count };
    world.dispatcher.credit(BULK, &[line], world.now)[0]
}

fn deep(world: &mut World, tenant: &str, depths: [u64; 5]) {
    let depths = vec![(tenant.parse().unwrap(), depths)];
    world.fact(Fact::Deep { shard: BULK, site: "google".parse().unwrap(), depths });
}

/// Every connection fails until the site has been closed for `closures` times in a row.
fn close(world: &mut World, closures: usize) {
    for closure in 0..closures {
        if closure > 0 {
            world.pass(secs(61));
        }
        let ticket = world.bulk("first", "google");
        let (conversation, _) = world.opened().expect("a try");
        world.end(conversation, Some(failure(FailureScope::Exchange)));
        world.perform_all();
        assert!(world.moved(ticket).is_some());
    }
}

/// An envelope that comes back from a tier.
fn returned(world: &mut World, tenant: &str) -> Ticket {
    let mut entry = world.entry(Class::Bulk, tenant, "google");
    entry.id.hop = 3;
    world.arrive(entry)
}

#[test]
fn an_open_site_is_no_jam_however_much_goes_there() {
    let mut world = world();
    for _ in 0..1_000 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    assert_eq!(jams(&mut world), []);
    assert!(!world.dispatcher.shard_state(BULK, world.now).asks_for_credit);
}

#[test]
fn a_closed_site_with_much_mail_is_a_jam_until_it_opens() {
    let mut world = world();
    close(&mut world, 2);
    world.pass(secs(10));
    for _ in 0..30 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    let told = jams(&mut world);
    assert_eq!((told.len(), told[0].tenant.clone(), told[0].reason), (1, None, WaitReason::SiteClosed));
    assert!(told[0].turn_in > secs(30) && !told[0].probing, "{told:?}");
    assert_eq!(credit(&mut world, "acme", Tier::M5, 50).granted, 0);
    assert!(credit(&mut world, "acme", Tier::M5, 50).turn_in > secs(30));
}

#[test]
fn a_closed_site_with_little_mail_is_not_worth_a_word() {
    let mut world = world();
    close(&mut world, 2);
    for _ in 0..5 {
        world.bulk("acme", "google");
    }
    assert_eq!(jams(&mut world), []);
}

/// A site that was closed and may be tried again, with much mail in tiers.
fn probing() -> World {
    let mut world = world();
    close(&mut world, 2);
    for _ in 0..30 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    deep(&mut world, "acme", [0, 0, 500, 0, 0]);
    assert_eq!(jams(&mut world).len(), 1);
    world.pass(secs(600));
    world
}

#[test]
fn a_site_that_may_be_tried_again_gets_a_few_until_it_answers() {
    let mut world = probing();
    assert!(jams(&mut world)[0].probing);
    assert_eq!(credit(&mut world, "acme", Tier::M15, 500).granted, 10);
    assert_eq!(credit(&mut world, "acme", Tier::M15, 500).granted, 0, "they are on their way");
    for _ in 0..10 {
        returned(&mut world, "acme");
    }
    assert_eq!(credit(&mut world, "acme", Tier::M15, 490).granted, 0, "they are here");
    world.perform_all();
    assert_eq!(world.transmitted.len(), 10);
    assert!(credit(&mut world, "acme", Tier::M15, 490).granted >= 100, "it has answered");
}

#[test]
fn no_more_is_brought_back_than_goes_before_it_would_be_moved_again() {
    let mut world = world();
    for _ in 0..200 {
        world.bulk("acme", "google");
    }
    let (conversation, _) = world.opened().expect("a connection");
    world.greet(conversation);
    for _ in 0..45 {
        world.turn_clock(Duration::from_millis(200));
        let Some((conversation, ticket)) = world.transmission() else { continue };
        world.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
        world.fact(Fact::Ready(conversation));
    }
    let granted = credit(&mut world, "other", Tier::M15, 5_000).granted;
    assert!((50..300).contains(&granted), "five a second go, and {granted} more may come");
}

#[test]
fn once_a_site_is_open_again_only_the_tenants_with_much_mail_wait() {
    let mut world = probing();
    returned(&mut world, "acme");
    world.perform_all();
    deep(&mut world, "acme", [0, 0, 20_000, 0, 0]);
    let told = jams(&mut world);
    let whose: Vec<_> = told.iter().map(|jam| jam.tenant.as_ref().map(|tenant| tenant.as_str())).collect();
    assert_eq!(whose, [Some("acme")]);
    deep(&mut world, "acme", [0; 5]);
    assert_eq!(jams(&mut world), []);
}

#[test]
fn a_closed_site_is_forgotten_when_nothing_of_it_is_left() {
    let mut world = probing();
    deep(&mut world, "acme", [0; 5]);
    world.pass(secs(120));
    assert_eq!(jams(&mut world), []);
}

#[test]
fn the_turn_of_what_gets_no_credit_is_behind_the_shorter_tiers_only() {
    let mut world = probing();
    deep(&mut world, "acme", [6_000, 0, 60_000, 600_000, 0]);
    let turn = |world: &mut World, from| credit(world, "acme", from, 1_000).turn_in;
    let (five, hour) = (turn(&mut world, Tier::M5), turn(&mut world, Tier::H1));
    assert!(five >= secs(60) && hour >= five * 10, "{five:?} {hour:?}");
}

#[test]
fn while_ready_is_long_a_tenant_makes_room_and_others_are_told() {
    let mut world = world();
    world.fact(Fact::Pending { shard: BULK, count: 100_000 });
    world.turn_clock(secs(1));
    world.fact(Fact::Pending { shard: BULK, count: 100_000 });
    let tickets: Vec<_> = (0..1_000).map(|_| world.bulk("acme", "google")).collect();
    let moved = tickets.iter().filter(|ticket| world.moved(**ticket).is_some()).count();
    assert!((700..1_000).contains(&moved), "{moved}");
    let other = world.bulk("other", "google");
    assert_eq!(world.moved(other), None);
    let told = jams(&mut world);
    assert_eq!((told.len(), told[0].tenant.clone()), (1, Some("acme".parse().unwrap())));
    assert_eq!(told[0].reason, WaitReason::Overflow);
}

#[test]
fn a_site_that_has_just_closed_does_not_fill_the_index() {
    let config = DispatcherConfig { shard_capacity: 1_000, tenant_site_capacity: 400, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    close(&mut world, 1);
    for tenant in ["acme", "other", "third"] {
        for _ in 0..500 {
            world.bulk(tenant, "google");
        }
    }
    world.perform_all();
    assert!((400..=502).contains(&world.dispatcher.held(BULK)), "{}", world.dispatcher.held(BULK));
}

#[test]
fn no_more_is_brought_back_than_the_shard_has_room_for() {
    let config = DispatcherConfig { shard_capacity: 100, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let tenants: Vec<String> = (0..20).map(|n| format!("tenant{n}")).collect();
    let line = |tenant: &String| CreditLine {
        site: "google".parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        from: Tier::M1,
        count: 10,
    };
    let lines: Vec<_> = tenants.iter().map(line).collect();
    world.fact(Fact::Pending { shard: BULK, count: 25 });
    let granted: u32 = world.dispatcher.credit(BULK, &lines, world.now).iter().map(|credit| credit.granted).sum();
    assert_eq!(granted, 50);
}

#[test]
fn a_shard_that_is_not_ours_has_nothing_to_say() {
    let mut world = world();
    close(&mut world, 1);
    world.forget_shard(BULK);
    assert!(world.dispatcher.shard_state(BULK, world.now).is_calm());
}
