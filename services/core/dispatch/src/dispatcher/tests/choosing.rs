//! Whose turn it is.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::Class;

use super::world::World;
use crate::dispatcher::{Action, DispatcherConfig, Ticket};
use crate::limits::{PathLimits, Shaping};

fn one_connection() -> Shaping {
    let default = PathLimits { connections: 1, messages_per_connection: 1_000_000, message_rate: None };
    Shaping { default, ..Shaping::default() }
}

fn classes(world: &World, tickets: &[Ticket]) -> String {
    tickets.iter().map(|ticket| world.mails[ticket].entry.class.letter()).collect()
}

#[test]
fn a_message_goes_out_over_a_new_connection() {
    let mut world = World::simple();
    let ticket = world.bulk("acme", "google");
    assert_eq!(world.opened().map(|(_, ticket)| ticket), Some(ticket));
}

#[test]
fn what_waits_for_the_same_exchange_goes_over_the_same_connection() {
    let mut world = World::new(DispatcherConfig::default(), one_connection());
    for _ in 0..20 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    assert_eq!((world.transmitted.len(), world.links.len()), (20, 1));
}

#[test]
fn transactional_goes_before_bulk() {
    let mut world = World::new(DispatcherConfig::default(), one_connection());
    for _ in 0..5 {
        world.bulk("acme", "google");
    }
    for _ in 0..3 {
        world.urgent("acme", "google");
    }
    world.perform_all();
    // The owner has one connection and it was asked for bulk first.
    assert_eq!(classes(&world, &world.transmitted), "tttbbbbb");
}

#[test]
fn bulk_never_takes_the_reserved_connections() {
    let mut world = World::simple();
    for _ in 0..1_000 {
        world.bulk("acme", "google");
    }
    let mut opened = Vec::new();
    while let Some((conversation, _)) = world.opened() {
        opened.push(conversation);
        world.greet(conversation);
    }
    assert_eq!(opened.len(), 8);
    let urgent = world.urgent("acme", "google");
    assert_eq!(world.opened().map(|(_, ticket)| ticket), Some(urgent));
}

#[test]
fn a_reserved_connection_carries_no_bulk() {
    let mut world = World::simple();
    for _ in 0..1_000 {
        world.bulk("acme", "google");
    }
    while let Some((conversation, _)) = world.opened() {
        world.greet(conversation);
    }
    let urgent = world.urgent("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let at =
        world.todo.iter().position(|action| matches!(action, Action::Transmit { ticket, .. } if *ticket == urgent));
    let action = world.todo.remove(at.unwrap());
    world.perform_well(action);
    assert_eq!(world.links[&conversation].carries, None);
}

#[test]
fn tenants_share_by_recipients() {
    let mut world = World::new(DispatcherConfig::default(), one_connection());
    for _ in 0..100 {
        let mut entry = world.entry(Class::Transactional, "large", "google");
        entry.pending = (0..100).collect();
        world.arrive(entry);
    }
    for _ in 0..5_000 {
        world.urgent("small", "google");
    }
    world.perform_all();
    let first: Vec<_> = world.transmitted.iter().take(1_010).collect();
    let mut recipients: BTreeMap<&str, u32> = BTreeMap::new();
    for ticket in first {
        let entry = &world.mails[ticket].entry;
        *recipients.entry(entry.tenant.as_str()).or_default() += entry.cost();
    }
    let difference = recipients["large"].abs_diff(recipients["small"]);
    assert!(difference <= 200, "{recipients:?}");
}

#[test]
fn a_late_tenant_does_not_wait_for_the_backlog_of_another() {
    let mut world = World::new(DispatcherConfig::default(), one_connection());
    for _ in 0..5_000 {
        world.bulk("large", "google");
    }
    let late = world.bulk("small", "google");
    world.perform_all();
    let place = world.transmitted.iter().position(|&ticket| ticket == late).unwrap();
    assert!(place <= 200, "{place}");
}

#[test]
fn a_tenant_with_weight_gets_more() {
    let mut world = World::new(DispatcherConfig::default(), one_connection());
    world.dispatcher.set_weights([("gold".parse().unwrap(), 3.try_into().unwrap())]);
    for _ in 0..1_000 {
        world.bulk("gold", "google");
        world.bulk("tin", "google");
    }
    world.perform_all();
    let gold = world.transmitted[..800].iter().filter(|t| world.mails[t].entry.tenant.as_str() == "gold").count();
    assert!((500..=700).contains(&gold), "{gold}");
}

#[test]
fn a_weight_that_changes_holds_for_what_waits_and_one_that_goes_is_forgotten() {
    let mut world = World::new(DispatcherConfig::default(), one_connection());
    for _ in 0..2_000 {
        world.bulk("gold", "google");
        world.bulk("tin", "google");
    }
    world.dispatcher.set_weights([("gold".parse().unwrap(), 3.try_into().unwrap())]);
    world.dispatcher.set_weights([("tin".parse().unwrap(), 3.try_into().unwrap())]);
    world.perform_all();
    let gold = world.transmitted[..800].iter().filter(|t| world.mails[t].entry.tenant.as_str() == "gold").count();
    assert!((100..=300).contains(&gold), "{gold}");
}

#[test]
fn sites_are_served_in_turn_when_connections_are_short() {
    let config = DispatcherConfig { conversations: 5, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    for _ in 0..100 {
        world.bulk("acme", "google");
    }
    for site in ["a.example", "b.example", "c.example"] {
        world.bulk("acme", site);
    }
    let mut sites = Vec::new();
    while let Some((conversation, ticket)) = world.opened() {
        sites.push(world.mails[&ticket].entry.site.to_string());
        world.greet(conversation);
    }
    sites.sort();
    assert_eq!(sites, ["a.example", "b.example", "c.example", "google"]);
}

#[test]
fn another_conversation_takes_the_ticket_of_one_that_is_slow_to_open() {
    let mut world = World::simple();
    let first = world.bulk("acme", "google");
    let (quick, _) = world.opened().unwrap();
    let second = world.bulk("acme", "google");
    assert!(world.opened().is_none(), "one at a time at first");
    world.greet(quick);
    let (slow, ticket) = world.opened().unwrap();
    assert_eq!(ticket, second);
    let (conversation, ticket) = world.transmission().unwrap();
    assert_eq!((conversation, ticket), (quick, first));
    world.perform_well(Action::Transmit { conversation, ticket, recipients: 1 });
    assert_eq!(world.transmission(), Some((quick, second)));
    world.end(slow, None);
    assert!(!world.mails[&second].is_over());
}

#[test]
fn openings_ramp_up() {
    let mut world = World::simple();
    for _ in 0..1_000 {
        world.bulk("acme", "google");
    }
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let mut opened = Vec::new();
        while let Some((conversation, _)) = world.opened() {
            opened.push(conversation);
        }
        rounds.push(opened.len());
        for conversation in opened {
            let link = world.links.get_mut(&conversation).unwrap();
            link.greeted = true;
        }
        let waiting: Vec<_> =
            world.links.iter().filter(|(_, link)| link.carries.is_none()).map(|(id, _)| *id).collect();
        for conversation in waiting {
            world.fact(crate::dispatcher::Fact::Ready(conversation));
        }
    }
    assert_eq!(rounds, [1, 1, 2, 4]);
}

#[test]
fn an_idle_connection_is_closed_after_a_while() {
    let mut world = World::simple();
    world.bulk("acme", "google");
    world.perform_all();
    assert_eq!(world.links.len(), 1);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.links.len(), 0);
    assert_eq!(world.dispatcher.wake_at(), None);
}
