//! What an attempt comes to.

use std::time::Duration;

use postrider_model::{Class, EnhancedCode, Move, Outcome, Reply, WaitReason};

use super::world::{World, reply};
use crate::dispatcher::{AttemptResult, Entry, Fact, Ticket};

fn refused(code: u16) -> AttemptResult {
    AttemptResult::Refused(reply(code))
}

fn tried(world: &mut World, recipients: u32, result: impl Fn(u32) -> AttemptResult) -> Ticket {
    let mut entry = world.entry(Class::Transactional, "acme", "google");
    entry.pending = (0..recipients).collect();
    world.arrive(entry);
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let (_, ticket) = world.transmission().unwrap();
    world.attempted(conversation, ticket, result);
    ticket
}

#[test]
fn each_recipient_has_its_own_outcome_and_the_deferred_go_on() {
    let mut world = World::simple();
    let ticket = tried(&mut world, 3, |index| match index {
        0 => AttemptResult::Delivered(reply(250)),
        1 => refused(451),
        _ => refused(550),
    });
    assert_eq!(world.outcomes(ticket), [Outcome::Delivered, Outcome::Deferred, Outcome::Bounced]);
    match &world.mails[&ticket].plan.as_ref().unwrap().next {
        Move::Tier { reason, attempt, pending, last_reply, .. } => {
            assert_eq!((*reason, *attempt, pending.as_slice()), (WaitReason::Retry, 1, &[1][..]));
            assert_eq!(last_reply, &Some(reply(451)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_that_is_delivered_to_all_is_finished() {
    let mut world = World::simple();
    let ticket = tried(&mut world, 2, |_| AttemptResult::Delivered(reply(250)));
    assert_eq!(world.mails[&ticket].plan.as_ref().unwrap().next, Move::Finished);
}

#[test]
fn the_first_retry_comes_after_one_or_five_minutes() {
    let mut world = World::simple();
    let ticket = tried(&mut world, 1, |_| refused(451));
    let (reason, wait, attempted) = world.moved(ticket).unwrap();
    assert_eq!((reason, attempted), (WaitReason::Retry, true));
    assert!([60, 300].contains(&wait), "{wait}");
}

/// How long a message waits after a reply of a site to this attempt.
fn wait_after(site: &str, attempts_before: u32, text: &str) -> u64 {
    let mut world = World::simple();
    let entry = world.entry(Class::Transactional, "acme", site);
    world.arrive(Entry { attempt: attempts_before, ..entry });
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let (_, ticket) = world.transmission().unwrap();
    let reply = Reply::new(451, Some(EnhancedCode(4, 7, 1)), text);
    world.attempted(conversation, ticket, |_| AttemptResult::Refused(reply.clone()));
    world.moved(ticket).unwrap().1
}

#[test]
fn nobody_comes_back_before_the_time_that_was_asked_for() {
    assert_eq!(wait_after("example.net", 0, "Greylisted, please try again in 170 seconds"), 300);
    assert_eq!(wait_after("example.net", 0, "Greylisted, please try again in 10 minutes"), 900);
    assert_eq!(wait_after("example.net", 0, "Greylisted, please try again in 15 minutes"), 900);
}

#[test]
fn who_asks_for_a_minute_each_time_is_not_asked_each_minute() {
    assert!(wait_after("example.net", 10, "Greylisted, please try again in 60 seconds") >= 3_600);
}

#[test]
fn what_all_mail_from_here_waits_for_is_an_hour_at_most() {
    assert_eq!(wait_after("yahoo", 10, "[TSS05] Messages temporarily deferred due to user complaints"), 3_600);
    assert_eq!(wait_after("yahoo", 0, "[TSS05] Messages temporarily deferred due to user complaints"), 3_600);
}

#[test]
fn a_thousand_temporary_failures_make_no_permanent_one() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.attempt = 1_000;
    let ticket = world.arrive(entry);
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.transmission().unwrap();
    world.attempted(conversation, ticket, |_| refused(451));
    assert_eq!(world.outcomes(ticket), [Outcome::Deferred]);
}

#[test]
fn a_temporary_failure_with_no_turn_left_expires() {
    let mut world = World::simple();
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.expiry = world.now.after(Duration::from_secs(50));
    let ticket = world.arrive(entry);
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.transmission().unwrap();
    world.attempted(conversation, ticket, |_| refused(451));
    assert_eq!(world.outcomes(ticket), [Outcome::Expired]);
}

#[test]
fn a_domain_that_does_not_exist_bounces_without_a_conversation() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "nowhere.example");
    world.fact(Fact::Unresolvable { ticket, permanent: true, reply: reply(550) });
    assert_eq!(world.outcomes(ticket), [Outcome::Bounced]);
}

#[test]
fn a_conversation_that_did_not_come_about_says_nothing_of_mail_that_another_one_has() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.transmission().unwrap();
    world.fact(Fact::Unresolvable { ticket, permanent: true, reply: reply(550) });
    world.attempted(conversation, ticket, |_| refused(451));
    assert_eq!(world.outcomes(ticket), [Outcome::Deferred]);
}

#[test]
fn a_body_that_is_gone_sends_the_envelope_to_the_dead_letters() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    world.fact(Fact::BodyMissing { ticket });
    assert_eq!(world.outcomes(ticket), [Outcome::Dead]);
    let next = &world.mails[&ticket].plan.as_ref().unwrap().next;
    assert_eq!(next, &Move::Dead { reason: "body-lost".to_owned() });
}

#[test]
fn a_damaged_body_found_in_the_conversation_does_not_stop_it() {
    let mut world = World::simple();
    let damaged = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.transmission().unwrap();
    world.links.get_mut(&conversation).unwrap().carries = None;
    world.mails.get_mut(&damaged).unwrap().in_flight = None;
    world.fact(Fact::BodyMissing { ticket: damaged });
    assert_eq!(world.outcomes(damaged), [Outcome::Dead]);
    world.fact(Fact::Ready(conversation));
    let next = world.bulk("acme", "google");
    assert_eq!(world.transmission(), Some((conversation, next)));
}
