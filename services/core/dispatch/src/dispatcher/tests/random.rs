//! The dispatcher and the limit owner in a world where anything happens in any order. The judge of [`World`] looks at every
//! action; here the rest is judged: nothing is lost, everything that waits has a reason and a time, and once the world comes
//! to its senses everything comes to an end.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_model::{Class, ShardId, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{BULK, URGENT, World, failure, reply};
use crate::dispatcher::conversation::{Talk, TalkStage};
use crate::dispatcher::lane::LaneId;
use crate::dispatcher::{Action, AttemptResult, Conversation, DispatcherConfig, Fact, FailureScope, Ticket};
use crate::limits::{PathLimits, Shaping};
use crate::rules::Order;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Arrival {
        urgent: bool,
        tenant: u8,
        site: u8,
        source: u8,
        recipients: u8,
        held: bool,
        late: bool,
        hop: u8,
        life: u16,
    },
    /// Somebody performs one of the actions that are to be done, well or badly.
    Deed {
        which: u16,
        how: u8,
    },
    /// The same for many of them.
    Deeds {
        how: u8,
    },
    Time {
        millis: u32,
    },
    /// An idle connection goes.
    Cut {
        which: u8,
    },
    Shard {
        urgent: bool,
        what: u8,
    },
    /// An operator orders something about one that is known.
    Order {
        which: u8,
        what: u8,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let arrival = (any::<bool>(), 0..4u8, 0..3u8, 0..2u8, any::<u8>(), any::<bool>(), 0..8u8, 0..2u8, any::<u16>());
    prop_oneof![
        8 => arrival.prop_map(|(urgent, tenant, site, source, recipients, held, late, hop, life)| Event::Arrival {
            urgent, tenant, site, source, recipients, held, late: late == 0, hop, life,
        }),
        12 => (any::<u16>(), any::<u8>()).prop_map(|(which, how)| Event::Deed { which, how }),
        4 => any::<u8>().prop_map(|how| Event::Deeds { how }),
        4 => prop_oneof![0..50u32, 0..3_000u32, 0..120_000u32].prop_map(|millis| Event::Time { millis }),
        1 => any::<u8>().prop_map(|which| Event::Cut { which }),
        1 => (any::<bool>(), 0..3u8).prop_map(|(urgent, what)| Event::Shard { urgent, what }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(which, what)| Event::Order { which, what }),
    ]
}

fn shaping() -> impl Strategy<Value = Shaping> {
    let limits =
        (1..6u32, 1..8u32, prop_oneof![Just(None), Just(Some("10/s")), Just(Some("40/m")), Just(Some("30/h"))])
            .prop_map(|(connections, messages_per_connection, rate)| PathLimits {
                connections,
                messages_per_connection,
                message_rate: rate.map(|rate| rate.parse().unwrap()),
            });
    (limits.clone(), limits).prop_map(|(default, other)| Shaping {
        default,
        sites: [("site1.example".parse().unwrap(), other)].into_iter().collect(),
    })
}

fn config() -> impl Strategy<Value = DispatcherConfig> {
    (3_000..60_000u64, 6..200usize, 4..40usize, 1..6usize).prop_map(
        |(body_bytes, shard_capacity, tenant_site_capacity, read_ahead)| DispatcherConfig {
            body_bytes,
            shard_capacity,
            tenant_site_capacity,
            read_ahead,
            conversations: 8,
            moves_at_once: 5,
            ..DispatcherConfig::default()
        },
    )
}

/// The world and its shards.
struct Trial {
    world: World,
    taken: [bool; 2],
}

fn number(shard: ShardId) -> usize {
    usize::from(shard.class == Class::Transactional)
}

