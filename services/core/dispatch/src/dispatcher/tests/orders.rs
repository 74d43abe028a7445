//! What operators order about what is held and what arrives.

use std::time::Duration;

use postrider_model::{Class, Move, Outcome, Tier, Timestamp, WaitReason};

use super::world::{World, failure, reply};
use crate::dispatcher::{AttemptResult, DispatcherConfig, Fact, FailureScope, Ticket};
use crate::limits::Shaping;
use crate::rules::Order;

fn suspend() -> Order {
    Order::Suspend { rule: "hold-1".parse().unwrap() }
}

fn delete(recipients: &[u32]) -> Order {
    Order::End { outcome: Outcome::Deleted, reply: reply(554), recipients: recipients.to_vec() }
}

fn next(world: &World, ticket: Ticket) -> Option<Move> {
    world.mails[&ticket].plan.as_ref().map(|plan| plan.next.clone())
}

fn order(world: &mut World, ticket: Ticket, order: Order) {
    world.fact(Fact::Ordered(vec![(ticket, order)]));
}

#[test]
fn what_stands_in_line_is_suspended_and_not_sent() {
    let mut world = World::simple();
    let tickets: Vec<_> = (0..3).map(|_| world.bulk("acme", "google")).collect();
    order(&mut world, tickets[1], suspend());
    assert_eq!(world.outcomes(tickets[1]), [Outcome::Suspended]);
    assert_eq!(next(&world, tickets[1]), Some(Move::Hold { rule: "hold-1".parse().unwrap() }));
    world.perform_all();
    assert_eq!(world.transmitted, [tickets[0], tickets[2]]);
}

#[test]
fn what_a_conversation_is_opened_for_is_suspended_and_the_conversation_carries_another() {
    let mut world = World::simple();
    let (first, second) = (world.bulk("acme", "google"), world.bulk("acme", "google"));
    let (conversation, opened_for) = world.opened().unwrap();
    assert_eq!(opened_for, first);
    order(&mut world, first, suspend());
    world.greet(conversation);
    assert_eq!(world.transmission(), Some((conversation, second)));
    assert_eq!(world.outcomes(first), [Outcome::Suspended]);
}

#[test]
fn a_conversation_under_way_is_let_end() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.transmission().unwrap();
    order(&mut world, ticket, suspend());
    assert_eq!(next(&world, ticket), None);
    world.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
    assert_eq!(world.outcomes(ticket), [Outcome::Delivered]);
}

#[test]
fn what_arrives_under_an_order_is_never_in_line() {
    let mut world = World::simple();
    let entry = world.entry(Class::Bulk, "acme", "google");
    let ticket = world.arrive_under(entry, suspend());
    assert_eq!(world.outcomes(ticket), [Outcome::Suspended]);
    world.perform_all();
    assert_eq!(world.transmitted, []);
}

#[test]
fn what_is_deleted_has_met_its_end() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    order(&mut world, ticket, delete(&[0]));
    assert_eq!(world.outcomes(ticket), [Outcome::Deleted]);
    assert_eq!(next(&world, ticket), Some(Move::Finished));
}

#[test]
fn recipients_that_are_not_meant_go_on() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Transactional, "acme", "google");
    entry.pending = vec![0, 2, 3];
    let ticket = world.arrive(entry);
    order(&mut world, ticket, delete(&[2]));
    assert_eq!(world.outcomes(ticket), [Outcome::Moved, Outcome::Deleted, Outcome::Moved]);
    let Some(Move::Tier { tier, pending, attempt, .. }) = next(&world, ticket) else { panic!("no tier") };
    assert_eq!((tier, pending, attempt), (Tier::M1, vec![0, 3], 0));
}

#[test]
fn what_hold_has_no_room_for_waits_in_the_longest_tier() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    world.dispatcher.set_hold_is_full(true);
    order(&mut world, ticket, suspend());
    assert_eq!(world.moved(ticket), Some((WaitReason::Held, 14_400, false)));
}

