//! Which bodies are in memory.

use postrider_model::Class;

use super::world::World;
use crate::dispatcher::{Action, DispatcherConfig};
use crate::limits::{PathLimits, Shaping};

fn world(body_bytes: u64) -> World {
    let default = PathLimits { connections: 1, ..PathLimits::default() };
    World::new(
        DispatcherConfig { body_bytes, ..DispatcherConfig::default() },
        Shaping { default, ..Shaping::default() },
    )
}

#[test]
fn what_is_furthest_from_its_turn_is_dropped_first() {
    let mut world = world(10_000);
    let tickets: Vec<_> = (0..12).map(|_| world.bulk("acme", "google")).collect();
    let held: Vec<_> = tickets.iter().filter(|ticket| world.mails[ticket].body_held).copied().collect();
    assert_eq!(held, tickets[..8], "four fifths of the budget are for bulk");
}

#[test]
fn transactional_bodies_have_room_that_bulk_cannot_take() {
    let mut world = world(10_000);
    for _ in 0..20 {
        world.bulk("acme", "google");
    }
    let urgent: Vec<_> = (0..2).map(|_| world.urgent("acme", "google")).collect();
    assert!(urgent.iter().all(|ticket| world.mails[ticket].body_held));
}

#[test]
fn dropped_bodies_are_read_again_before_their_turn() {
    let mut world = world(5_000);
    for _ in 0..50 {
        world.bulk("acme", "google");
    }
    world.perform_all();
    assert_eq!(world.transmitted.len(), 50);
}

#[test]
fn an_envelope_without_its_body_waits_for_it_before_it_is_transmitted() {
    let mut world = world(10_000);
    let mut entry = world.entry(Class::Bulk, "acme", "google");
    entry.body_held = false;
    let ticket = world.arrive(entry);
    assert!(!world.todo.contains(&Action::ReadBody(ticket)));
    world.perform_all();
    assert_eq!(world.transmitted, [ticket]);
}

#[test]
fn a_body_larger_than_the_budget_is_sent_all_the_same() {
    let mut world = world(1_000);
    for _ in 0..3 {
        let mut entry = world.entry(Class::Bulk, "acme", "google");
        entry.size_bytes = 5_000;
        entry.body_held = false;
        world.arrive(entry);
    }
    world.perform_all();
    assert_eq!(world.transmitted.len(), 3);
}

#[test]
fn a_body_that_was_read_is_sent_before_another_is_read() {
    let mut world = world(1_000);
    for tenant in 0..6 {
        let mut entry = world.entry(Class::Transactional, &format!("tenant{tenant}"), "google");
        entry.size_bytes = 900;
        entry.body_held = false;
        world.arrive(entry);
    }
    let mut reads = 0;
    while !world.todo.is_empty() {
        let action = world.todo.remove(0);
        reads += usize::from(matches!(action, Action::ReadBody(_)));
        world.perform_well(action);
    }
    assert_eq!((world.transmitted.len(), reads), (6, 6));
}
