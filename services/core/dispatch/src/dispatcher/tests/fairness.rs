//! 200 tenants, one of them with 95 % of what waits: how long the others wait for their first attempt, beside the same without
//! that one. Time is virtual, and everything takes as long as it takes with a quick exchanger.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use postrider_model::{Class, Timestamp};

use super::world::{World, reply};
use crate::dispatcher::{Action, AttemptResult, Conversation, DispatcherConfig, Entry, Exchange, Fact, Ticket};
use crate::limits::{PathLimits, Rate, Shaping};

const CONNECTING: Duration = Duration::from_millis(150);
const SENDING: Duration = Duration::from_millis(50);
const CLOSING: Duration = Duration::from_millis(25);

const OTHERS: usize = 199;

/// What was begun and will end.
enum Later {
    Greeted(Conversation),
    Sent(Conversation, Ticket),
    Closed(Conversation),
    Arrives(Box<Entry>),
}

/// A world in which things take their time.
struct Slow {
    world: World,
    later: BTreeMap<(Timestamp, usize), Later>,
    number: usize,
    first: HashMap<Ticket, Timestamp>,
}

impl Slow {
    fn new(config: DispatcherConfig, connections: u32, rate: Option<&str>) -> Self {
        let message_rate = rate.map(|rate| rate.parse().unwrap());
        let default = PathLimits { connections, message_rate, ..PathLimits::default() };
        let world = World::new(config, Shaping { default, ..Shaping::default() });
        Self { world, later: BTreeMap::new(), number: 0, first: HashMap::new() }
    }

    fn after(&mut self, time: Duration, what: Later) {
        self.number += 1;
        self.later.insert((self.world.now.after(time), self.number), what);
    }

    /// An envelope that arrives after so long.
    fn mail(&mut self, tenant: &str, site: &str, exchange: &str, after: Duration) -> Ticket {
        let entry = Entry { exchange: Exchange::new(exchange), ..self.world.entry(Class::Bulk, tenant, site) };
        let ticket = entry.ticket;
        self.after(after, Later::Arrives(Box::new(entry)));
        ticket
    }

    fn begin_all(&mut self) {
        while !self.world.todo.is_empty() {
            for action in std::mem::take(&mut self.world.todo) {
                match action {
                    Action::Open { conversation, .. } => self.after(CONNECTING, Later::Greeted(conversation)),
                    Action::Close(conversation) => self.after(CLOSING, Later::Closed(conversation)),
                    Action::Transmit { conversation, ticket, .. } => {
                        self.first.entry(ticket).or_insert(self.world.now.after(SENDING));
                        self.after(SENDING, Later::Sent(conversation, ticket));
                    }
                    other => self.world.perform(other),
                }
            }
        }
    }

    fn end(&mut self, what: Later) {
        match what {
            Later::Greeted(conversation) => self.world.greet(conversation),
            Later::Closed(conversation) => self.world.end(conversation, None),
            Later::Arrives(entry) => {
                self.world.arrive(*entry);
            }
            Later::Sent(conversation, ticket) => {
                self.world.attempted(conversation, ticket, |_| AttemptResult::Delivered(reply(250)));
                self.world.fact(Fact::Ready(conversation));
            }
        }
    }

    /// How long it takes until the first attempt of each of these is over, in milliseconds, sorted.
    fn waits(mut self, tickets: &[Ticket]) -> Vec<u64> {
        self.run(tickets)
    }

    fn run(&mut self, tickets: &[Ticket]) -> Vec<u64> {
        let arrivals: HashMap<Ticket, Timestamp> = self
            .later
            .iter()
            .filter_map(|((time, _), what)| match what {
                Later::Arrives(entry) => Some((entry.ticket, *time)),
                _ => None,
            })
            .collect();
        let mut left: std::collections::BTreeSet<Ticket> = tickets.iter().copied().collect();
        while !left.is_empty() {
            self.begin_all();
            let next = self.later.first_key_value().map(|((time, _), _)| *time);
            let wake = self.world.dispatcher.wake_at();
            let now = next.into_iter().chain(wake).min().expect("nothing will ever happen again");
            self.world.now = self.world.now.max(now);
            if wake == Some(now) {
                self.world.fact(Fact::Tick);
                self.begin_all();
            }
            while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.world.now) {
                let what = entry.remove();
                self.end(what);
            }
            left.retain(|ticket| !self.first.contains_key(ticket));
        }
        let wait = |ticket: &Ticket| self.first[ticket].since(arrivals[ticket]).as_millis();
        let mut waits: Vec<u64> = tickets.iter().map(|ticket| u64::try_from(wait(ticket)).unwrap()).collect();
        waits.sort_unstable();
        waits
    }
}

/// Nothing is moved to tiers: what is looked at is who goes first.
fn roomy() -> DispatcherConfig {
    DispatcherConfig {
        index_wait: Duration::from_secs(86_400),
        index_capacity: 1_000_000,
        shard_capacity: 500_000,
        tenant_site_capacity: 500_000,
        ..DispatcherConfig::default()
    }
}