#[test]
fn no_more_is_ordered_to_move_at_a_time_than_anything_else() {
    let config = DispatcherConfig { moves_at_once: 5, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let tickets: Vec<_> = (0..20).map(|_| world.bulk("acme", "google")).collect();
    for &ticket in &tickets {
        order(&mut world, ticket, suspend());
    }
    let settled = |world: &World| tickets.iter().filter(|ticket| next(world, **ticket).is_some()).count();
    assert_eq!(settled(&world), 5);
    assert_eq!(world.reason(tickets[19]), Some(WaitReason::Held));
    world.perform_all();
    assert_eq!((settled(&world), world.transmitted.len()), (20, 0));
}

#[test]
fn what_is_ordered_to_hold_and_expires_before_it_is_moved_expires() {
    let config = DispatcherConfig { moves_at_once: 1, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let first = world.bulk("acme", "google");
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.expiry = world.now.after(Duration::from_secs(10));
    let second = world.arrive(entry);
    order(&mut world, first, suspend());
    order(&mut world, second, suspend());
    world.turn_clock(Duration::from_secs(11));
    world.fact(Fact::Tick);
    assert_eq!(world.outcomes(second), [Outcome::Expired]);
    world.perform_all();
}

/// A lane whose exchanger has just failed; what waits has gone to a tier.
fn closed() -> World {
    let mut world = World::simple();
    world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.end(conversation, Some(failure(FailureScope::Exchange)));
    world.perform_dull();
    assert!(world.opened().is_none());
    world
}

#[test]
fn a_flush_opens_what_was_closed_before_it_was_given() {
    let mut world = closed();
    world.turn_clock(Duration::from_secs(1));
    let given = world.now;
    let entry = world.entry(Class::Bulk, "acme", "google");
    let ticket = world.arrive_under(entry, Order::Flush { given });
    assert_eq!(world.opened().map(|(_, ticket)| ticket), Some(ticket));
}

#[test]
fn a_flush_does_not_open_what_was_found_closed_since() {
    let mut world = closed();
    let given = Timestamp::from_millis(world.now.as_millis() - 1);
    let entry = world.entry(Class::Bulk, "acme", "google");
    let ticket = world.arrive_under(entry, Order::Flush { given });
    assert!(world.opened().is_none());
    assert!(next(&world, ticket).is_some() || world.reason(ticket) == Some(WaitReason::SiteClosed));
}

#[test]
fn a_flush_leaves_the_submitters_time_alone() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.not_before = Some(world.now.after(Duration::from_secs(40)));
    let ticket = world.arrive(entry);
    let given = world.now;
    order(&mut world, ticket, Order::Flush { given });
    assert_eq!(world.reason(ticket), Some(WaitReason::NotBefore));
}

#[test]
fn what_arrives_under_a_flush_is_sent_once() {
    let mut world = World::simple();
    let given = world.now;
    for _ in 0..3 {
        let entry = world.entry(Class::Bulk, "acme", "google");
        world.arrive_under(entry, Order::Flush { given });
    }
    world.perform_all();
    assert_eq!(world.transmitted.len(), 3);
}

#[test]
fn what_arrives_under_a_flush_waits_for_the_submitters_time() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.not_before = Some(world.now.after(Duration::from_secs(40)));
    let given = world.now;
    let ticket = world.arrive_under(entry, Order::Flush { given });
    assert_eq!(world.reason(ticket), Some(WaitReason::NotBefore));
    assert!(world.opened().is_none());
}

#[test]
fn what_is_ordered_while_it_is_sent_over_a_dead_connection_is_not_sent_again_beside_the_order() {
    for (ordered, hold_is_full) in [(suspend(), false), (suspend(), true), (delete(&[0]), false)] {
        let mut world = World::simple();
        world.dispatcher.set_hold_is_full(hold_is_full);
        world.bulk("acme", "google");
        let (conversation, first) = world.opened().unwrap();
        world.greet(conversation);
        let second = world.bulk("acme", "google");
        assert_eq!(world.transmission(), Some((conversation, first)));
        world.attempted(conversation, first, |_| AttemptResult::Delivered(reply(250)));
        world.fact(Fact::Ready(conversation));
        assert_eq!(world.transmission(), Some((conversation, second)));
        order(&mut world, second, ordered);
        let lost = |_| AttemptResult::Lost { text: "reset".to_owned(), after_end_of_data: false };
        world.attempted(conversation, second, lost);
        assert_eq!(world.outcomes(second), [Outcome::Deferred]);
        world.end(conversation, None);
        world.perform_all();
        assert_eq!(world.transmitted.len(), 2);
    }
}

#[test]
fn none_of_those_that_are_ordered_to_stay_is_sent_in_the_place_of_another() {
    let mut world = World::simple();
    let first = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    assert_eq!(world.transmission(), Some((conversation, first)));
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    (entry.body_held, entry.size_bytes) = (false, 1_000);
    let mut others = vec![world.arrive(entry)];
    others.extend((0..3).map(|_| world.bulk("acme", "google")));
    // The first of them waits for its body, bound to the conversation.
    world.attempted(conversation, first, |_| AttemptResult::Delivered(reply(250)));
    world.fact(Fact::Ready(conversation));
    world.fact(Fact::Ordered(others.into_iter().map(|ticket| (ticket, suspend())).collect()));
    world.perform_all();
    assert_eq!(world.transmitted.len(), 1);
}