impl Trial {
    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Arrival { urgent, tenant, site, source, recipients, held, late, hop, life } => {
                let class = if urgent { Class::Transactional } else { Class::Bulk };
                let world = &mut self.world;
                let site = format!("site{site}.example");
                let mut entry = world.entry(class, &format!("tenant{tenant}"), &site);
                entry.source = crate::dispatcher::Source::new(&format!("source{source}"));
                let recipients = if urgent { u32::from(recipients) % 30 + 1 } else { 1 };
                entry.pending = (0..recipients).collect();
                entry.body_held = held;
                entry.size_bytes = u64::from(life) % 4_000 + 1;
                entry.not_before = late.then(|| world.now.after(Duration::from_millis(u64::from(life) * 2)));
                entry.expiry = world.now.after(Duration::from_secs(u64::from(life)));
                entry.id.hop = u32::from(hop);
                world.arrive(entry);
            }
            Event::Deed { which, how } => {
                let count = self.world.todo.len();
                if count > 0 {
                    let action = self.world.todo.remove(usize::from(which) % count);
                    self.perform(action, how);
                }
            }
            Event::Deeds { how } => {
                for action in std::mem::take(&mut self.world.todo) {
                    self.perform(action, how);
                }
            }
            Event::Time { millis } => {
                self.world.turn_clock(Duration::from_millis(u64::from(millis)));
                self.world.fact(Fact::Tick);
            }
            Event::Cut { which } => {
                let greeted: Vec<Conversation> =
                    self.world.links.iter().filter(|(_, link)| link.greeted).map(|(id, _)| *id).collect();
                if let Some(&conversation) = greeted.get(usize::from(which) % greeted.len().max(1)) {
                    self.cut(conversation, which);
                }
            }
            Event::Order { which, what } => {
                let living: Vec<Ticket> =
                    self.world.mails.iter().filter(|(_, mail)| !mail.is_over()).map(|(ticket, _)| *ticket).collect();
                if let Some(&ticket) = living.get(usize::from(which) % living.len().max(1)) {
                    self.world.dispatcher.set_hold_is_full(what % 4 == 1);
                    let order = self.order(ticket, what);
                    self.world.fact(Fact::Ordered(vec![(ticket, order)]));
                }
            }
            Event::Shard { urgent, what } => {
                let shard = if urgent { URGENT } else { BULK };
                match (what, self.taken[number(shard)]) {
                    (0, _) => self.world.fact(Fact::ShardTaken(shard)),
                    (1, _) => self.world.fact(Fact::ShardReleasing(shard)),
                    _ => self.world.forget_shard(shard),
                }
                self.taken[number(shard)] = what == 0;
            }
        }
        self.judge();
    }

    fn order(&self, ticket: Ticket, what: u8) -> Order {
        let pending = &self.world.mails[&ticket].entry.pending;
        let some = pending.iter().copied().take(1 + usize::from(what) % pending.len()).collect();
        match what % 4 {
            0 | 1 => Order::Suspend { rule: "hold-1".parse().unwrap() },
            2 => Order::End { outcome: postrider_model::Outcome::Deleted, reply: reply(554), recipients: some },
            _ => Order::Flush { given: self.world.now },
        }
    }

    /// What a connection carried when it went was lost, or had not been begun.
    fn cut(&mut self, conversation: Conversation, how: u8) {
        let carries = self.world.links.get(&conversation).and_then(|link| link.carries);
        if let Some(ticket) = carries.filter(|_| how.is_multiple_of(2)) {
            let after_end_of_data = how.is_multiple_of(4);
            let lost = |_| AttemptResult::Lost { text: "reset".to_owned(), after_end_of_data };
            self.world.attempted(conversation, ticket, lost);
        }
        self.world.end(conversation, Some(failure(scope(how))));
    }

    fn perform(&mut self, action: Action, how: u8) {
        let world = &mut self.world;
        match action {
            Action::Open { conversation, ticket, .. } => match how % 8 {
                0 => world.end(conversation, Some(failure(scope(how / 8)))),
                1 => world.end(conversation, None),
                2 => {
                    world.fact(Fact::Unresolvable { ticket, permanent: how > 127, reply: reply(550) });
                    world.end(conversation, None);
                }
                _ => world.greet(conversation),
            },
            Action::Transmit { conversation, ticket, recipients } => {
                self.transmit(conversation, ticket, recipients, how)
            }
            Action::Close(conversation) => world.end(conversation, None),
            Action::Acquire { request, .. } | Action::Renew { request, .. } if how % 16 == 1 => {
                let until = world.now.after(Duration::from_secs(1));
                world.fact(Fact::Waiting { request, until, reason: postrider_model::WaitReason::LimitOwner });
            }
            Action::ReadBody(ticket) if how % 16 == 2 => {
                world.mails.get_mut(&ticket).unwrap().body_held = true;
                world.fact(Fact::BodyMissing { ticket });
            }
            action => world.perform(action),
        }
    }

    fn transmit(&mut self, conversation: Conversation, ticket: Ticket, recipients: u32, how: u8) {
        let world = &mut self.world;
        if world.links.get(&conversation).is_none_or(|link| link.carries != Some(ticket)) {
            return;
        }
        if how % 8 == 7 {
            return self.cut(conversation, how / 8);
        }
        let link = world.links.get_mut(&conversation).unwrap();
        link.carries = None;
        let mail = world.mails.get_mut(&ticket).unwrap();
        mail.in_flight = None;
        let result = |index: u32| match (u32::from(how) + index) % 5 {
            0 => AttemptResult::Refused(reply(451)),
            1 => AttemptResult::Refused(reply(550)),
            _ => AttemptResult::Delivered(reply(250)),
        };
        let tried = mail.entry.pending.iter().take(usize::try_from(recipients).unwrap());
        let results = tried.map(|&index| (index, result(index))).collect();
        world.fact(Fact::Attempted { ticket, conversation: Some(conversation), results });
        if how.is_multiple_of(8) {
            world.end(conversation, Some(failure(FailureScope::Exchange)));
        } else {
            world.fact(Fact::Ready(conversation));
        }
    }

    /// Nothing is lost, and everything that is held has a reason and a time.
    fn judge(&self) {
        let world = &self.world;
        world.judge_connections();
        for (ticket, mail) in &world.mails {
            let parts = world.dispatcher.waiting(&mail.entry.id.message, world.now);
            let over = mail.is_over() || world.lost.contains(ticket);
            assert!(over || parts.len() == 1, "{ticket:?} is lost");
            assert!(parts.iter().all(|part| part.until >= world.now));
        }
        let waits = world
            .mails
            .iter()
            .any(|(ticket, mail)| !mail.is_over() && mail.in_flight.is_none() && !world.lost.contains(ticket));
        assert!(!waits || world.dispatcher.wake_at().is_some());
        self.judge_idleness();
    }

    /// No conversation has nothing to do while something waits that it may carry, unless another asks for leave to send.
    fn judge_idleness(&self) {
        let dispatcher = &self.world.dispatcher;
        let asks = |talk: &&Talk| matches!(talk.stage, TalkStage::Idle { .. }) && !talk.is_free();
        let asking: BTreeSet<LaneId> = dispatcher.conversations.values().filter(asks).map(|talk| talk.lane).collect();
        for (_, lane) in dispatcher.lanes.all().filter(|(id, _)| !asking.contains(id)) {
            let urgent_waits = lane.queues[Class::Transactional].len() > 0;
            assert!(!urgent_waits || lane.idle[Class::Transactional].is_empty(), "transactional waits for nothing");
            let waits = urgent_waits || lane.queues[Class::Bulk].len() > 0;
            assert!(!waits || lane.idle[Class::Bulk].is_empty(), "a conversation is idle for nothing");
        }
    }

    /// From now on all goes well. Whatever waits comes to an end.
    fn come_to_an_end(&mut self) {
        let world = &mut self.world;
        let end = world.now.after(Duration::from_secs(65_536));
        for round in 0.. {
            assert!(round < 100_000, "it never comes to rest");
            world.perform_all();
            let next: Option<Timestamp> = world.dispatcher.wake_at().filter(|&wake| wake <= end);
            let Some(next) = next else { break };
            world.now = world.now.max(next);
            world.fact(Fact::Tick);
        }
        for (ticket, mail) in &world.mails {
            assert!(mail.is_over() || world.lost.contains(ticket), "{ticket:?} never ends");
        }
        assert_eq!(world.dispatcher.held(BULK) + world.dispatcher.held(URGENT), 0);
        assert!(world.links.is_empty() && world.dispatcher.conversations.is_empty(), "conversations are left");
        assert_eq!(
            world.dispatcher.lanes.all().filter(|(_, lane)| lane.closed_until.is_none()).count(),
            0,
            "lanes are left"
        );
        assert!(world.dispatcher.bodies.is_empty(), "{:?}", world.dispatcher.bodies);
        assert!(world.dispatcher.conversations.is_empty());
        assert!(world.dispatcher.closing == 0 && world.dispatcher.shares.is_empty());
        assert_eq!((world.dispatcher.moves.under_way(), world.dispatcher.asked_connections), (0, 0));
    }
}

fn scope(how: u8) -> FailureScope {
    match how % 3 {
        0 => FailureScope::Exchange,
        1 => FailureScope::Source,
        _ => FailureScope::Ourselves,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_and_no_limit_is_exceeded(
        config in config(),
        shaping in shaping(),
        events in vec(event(), 1..250),
    ) {
        let mut trial = Trial { world: World::new(config, shaping), taken: [true, true] };
        for event in &events {
            trial.happen(event);
        }
        trial.come_to_an_end();
    }
}