fn other(number: usize) -> String {
    format!("tenant-{}", number % OTHERS)
}

#[track_caller]
fn check(what: &str, with: &[u64], without: &[u64]) {
    let at = |waits: &[u64], share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
    for share in [50, 99, 100] {
        let (with, without) = (at(with, share), at(without, share));
        println!("{what}: {share} % of the others are tried within {with} ms; alone: {without} ms");
    }
    for share in [50, 99] {
        let (with, without) = (at(with, share), at(without, share));
        assert!(with <= 2 * without, "{what}: {share} % within {with} ms; alone: {without} ms");
    }
}

const SOON: Duration = Duration::from_secs(5);

/// All to one exchange: the backlog, and later `many` of each other, a pause between one and the next.
fn at_one_site(backlog: usize, connections: u32, many: usize, pause: Duration) -> Vec<u64> {
    at_limited_site(backlog, connections, None, many, pause)
}

fn at_limited_site(backlog: usize, connections: u32, rate: Option<&str>, many: usize, pause: Duration) -> Vec<u64> {
    let mut slow = Slow::new(roomy(), connections, rate);
    for _ in 0..backlog {
        slow.mail("large", "google", "google", Duration::ZERO);
    }
    let mail =
        |number: usize| slow.mail(&other(number), "google", "google", SOON + pause * u32::try_from(number).unwrap());
    let others: Vec<Ticket> = (0..many * OTHERS).map(mail).collect();
    let (begun, waits) = (slow.world.now, slow.run(&others));
    if let Some(rate) = rate.map(|rate| rate.parse::<Rate>().unwrap()) {
        let millis = slow.world.now.since(begun).as_millis();
        let most = u128::from(rate.count()) * millis / rate.window().as_millis();
        let sent = slow.first.len();
        println!("{rate}: {sent} were sent of {most} at an even pace");
        assert!(sent as u128 * 10 >= most * 9, "{sent} of {most} that {rate} allows");
    }
    waits
}

#[test]
fn a_burst_of_each_tenant_is_tried_as_soon_as_without_the_large_one() {
    for connections in [3, 20] {
        let of = |backlog| at_one_site(backlog, connections, 5, Duration::ZERO);
        check(&format!("{connections} connections, burst"), &of(19_000), &of(0));
    }
}

#[test]
fn a_message_now_and_then_is_tried_as_soon_as_without_the_large_one() {
    for connections in [3, 20] {
        let of = |backlog| at_one_site(backlog, connections, 2, Duration::from_millis(150));
        check(&format!("{connections} connections, now and then"), &of(19_000), &of(0));
    }
}

/// The large tenant has mail for many sites, more than there may be connections; each other for one of its own.
fn at_many_sites(backlog: usize, conversations: usize) -> Vec<u64> {
    let mut slow = Slow::new(DispatcherConfig { conversations, ..roomy() }, 10, None);
    for number in 0..backlog {
        let site = format!("site{}.example", number % 500);
        slow.mail("large", &site, &site, Duration::ZERO);
    }
    let others: Vec<Ticket> = (0..OTHERS)
        .map(|number| {
            let site = format!("other{number}.example");
            slow.mail(&other(number), &site, &site, SOON + Duration::from_millis(210) * u32::try_from(number).unwrap())
        })
        .collect();
    slow.waits(&others)
}

#[test]
fn a_tenant_with_mail_for_many_sites_leaves_connections_to_the_others() {
    let of = |backlog| at_many_sites(backlog, 100);
    check("many sites", &of(19_000), &of(0));
}

/// One site with several exchanges; the large tenant has mail for all but one.
fn at_many_exchanges(backlog: usize, connections: u32) -> Vec<u64> {
    let mut slow = Slow::new(roomy(), connections, None);
    for number in 0..backlog {
        slow.mail("large", "google", &format!("exchange{}", number % 40), Duration::ZERO);
    }
    let others: Vec<Ticket> = (0..OTHERS)
        .map(|number| {
            slow.mail(
                &other(number),
                "google",
                "theirs",
                SOON + Duration::from_secs(1) * u32::try_from(number).unwrap(),
            )
        })
        .collect();
    slow.waits(&others)
}

#[test]
fn a_tenant_with_mail_for_many_exchanges_of_a_site_leaves_connections_to_the_others() {
    for connections in [3, 20] {
        let of = |backlog| at_many_exchanges(backlog, connections);
        check(&format!("{connections} connections, many exchanges"), &of(19_000), &of(0));
    }
}

#[test]
fn a_backlog_leaves_something_of_a_rate_for_who_comes_later() {
    for (rate, even_pace) in [("1200/m", 50), ("7200/h", 500)] {
        let waits = at_limited_site(12_000, 10, Some(rate), 1, Duration::from_millis(40 * even_pace));
        let (half, nearly_all) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
        println!("{rate}: 50 % within {half} ms, 99 % within {nearly_all} ms");
        assert!(nearly_all <= 50 + 40 * even_pace, "{rate}: 99 % within {nearly_all} ms");
    }
}
