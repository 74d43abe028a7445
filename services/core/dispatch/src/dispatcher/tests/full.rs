//! Streams that take nothing: moves to them wait, everything else goes on.

use std::time::Duration;

use postrider_model::{Outcome, Tier, WaitReason};

use super::world::{World, reply};
use crate::dispatcher::{Action, AttemptResult, DispatcherConfig, Fact, Ticket};
use crate::limits::{PathLimits, Shaping};
use crate::retry::FullTiers;
use crate::rules::Order;

fn full(tiers: &[Tier]) -> FullTiers {
    let mut full = FullTiers::default();
    tiers.iter().for_each(|tier| full[tier.index()] = true);
    full
}

fn suspend(ticket: &Ticket) -> (Ticket, Order) {
    (*ticket, Order::Suspend { rule: "hold".parse().unwrap() })
}

fn moved(world: &World, tickets: &[Ticket]) -> usize {
    tickets.iter().filter(|ticket| world.mails[ticket].plan.is_some()).count()
}

/// Performs everything but the settles of these.
fn perform_all_but_settles_of(world: &mut World, stuck: &[Ticket]) {
    let is_stuck = |action: &Action| matches!(action, Action::Settle { ticket, .. } if stuck.contains(ticket));
    while let Some(at) = world.todo.iter().position(|action| !is_stuck(action)) {
        let action = world.todo.remove(at);
        world.perform_well(action);
    }
}

#[test]
fn moves_that_one_tier_does_not_take_hold_up_none_to_others() {
    let config =
        DispatcherConfig { moves_at_once: 2, index_wait: Duration::from_secs(1), ..DispatcherConfig::default() };
    let limits = |rate: &str| PathLimits { message_rate: Some(rate.parse().unwrap()), ..PathLimits::default() };
    let sites = [("full.example".parse().unwrap(), limits("1/d"))].into_iter().collect();
    let mut world = World::new(config, Shaping { default: limits("2/m"), sites });
    // One has to be seen before it is known how long the others wait.
    let stuck: Vec<_> = (0..6).map(|_| world.bulk("acme", "full.example")).collect();
    perform_all_but_settles_of(&mut world, &stuck[1..]);
    assert_eq!((moved(&world, &stuck), world.transmitted.len()), (3, 1), "one sent, two on their way");

    let others: Vec<_> = (0..6).map(|_| world.bulk("acme", "other.example")).collect();
    perform_all_but_settles_of(&mut world, &stuck[1..]);
    assert_eq!(moved(&world, &others), 6, "those go to another tier");
    let suspended = world.bulk("acme", "other.example");
    world.dispatcher.set_hold_is_full(true);
    world.fact(Fact::Ordered(vec![suspend(&suspended)]));
    assert_eq!(moved(&world, &[suspended]), 1);
    assert_eq!(moved(&world, &stuck), 3);
    world.perform_all();
    assert_eq!(moved(&world, &stuck), 6, "and the rest when there is room");
}

#[test]
fn what_waits_for_a_tier_finds_another_when_that_is_full() {
    let config = DispatcherConfig { moves_at_once: 1, ..DispatcherConfig::default() };
    let default = PathLimits { message_rate: Some("1/d".parse().unwrap()), ..PathLimits::default() };
    let mut world = World::new(config, Shaping { default, ..Shaping::default() });
    let tickets: Vec<_> = (0..4).map(|_| world.bulk("acme", "google")).collect();
    perform_all_but_settles_of(&mut world, &tickets[1..]);
    assert_eq!(moved(&world, &tickets), 2);
    world.dispatcher.set_full_tiers(full(&[Tier::H1]));
    world.fact(Fact::Tick);
    assert_eq!(moved(&world, &tickets), 3);
    let waits: Vec<_> = tickets.iter().filter_map(|ticket| world.moved(*ticket)).map(|moved| moved.1).collect();
    assert_eq!(waits, [3_600, 900]);
}

#[test]
fn a_retry_does_not_go_to_a_full_tier() {
    let mut world = World::simple();
    world.dispatcher.set_full_tiers(full(&[Tier::M1, Tier::M5, Tier::H1]));
    let ticket = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.transmission().unwrap();
    world.attempted(conversation, ticket, |_| AttemptResult::Refused(reply(451)));
    assert_eq!(world.moved(ticket), Some((WaitReason::Retry, 900, true)));
}

#[test]
fn what_hold_does_not_take_holds_up_no_other_order_and_finds_a_tier() {
    let config = DispatcherConfig { moves_at_once: 2, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let tickets: Vec<_> = (0..6).map(|_| world.bulk("acme", "google")).collect();
    world.fact(Fact::Ordered(tickets[1..].iter().map(suspend).collect()));
    let deleted = world.bulk("acme", "other.example");
    let end = Order::End { outcome: Outcome::Deleted, reply: reply(554), recipients: vec![0] };
    world.fact(Fact::Ordered(vec![(deleted, end)]));
    perform_all_but_settles_of(&mut world, &tickets[1..]);
    assert_eq!(moved(&world, &[deleted]), 1, "it does not wait behind a full HOLD");
    assert_eq!(moved(&world, &tickets[1..]), 2);
    world.dispatcher.set_hold_is_full(true);
    world.fact(Fact::Tick);
    let waits: Vec<_> = tickets[1..].iter().filter_map(|ticket| world.moved(*ticket)).collect();
    assert_eq!(waits, [(WaitReason::Held, 14_400, false); 2], "two more, to a tier; the first two wait for HOLD still");
}

#[test]
fn bodies_of_what_no_tier_takes_do_not_fill_the_memory_for_bodies() {
    let config = DispatcherConfig { body_bytes: 10_000, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let tickets: Vec<_> = (0..8).map(|_| world.bulk("acme", "google")).collect();
    world.dispatcher.set_hold_is_full(true);
    for &ticket in &tickets {
        world.fact(Fact::Ordered(vec![suspend(&ticket)]));
    }
    assert_eq!((moved(&world, &tickets), world.dispatcher.body_bytes()), (8, 8_000));
    for &ticket in &tickets {
        world.fact(Fact::Spilled(ticket));
        world.fact(Fact::Spilled(ticket));
    }
    assert_eq!(world.dispatcher.body_bytes(), 0);
    let other = world.bulk("acme", "other.example");
    assert!(world.mails[&other].body_held);
    world.perform_all();
    assert_eq!((world.dispatcher.all_held(), world.dispatcher.body_bytes()), (0, 0));
}
