//! Permits, and the end of conversations.

use std::time::Duration;

use postrider_model::{Class, Outcome, WaitReason};

use super::world::{World, failure, reply};
use crate::dispatcher::{Action, AttemptResult, DispatcherConfig, Fact, FailureScope};
use crate::limits::{PathLimits, Shaping};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn shaping(connections: u32, messages_per_connection: u32, rate: Option<&str>) -> Shaping {
    let message_rate = rate.map(|rate| rate.parse().unwrap());
    Shaping { default: PathLimits { connections, messages_per_connection, message_rate }, ..Shaping::default() }
}

#[test]
fn a_connection_is_closed_after_its_messages() {
    let mut world = World::new(DispatcherConfig::default(), shaping(1, 3, None));
    for _ in 0..7 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    world.pass(secs(1));
    assert_eq!(world.transmitted.len(), 7);
    assert_eq!(world.links.len(), 1);
}

#[test]
fn the_permit_of_a_long_conversation_is_renewed() {
    let mut world = World::simple();
    world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    for _ in 0..60 {
        world.turn_clock(secs(1));
        world.fact(Fact::Tick);
        world.perform_dull();
    }
    let path = world.links[&conversation].path.clone();
    assert_eq!(world.owner.connections(&path), 1);
}

#[test]
fn nothing_is_transmitted_after_the_end_of_the_permit() {
    let mut world = World::simple();
    world.bulk("acme", "google");
    let (conversation, ticket) = world.opened().unwrap();
    world.turn_clock(secs(11));
    world.greet(conversation);
    assert_eq!(world.transmission(), None);
    assert_eq!(world.closed(), Some(conversation));
    world.end(conversation, None);
    assert_eq!(world.opened().map(|(_, ticket)| ticket), Some(ticket));
}

#[test]
fn a_rate_of_ten_a_second_is_used_nearly_to_the_full() {
    let mut world = World::new(DispatcherConfig::default(), shaping(10, 100, Some("10/s")));
    for _ in 0..500 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    world.pass(secs(20));
    assert!((190..=210).contains(&world.transmitted.len()), "{}", world.transmitted.len());
}

#[test]
fn a_rate_of_a_hundred_an_hour_is_used_nearly_to_the_full() {
    let mut world = World::new(DispatcherConfig::default(), shaping(10, 100, Some("100/h")));
    for _ in 0..30 {
        world.bulk("acme", "google");
    }
    for _ in 0..720 {
        world.perform_all();
        world.pass(secs(60));
        let held = world.mails.values().filter(|mail| !mail.is_over()).count();
        for _ in held..10 {
            world.bulk("acme", "google");
        }
    }
    assert!((1_180..=1_300).contains(&world.transmitted.len()), "{}", world.transmitted.len());
}

#[test]
fn a_part_larger_than_the_whole_rate_goes_out_bit_by_bit() {
    let mut world = World::new(DispatcherConfig::default(), shaping(10, 100, Some("10/s")));
    let mut entry = world.entry(Class::Transactional, "acme", "google");
    entry.pending = (0..25).collect();
    let ticket = world.arrive(entry);
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.perform_dull();
    let recipients = world.todo.iter().find_map(|action| match action {
        Action::Transmit { recipients, .. } => Some(*recipients),
        _ => None,
    });
    assert_eq!(recipients, Some(10));
    let results = (0..10).map(|index| (index, AttemptResult::Delivered(reply(250)))).collect();
    world.fact(Fact::Attempted { ticket, conversation: Some(conversation), results });
    let outcomes = world.outcomes(ticket);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Delivered).count(), 10);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Moved).count(), 15);
    assert_eq!(world.moved(ticket), Some((WaitReason::RateLimit, 60, true)));
}

#[test]
fn a_failed_opening_is_an_attempt_of_the_ticket_it_was_for_and_of_no_other() {
    let mut world = World::simple();
    let tickets = [world.bulk("acme", "google"), world.bulk("acme", "google")];
    let (conversation, ticket) = world.opened().unwrap();
    assert_eq!(ticket, tickets[0]);
    let mut greylisted = failure(FailureScope::Exchange);
    greylisted.reply = Some(reply(421));
    world.end(conversation, Some(greylisted));
    assert_eq!(world.outcomes(tickets[0]), [Outcome::Deferred]);
    let (reason, _, attempted) = world.moved(tickets[0]).unwrap();
    assert_eq!((reason, attempted), (WaitReason::Retry, true));
    assert_eq!(world.reason(tickets[1]), Some(WaitReason::SiteClosed));
}

