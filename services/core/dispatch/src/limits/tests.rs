//! The limit owner against a model that remembers everything: several askers, permits renewed, released, forgotten or used up
//! late, at random times.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::{Class, Timestamp, WaitReason};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Ask, Grant, LimitOwner, Path, PathLimits, Permit, PermitId, Rate, Shaping, Source};

const BEGIN: Timestamp = Timestamp::from_millis(1_000_000_000_000);

fn path() -> Path {
    Path { source: Source::new("192.0.2.1"), site: "google".parse().unwrap() }
}

fn ask(class: Class, messages: u32) -> Ask {
    Ask { path: path(), class, least: 1, messages, connections: 0 }
}

fn limits(connections: u32, rate: Option<&str>) -> Shaping {
    let message_rate = rate.map(|rate| rate.parse().unwrap());
    Shaping { default: PathLimits { connections, messages_per_connection: 100, message_rate }, ..Shaping::default() }
}

fn owner(shaping: Shaping) -> LimitOwner {
    LimitOwner::new(shaping, 1, BEGIN.before(Duration::from_secs(100_000)))
}

fn fence(now: Timestamp) -> Timestamp {
    now.after(Duration::from_secs(15))
}

#[track_caller]
fn granted(grant: Grant) -> Permit {
    match grant {
        Grant::Granted(permit) => permit,
        Grant::Wait { until, reason } => panic!("wait until {until}: {reason}"),
    }
}

#[track_caller]
fn wait(grant: Grant) -> (Timestamp, WaitReason) {
    match grant {
        Grant::Granted(permit) => panic!("{permit:?}"),
        Grant::Wait { until, reason } => (until, reason),
    }
}

