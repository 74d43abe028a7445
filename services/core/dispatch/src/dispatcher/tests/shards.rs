//! Shards that come and go.

use postrider_model::{Class, Outcome, ShardId};

use super::world::{BULK, World, reply};
use crate::dispatcher::{Action, AttemptResult, DispatcherConfig, Entry, Fact};
use crate::limits::Shaping;

#[test]
fn a_released_shard_gives_back_what_has_not_begun_and_finishes_the_rest() {
    let mut world = World::simple();
    let begun = world.bulk("acme", "google");
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    let others: Vec<_> = (0..5).map(|_| world.bulk("acme", "google")).collect();
    world.perform_dull();
    world.fact(Fact::ShardReleasing(BULK));
    assert!(others.iter().all(|ticket| world.mails[ticket].handed_back));
    assert_eq!((world.dispatcher.room(BULK), world.dispatcher.held(BULK)), (0, 1));
    world.attempted(conversation, begun, |_| AttemptResult::Delivered(reply(250)));
    assert_eq!(world.outcomes(begun), [Outcome::Delivered]);
    world.perform_dull();
    assert_eq!(world.dispatcher.held(BULK), 0);
}

#[test]
fn what_arrives_for_a_shard_that_is_not_ours_goes_back() {
    let mut world = World::simple();
    world.fact(Fact::ShardReleasing(BULK));
    let ticket = world.bulk("acme", "google");
    assert!(world.mails[&ticket].handed_back);
}

#[test]
fn a_lost_shard_is_forgotten_and_what_carries_it_is_closed() {
    let mut world = World::simple();
    for _ in 0..5 {
        world.bulk("acme", "google");
    }
    let (conversation, _) = world.opened().unwrap();
    world.greet(conversation);
    world.perform_dull();
    world.todo.clear();
    world.forget_shard(BULK);
    let about_mail = world.todo.iter().filter(|action| action.about().is_some()).count();
    assert_eq!(about_mail, 0);
    assert!(world.todo.contains(&Action::Close(conversation)));
    assert_eq!(world.dispatcher.held(BULK), 0);
}

#[test]
fn the_same_stay_of_a_part_is_held_once() {
    let mut world = World::simple();
    let first = world.entry(Class::Bulk, "acme", "google");
    let mut second = world.entry(Class::Bulk, "acme", "google");
    second.id = first.id;
    world.arrive(first);
    let second = world.arrive(second);
    assert!(world.mails[&second].handed_back);
}

#[test]
fn a_process_that_inherits_all_shards_divides_its_room() {
    let config = DispatcherConfig { index_capacity: 1_000, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    assert_eq!(world.dispatcher.room(BULK), 500);
    for index in 1..4 {
        world.fact(Fact::ShardTaken(ShardId { class: Class::Bulk, index }));
    }
    assert_eq!(world.dispatcher.room(BULK), 200);
    for index in 4..40 {
        world.fact(Fact::ShardTaken(ShardId { class: Class::Bulk, index }));
    }
    assert_eq!(world.dispatcher.room(BULK), 100);
    world.forget_shard(ShardId { class: Class::Bulk, index: 7 });
    assert_eq!(world.dispatcher.room(BULK), 100);
}

#[test]
fn a_process_that_inherits_all_shards_stays_within_its_bounds() {
    const EACH: usize = 125;
    const BUDGET: u64 = 50_000;
    let config = DispatcherConfig { index_capacity: 80 * EACH, body_bytes: BUDGET, ..DispatcherConfig::default() };
    let mut world = World::new(config, Shaping::default());
    let shards: Vec<ShardId> = [(Class::Bulk, 64), (Class::Transactional, 16)]
        .into_iter()
        .flat_map(|(class, count)| (0..count).map(move |index| ShardId { class, index }))
        .collect();
    for &shard in &shards {
        world.fact(Fact::ShardTaken(shard));
    }
    assert_eq!(world.dispatcher.capacity(), shards.len() * EACH);
    // More waits in every shard than fits; each is pulled from as long as there is room. Nothing is carried out meanwhile.
    for number in 0..EACH + 10 {
        for &shard in &shards {
            if world.dispatcher.room(shard) > 0 {
                let (tenant, site) = (format!("tenant{}", number % 7), format!("s{}x{}", number % 11, shard.index));
                let entry = world.entry(shard.class, &tenant, &site);
                world.arrive(Entry { shard, ..entry });
            }
            assert!(world.dispatcher.all_held() <= world.dispatcher.capacity());
            assert!(world.dispatcher.body_bytes() <= BUDGET, "{} bytes", world.dispatcher.body_bytes());
        }
    }
    assert_eq!(world.dispatcher.all_held(), shards.len() * EACH, "every shard has filled up");
    let held: usize = world.mails.values().filter(|mail| mail.body_held).count();
    assert!(held > 30, "{held} of the bodies were kept");
    world.perform_all();
    assert!(world.mails.values().all(|mail| mail.plan.is_some()));
    assert_eq!((world.dispatcher.all_held(), world.dispatcher.body_bytes()), (0, 0));
}
