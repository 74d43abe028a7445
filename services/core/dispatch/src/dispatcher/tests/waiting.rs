//! What waits, why, where and until when.

use std::time::Duration;

use postrider_model::{Class, Outcome, WaitReason};

use super::world::{BULK, World, reply};
use crate::dispatcher::{AttemptResult, DispatcherConfig, Fact};
use crate::limits::{PathLimits, Shaping};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn an_envelope_is_not_sent_before_its_time() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.not_before = Some(world.now.after(secs(40)));
    let ticket = world.arrive(entry);
    assert_eq!(world.reason(ticket), Some(WaitReason::NotBefore));
    world.pass(secs(39));
    assert_eq!(world.transmitted, []);
    world.pass(secs(2));
    assert_eq!(world.transmitted, [ticket]);
}

#[test]
fn a_far_time_is_waited_for_in_the_longest_tier_that_is_not_too_long() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.not_before = Some(world.now.after(secs(7_000)));
    let ticket = world.arrive(entry);
    assert_eq!(world.moved(ticket), Some((WaitReason::NotBefore, 3_600, false)));
    assert_eq!(world.outcomes(ticket), [Outcome::Moved]);
}

#[test]
fn a_limit_that_is_reached_for_long_moves_what_waits_for_it() {
    let default = PathLimits { message_rate: Some("2/d".parse().unwrap()), ..PathLimits::default() };
    let mut world = World::new(DispatcherConfig::default(), Shaping { default, ..Shaping::default() });
    let tickets: Vec<_> = (0..4).map(|_| world.bulk("acme", "google")).collect();
    world.perform_all();
    world.pass(secs(10));
    assert_eq!(world.transmitted, tickets[..2]);
    let (reason, _, attempted) = world.moved(tickets[3]).unwrap();
    assert_eq!((reason, attempted), (WaitReason::RateLimit, false));
}