#[test]
fn a_closed_exchange_opens_again_and_closes_for_twice_as_long() {
    let mut world = World::simple();
    for _ in 0..5 {
        world.bulk("acme", "google");
    }
    let (conversation, _) = world.opened().unwrap();
    world.end(conversation, Some(failure(FailureScope::Exchange)));
    assert_eq!(world.opened(), None);
    world.turn_clock(secs(60));
    world.fact(Fact::Tick);
    let (conversation, _) = world.opened().unwrap();
    world.end(conversation, Some(failure(FailureScope::Exchange)));
    // Two minutes are longer than anything waits in the index.
    let moved: Vec<_> = world.mails.keys().filter_map(|&ticket| world.moved(ticket)).collect();
    let others = moved.iter().filter(|moved| moved.0 == WaitReason::SiteClosed);
    assert_eq!(others.clone().count(), 3);
    assert!(others.clone().all(|(_, wait, attempted)| *wait == 60 && !attempted), "{moved:?}");
    let late = world.bulk("acme", "google");
    assert_eq!(world.moved(late).map(|moved| moved.0), Some(WaitReason::SiteClosed));
}

#[test]
fn one_refused_connection_among_good_ones_does_not_close_the_exchange() {
    let mut world = World::simple();
    for _ in 0..50 {
        world.bulk("acme", "google");
    }
    let (good, _) = world.opened().unwrap();
    world.greet(good);
    let (bad, ticket) = world.opened().unwrap();
    world.end(bad, Some(failure(FailureScope::Exchange)));
    assert_eq!(world.reason(ticket), Some(WaitReason::Behind));
    assert_eq!(world.opened(), None, "no more than there are");
    let (conversation, ticket) = world.transmission().unwrap();
    world.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
    world.fact(Fact::Ready(conversation));
    assert!(world.transmission().is_some());
}

#[test]
fn a_fault_of_our_side_is_not_held_against_the_destination() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.end(conversation, Some(failure(FailureScope::Source)));
    assert!(!world.mails[&ticket].is_over());
    assert_eq!(world.reason(ticket), Some(WaitReason::SourceUnavailable));
    world.turn_clock(secs(5));
    world.fact(Fact::Tick);
    assert_eq!(world.opened().map(|(_, ticket)| ticket), Some(ticket));
}

#[test]
fn a_reused_connection_that_is_dead_costs_no_attempt_once() {
    let mut world = World::new(DispatcherConfig::default(), shaping(1, 100, None));
    let lost = |_| AttemptResult::Lost { text: "reset".to_owned(), after_end_of_data: false };
    world.bulk("acme", "google");
    let second = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let (_, first) = world.transmission().unwrap();
    world.attempted(conversation, first, |_| AttemptResult::Delivered(reply(250)));
    world.fact(Fact::Ready(conversation));
    let (_, ticket) = world.transmission().unwrap();
    world.attempted(conversation, ticket, lost);
    world.end(conversation, Some(failure(FailureScope::Exchange)));
    assert!(!world.mails[&second].is_over());
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let (_, ticket) = world.transmission().unwrap();
    assert_eq!(ticket, second);
    world.attempted(conversation, ticket, lost);
    assert_eq!(world.outcomes(second), [Outcome::Deferred]);
}

#[test]
fn what_may_have_arrived_is_not_sent_again_at_once() {
    let mut world = World::new(DispatcherConfig::default(), shaping(1, 100, None));
    for _ in 0..2 {
        world.bulk("acme", "google");
    }
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let (_, first) = world.transmission().unwrap();
    world.attempted(conversation, first, |_| AttemptResult::Delivered(reply(250)));
    world.fact(Fact::Ready(conversation));
    let (_, second) = world.transmission().unwrap();
    world.attempted(conversation, second, |_| AttemptResult::Lost { text: "reset".into(), after_end_of_data: true });
    assert_eq!(world.outcomes(second), [Outcome::Deferred]);
}

#[test]
fn a_limit_owner_that_does_not_answer_is_what_is_waited_for() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    let request = world.todo.iter().find_map(|action| match action {
        Action::Acquire { request, .. } => Some(*request),
        _ => None,
    });
    let until = world.now.after(secs(1));
    world.fact(Fact::Waiting { request: request.unwrap(), until, reason: WaitReason::LimitOwner });
    assert_eq!(world.reason(ticket), Some(WaitReason::LimitOwner));
    assert_eq!(world.dispatcher.wake_at(), Some(until));
}

#[test]
fn an_idle_connection_makes_room_for_another_exchange_of_its_path() {
    let mut world = World::new(DispatcherConfig::default(), shaping(1, 100, None));
    world.bulk("acme", "google");
    world.perform_all();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.exchange = crate::dispatcher::Exchange::new("another");
    let ticket = world.arrive(entry);
    world.perform_all();
    assert_eq!(world.transmitted.last(), Some(&ticket));
}

#[test]
fn an_idle_connection_makes_room_for_another_site_when_the_process_has_no_more() {
    let config = DispatcherConfig { conversations: 5, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    for site in 0..20 {
        world.bulk("acme", &format!("site{site}.example"));
    }
    world.perform_all();
    assert_eq!(world.transmitted.len(), 20);
}