#[test]
fn bulk_leaves_a_fifth_of_the_connections_to_transactional_mail() {
    let mut owner = owner(limits(10, None));
    for _ in 0..8 {
        granted(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
    }
    let (_, reason) = wait(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
    assert_eq!(reason, WaitReason::ConnectionLimit);
    for _ in 0..2 {
        let permit = granted(owner.acquire(&ask(Class::Transactional, 1), BEGIN, fence(BEGIN)));
        assert_eq!(permit.class, Class::Transactional);
    }
    wait(owner.acquire(&ask(Class::Transactional, 1), BEGIN, fence(BEGIN)));
}

#[test]
fn a_single_connection_serves_both_classes() {
    let mut owner = owner(limits(1, None));
    let permit = granted(owner.acquire(&ask(Class::Transactional, 1), BEGIN, fence(BEGIN)));
    assert_eq!(permit.class, Class::Bulk);
}

#[test]
fn a_permit_that_is_neither_renewed_nor_released_ends_by_itself() {
    let mut owner = owner(limits(1, None));
    let permit = granted(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
    let before = permit.until.before(Duration::from_millis(1));
    wait(owner.acquire(&ask(Class::Bulk, 1), before, fence(before)));
    granted(owner.acquire(&ask(Class::Bulk, 1), permit.until, fence(permit.until)));
}

#[test]
fn no_permit_outlives_the_fence() {
    let mut owner = owner(limits(10, None));
    let fence = BEGIN.after(Duration::from_secs(3));
    assert_eq!(granted(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence)).until, fence);
    let (_, reason) = wait(owner.acquire(&ask(Class::Bulk, 1), fence, fence));
    assert_eq!(reason, WaitReason::LimitOwner);
}

#[test]
fn a_permit_of_an_owner_before_is_acquired_anew() {
    let mut owner = owner(limits(1, None));
    let unknown = PermitId { epoch: 0, number: 7 };
    let permit = granted(owner.renew(unknown, 5, &ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
    assert_ne!(permit.id, unknown);
    assert_eq!(owner.connections(&path()), 1);
}

#[test]
fn who_holds_fewer_connections_is_served_first() {
    let mut owner = owner(limits(2, None));
    let rich = |connections| Ask { connections, ..ask(Class::Bulk, 1) };
    let permit = granted(owner.acquire(&rich(0), BEGIN, fence(BEGIN)));
    // Somebody else, who holds none, has to wait; then the connection comes free, and the first is quicker to ask.
    wait(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
    owner.release(permit.id, 0, BEGIN);
    wait(owner.acquire(&rich(5), BEGIN, fence(BEGIN)));
    granted(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
}

#[test]
fn a_large_part_is_not_starved_by_small_ones() {
    let mut owner = owner(limits(10, Some("40/m")));
    let small = granted(owner.acquire(&ask(Class::Bulk, 40), BEGIN, fence(BEGIN)));
    let large = granted(owner.acquire(&ask(Class::Bulk, 40), BEGIN, fence(BEGIN)));
    let (mut now, mut used, mut waits) = (BEGIN, 0, None);
    for _ in 0..1_500 {
        now = now.after(Duration::from_millis(100));
        if waits.is_none_or(|until| until <= now) {
            let wanted = Ask { least: 30, ..ask(Class::Bulk, 30) };
            match owner.renew(large.id, 0, &wanted, now, fence(now)) {
                Grant::Granted(permit) if permit.messages == 30 => return,
                Grant::Granted(permit) => panic!("{permit:?}"),
                Grant::Wait { until, .. } => waits = Some(until),
            }
        }
        if let Grant::Granted(permit) = owner.renew(small.id, used, &ask(Class::Bulk, 5), now, fence(now)) {
            used += permit.messages;
        }
    }
    panic!("the large one never had its turn");
}

#[test]
fn when_to_come_back_is_when_there_is_something() {
    let mut owner = owner(limits(10, Some("10/m")));
    let permit = granted(owner.acquire(&ask(Class::Bulk, 1), BEGIN, fence(BEGIN)));
    let (mut used, mut now) = (0, BEGIN);
    for _ in 0..100 {
        match owner.renew(permit.id, used, &ask(Class::Bulk, 1), now, fence(now)) {
            Grant::Granted(permit) => used += permit.messages,
            Grant::Wait { until, .. } => {
                assert!(until > now);
                now = until;
                let id = owner.renew(permit.id, used, &ask(Class::Bulk, 1), now, fence(now));
                used += granted(id).messages;
                if id_changed(id, permit.id) {
                    return;
                }
            }
        }
    }
    assert!(used > 0);
}

fn id_changed(grant: Grant, id: PermitId) -> bool {
    matches!(grant, Grant::Granted(permit) if permit.id != id)
}

#[test]
fn idle_paths_are_forgotten() {
    let mut owner = owner(limits(10, Some("10/s")));
    for number in 0..1_000 {
        let now = BEGIN.after(Duration::from_secs(number));
        let path = Path { site: format!("site{number}.example").parse().unwrap(), ..path() };
        let permit = granted(owner.acquire(&Ask { path, ..ask(Class::Bulk, 1) }, now, fence(now)));
        owner.release(permit.id, 0, now);
    }
    assert!(owner.paths() < 20, "{}", owner.paths());
}

/// One thing an asker does.
#[derive(Clone, Debug)]
enum Event {
    Acquire {
        urgent: bool,
        least: u32,
        messages: u32,
    },
    /// The how-manieth permit sends up to so many recipients.
    Send {
        which: usize,
        recipients: u32,
    },
    Renew {
        which: usize,
        least: u32,
        messages: u32,
    },
    Release {
        which: usize,
    },
    /// An asker dies.
    Forget {
        which: usize,
    },
    Time {
        millis: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (any::<bool>(), 1..30u32, 0..60u32)
            .prop_map(|(urgent, least, messages)| Event::Acquire { urgent, least, messages }),
        6 => (0..12usize, 1..40u32).prop_map(|(which, recipients)| Event::Send { which, recipients }),
        5 => (0..12usize, 1..30u32, 0..60u32)
            .prop_map(|(which, least, messages)| Event::Renew { which, least, messages }),
        1 => (0..12usize).prop_map(|which| Event::Release { which }),
        1 => (0..12usize).prop_map(|which| Event::Forget { which }),
        4 => prop_oneof![1..10u64, 1..500u64, 1..30_000u64].prop_map(|millis| Event::Time { millis }),
    ]
}

/// A permit as an honest asker keeps it.
struct Kept {
    permit: Permit,
    left: u32,
    used: u32,
    forgotten: bool,
}

struct Model {
    owner: LimitOwner,
    connections: u32,
    rate: Option<Rate>,
    now: Timestamp,
    kept: BTreeMap<PermitId, Kept>,
    sent: Vec<(Timestamp, u32)>,
}

impl Model {
    fn keep(&mut self, before: Option<PermitId>, grant: Grant) {
        let before = before.and_then(|id| self.kept.remove(&id));
        match grant {
            Grant::Granted(permit) => {
                let same = before.filter(|kept| kept.permit.id == permit.id);
                let used = same.map_or(0, |kept| kept.used);
                assert!(permit.until <= self.now.after(Duration::from_secs(10)) && permit.until > self.now);
                assert!(permit.messages_until <= permit.until);
                self.kept.insert(permit.id, Kept { permit, left: permit.messages, used, forgotten: false });
            }
            Grant::Wait { until, .. } => {
                assert!(until > self.now, "asking again makes sense later only");
                if let Some(mut kept) = before {
                    kept.left = if self.rate.is_some() { 0 } else { kept.left };
                    self.kept.insert(kept.permit.id, kept);
                }
            }
        }
    }

    fn nth(&self, which: usize) -> Option<PermitId> {
        let mine: Vec<PermitId> = self.kept.iter().filter(|(_, kept)| !kept.forgotten).map(|(id, _)| *id).collect();
        mine.get(which % mine.len().max(1)).copied()
    }

    fn happen(&mut self, event: &Event) {
        let now = self.now;
        match *event {
            Event::Acquire { urgent, least, messages } => {
                let class = if urgent { Class::Transactional } else { Class::Bulk };
                let grant = self.owner.acquire(&Ask { least, ..ask(class, messages) }, now, fence(now));
                self.keep(None, grant);
            }
            Event::Send { which, recipients } => {
                let Some(kept) = self.nth(which).and_then(|id| self.kept.get_mut(&id)) else { return };
                if now < kept.permit.messages_until && now < kept.permit.until && kept.left > 0 {
                    let count = recipients.min(kept.left);
                    kept.used += count;
                    kept.left = if kept.left == Permit::UNLIMITED { kept.left } else { kept.left - count };
                    self.sent.push((now, count));
                }
            }
            Event::Renew { which, least, messages } => {
                let Some(id) = self.nth(which) else { return };
                let used = self.kept[&id].used;
                let grant = self.owner.renew(id, used, &Ask { least, ..ask(Class::Bulk, messages) }, now, fence(now));
                self.keep(Some(id), grant);
            }
            Event::Release { which } => {
                let Some(id) = self.nth(which) else { return };
                if let Some(kept) = self.kept.remove(&id) {
                    self.owner.release(id, kept.used, now);
                }
            }
            Event::Forget { which } => {
                if let Some(kept) = self.nth(which).and_then(|id| self.kept.get_mut(&id)) {
                    kept.forgotten = true;
                }
            }
            Event::Time { millis } => self.now = now.after(Duration::from_millis(millis)),
        }
        self.judge();
    }

    fn judge(&mut self) {
        let live = self.kept.values().filter(|kept| kept.permit.until > self.now).count();
        assert!(u32::try_from(live).unwrap() <= self.connections, "{live} connections");
        if let Some(rate) = self.rate {
            let now = self.now;
            self.sent.retain(|(time, _)| time.after(rate.window()) > now);
            let count: u32 = self.sent.iter().map(|(_, count)| count).sum();
            assert!(count <= rate.count(), "{count} in a window of {rate}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_limit_is_ever_exceeded(
        connections in 1..6u32,
        rate in prop_oneof![Just(None), Just(Some("10/s")), Just(Some("50/m")), Just(Some("90/h"))],
        events in vec(event(), 1..300),
    ) {
        let shaping = limits(connections, rate);
        let rate = shaping.default.message_rate;
        let owner = owner(shaping);
        let mut model =
            Model { owner, connections, rate, now: BEGIN, kept: BTreeMap::new(), sent: Vec::new() };
        for event in &events {
            model.happen(event);
        }
    }
}