#[test]
fn what_does_not_fit_moves_to_a_tier() {
    let config = DispatcherConfig { shard_capacity: 10, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let tickets: Vec<_> = (0..11).map(|_| world.bulk("acme", "google")).collect();
    assert_eq!(world.dispatcher.room(BULK), 0);
    assert_eq!(world.moved(tickets[10]), Some((WaitReason::Overflow, 60, false)));
    assert_eq!(world.moved(tickets[9]), None);
}

#[test]
fn a_quarter_of_the_room_is_kept_for_newcomers() {
    let config = DispatcherConfig { shard_capacity: 20, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let first = world.bulk("acme", "google");
    world.turn_clock(secs(15));
    let returned: Vec<_> = (0..19)
        .map(|_| {
            let mut entry = world.entry(Class::Bulk, "acme", "google");
            entry.id.hop = 1;
            world.arrive(entry)
        })
        .collect();
    assert_eq!(returned.iter().filter(|ticket| world.moved(**ticket).is_some()).count(), 4);
    assert_eq!(world.moved(first), None);
    let newcomer = world.bulk("acme", "other.example");
    assert_eq!(world.moved(newcomer).map(|moved| moved.0), Some(WaitReason::Overflow), "moves are not done yet");
    world.perform_dull();
    let newcomer = world.bulk("acme", "other.example");
    assert_eq!(world.moved(newcomer), None);
}

#[test]
fn one_tenant_at_one_site_does_not_fill_the_index() {
    let config = DispatcherConfig { tenant_site_capacity: 10, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let mut tickets = vec![world.bulk("acme", "google")];
    world.turn_clock(secs(15));
    tickets.extend((0..11).map(|_| world.bulk("acme", "google")));
    assert_eq!(tickets.iter().filter(|ticket| world.moved(**ticket).is_some()).count(), 2);
    let other = world.bulk("other", "google");
    assert_eq!(world.moved(other), None);
}

#[test]
fn a_burst_at_the_start_is_not_moved_before_anything_could_be_sent() {
    let config = DispatcherConfig { tenant_site_capacity: 10, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let tickets: Vec<_> = (0..100).map(|_| world.bulk("acme", "google")).collect();
    assert!(tickets.iter().all(|&ticket| world.moved(ticket).is_none()));
}

#[test]
fn what_would_wait_for_long_behind_others_spreads_over_the_tiers() {
    let default = PathLimits { message_rate: Some("60/m".parse().unwrap()), ..PathLimits::default() };
    let mut world = World::new(DispatcherConfig::default(), Shaping { default, ..Shaping::default() });
    let tickets: Vec<_> = (0..3_000).map(|_| world.bulk("acme", "google")).collect();
    for _ in 0..60 {
        world.perform_all();
        world.pass(secs(1));
    }
    let moved: Vec<_> = tickets.iter().filter_map(|&ticket| world.moved(ticket)).collect();
    assert!(moved.iter().all(|moved| moved.0 == WaitReason::Overflow && !moved.2));
    let left = tickets.len() - moved.len() - world.transmitted.len();
    assert!((10..=90).contains(&left), "{left} stay");
    assert!(world.transmitted.len() >= 50);
    let waits: std::collections::BTreeSet<u64> = moved.iter().map(|moved| moved.1 / 60).collect();
    assert!(waits.len() >= 3, "{waits:?}");
}

#[test]
fn a_fast_site_keeps_what_it_can_send_soon() {
    let config = DispatcherConfig { tenant_site_capacity: 100, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    for round in 0..2_000 {
        world.bulk("acme", "google");
        world.turn_clock(Duration::from_millis(1));
        if round % 90 == 0 {
            world.perform_all();
        }
    }
    let burst: Vec<_> = (0..500).map(|_| world.bulk("acme", "google")).collect();
    assert!(burst.iter().all(|&ticket| world.moved(ticket).is_none()));
    world.perform_all();
    assert_eq!(world.transmitted.len(), 2_500);
}

#[test]
fn an_envelope_that_grows_too_old_in_the_index_expires() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.expiry = world.now.after(secs(30));
    let ticket = world.arrive(entry);
    world.turn_clock(secs(30));
    world.fact(Fact::Tick);
    assert_eq!(world.outcomes(ticket), [Outcome::Expired]);
}

#[test]
fn what_comes_back_too_old_from_a_dead_connection_is_not_sent_over_another() {
    let mut world = World::simple();
    world.bulk("acme", "google");
    world.bulk("acme", "google");
    let carried: Vec<_> = (0..2)
        .map(|_| {
            let (conversation, _) = world.opened().unwrap();
            world.greet(conversation);
            world.transmission().unwrap()
        })
        .collect();
    for (conversation, ticket) in carried {
        world.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
        world.fact(Fact::Ready(conversation));
    }
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.expiry = world.now.after(secs(1));
    let ticket = world.arrive(entry);
    let (carrier, _) = world.transmission().unwrap();
    world.turn_clock(secs(1));
    let lost = |_| AttemptResult::Lost { text: "reset by peer".to_owned(), after_end_of_data: false };
    world.attempted(carrier, ticket, lost);
    assert_eq!(world.outcomes(ticket), [Outcome::Expired]);
}

#[test]
fn nothing_enters_a_tier_that_ends_after_its_expiry() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.not_before = Some(world.now.after(secs(7_000)));
    entry.expiry = world.now.after(secs(50));
    let ticket = world.arrive(entry);
    assert_eq!(world.moved(ticket), None);
    assert_eq!(world.reason(ticket), Some(WaitReason::NotBefore));
    world.pass(secs(50));
    assert_eq!(world.outcomes(ticket), [Outcome::Expired]);
}

#[test]
fn the_summary_counts_by_site_tenant_and_class() {
    let mut world = World::simple();
    let first = world.now;
    world.bulk("acme", "google");
    world.turn_clock(secs(1));
    world.bulk("acme", "google");
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.not_before = Some(world.now.after(secs(40)));
    world.arrive(entry);
    world.urgent("acme", "google");
    world.opened();
    let rows = world.dispatcher.summary();
    let short: Vec<_> = rows.iter().map(|row| (row.class, row.ready, row.in_flight, row.waiting.clone())).collect();
    assert_eq!(short, [(Class::Transactional, 0, 1, vec![]), (Class::Bulk, 2, 0, vec![(WaitReason::NotBefore, 1)])]);
    assert_eq!(rows[1].oldest_arrival, first);
}

#[test]
fn a_slow_lane_is_not_made_of_a_quiet_one() {
    let mut world = World::simple();
    for _ in 0..10 {
        world.bulk("acme", "google");
        world.perform_all();
        world.pass(secs(59));
    }
    let burst: Vec<_> = (0..500).map(|_| world.bulk("acme", "google")).collect();
    assert!(burst.iter().all(|&ticket| world.moved(ticket).is_none()));
}

#[test]
fn a_delivered_message_leaves_the_index() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let _sent = world.transmission().unwrap();
    world.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
    assert_eq!(world.dispatcher.held(BULK), 1);
    world.perform_dull();
    assert_eq!(world.dispatcher.held(BULK), 0);
}
