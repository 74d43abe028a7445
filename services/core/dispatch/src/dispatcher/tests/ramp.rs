//! A day's outage of the largest site, in virtual time: mail comes in all day, the site takes none of it, and then it is back.
//! All of it has left within an hour and what its permitted rate takes for it, never above that rate, and another site
//! notices nothing. And a burst that a site in order takes minutes for leaves at the permitted rate. In which order it leaves is printed: about none. Dispatcher, limit owner, jams, credit and the promoter's decisions are the
//! real ones; tiers and READY are queues.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use postrider_model::{Class, Move, SiteName, TenantId, Tier, TierDelays, Timestamp};

use super::world::{BULK, World, failure, reply};
use crate::dispatcher::{Action, AttemptResult, Conversation, DispatcherConfig, Entry, Fact, FailureScope, Ticket};
use crate::limits::{PathLimits, Shaping};
use crate::promote::{DueMail, Placement, Stride, Walked};
use crate::shard_state::{Jams, LONGEST_WAIT};

const CONNECTING: Duration = Duration::from_millis(150);
const SENDING: Duration = Duration::from_millis(50);
const CLOSING: Duration = Duration::from_millis(25);

/// Between two looks of promoters, of an owner at its tiers, and at what it has told.
const LOOK: Duration = Duration::from_secs(2);

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What the large site takes in an hour.
const RATE: u64 = 6_000;

/// Its mail of a day.
const MAILS: u64 = 9_000;

/// How the large site is out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// It takes no connection.
    Refuses,
    /// It answers each message with this.
    PutsOff(u16),
    /// It is in order, and there is more mail than it takes.
    None,
}

enum Later {
    Greeted(Conversation),
    Failed(Conversation),
    Sent(Conversation, Ticket),
    Closed(Conversation),
    Accepted(Box<Entry>),
}

struct Delivered {
    at: Timestamp,
    arrival: Timestamp,
    tenant: String,
}

/// The tiers, and how much lies there.
#[derive(Default)]
struct Tiers {
    queues: [VecDeque<(Timestamp, Entry)>; 5],
    depths: BTreeMap<(SiteName, TenantId), [u64; 5]>,
}

impl Tiers {
    fn push(&mut self, tier: Tier, stored: Timestamp, entry: Entry) {
        self.depths.entry((entry.site.clone(), entry.tenant.clone())).or_default()[tier.index()] += 1;
        self.queues[tier.index()].push_back((stored, entry));
    }

    /// The head and when it was stored, if that was by then.
    fn pop(&mut self, tier: Tier, by: Timestamp) -> Option<(Timestamp, Entry)> {
        let (stored, entry) = self.queues[tier.index()].pop_front_if(|(stored, _)| *stored <= by)?;
        self.depths.get_mut(&(entry.site.clone(), entry.tenant.clone())).unwrap()[tier.index()] -= 1;
        Some((stored, entry))
    }

    fn of(&self, site: &SiteName) -> Vec<(TenantId, [u64; 5])> {
        let of_site = self.depths.iter().filter(|((of, _), _)| of == site);
        of_site.map(|((_, tenant), depths)| (tenant.clone(), *depths)).collect()
    }
}

struct Ramp {
    world: World,
    outage: Outage,
    back_at: Timestamp,
    later: BTreeMap<(Timestamp, u64), Later>,
    number: u64,
    ready: VecDeque<Entry>,
    tiers: Tiers,
    strides: [Stride; 5],
    delays: TierDelays,
    jams: Jams,
    looked: Timestamp,
    delivered: Vec<Delivered>,
    others: Vec<u64>,
    attempts: u64,
    next_ticket: u64,
}

impl Ramp {
    fn new(outage: Outage, rate: &str) -> Self {
        let limits = PathLimits { connections: 50, message_rate: Some(rate.parse().unwrap()), ..PathLimits::default() };
        let world = World::new(DispatcherConfig::default(), Shaping { default: limits, ..Shaping::default() });
        Self {
            back_at: world.now.after(DAY),
            looked: world.now,
            world,
            outage,
            later: BTreeMap::new(),
            number: 0,
            ready: VecDeque::new(),
            tiers: Tiers::default(),
            strides: [Stride::default(); 5],
            delays: TierDelays::default(),
            jams: Jams::default(),
            delivered: Vec::new(),
            others: Vec::new(),
            attempts: 0,
            next_ticket: 1_000_000,
        }
    }

    fn after(&mut self, time: Duration, what: Later) {
        self.number += 1;
        self.later.insert((self.world.now.after(time), self.number), what);
    }

    fn mail(&mut self, tenant: &str, site: &str, after: Duration) {
        let arrival = self.world.now.after(after);
        let entry = self.world.entry(Class::Bulk, tenant, site);
        let entry = Entry { arrival, expiry: arrival.after(4 * DAY), ..entry };
        self.after(after, Later::Accepted(Box::new(entry)));
    }

    fn is_down(&self, conversation: Conversation) -> bool {
        let of_large = self.world.links.get(&conversation).is_some_and(|link| link.path.site.as_str() == "google");
        of_large && self.world.now < self.back_at
    }

    fn perform(&mut self) {
        while !self.world.todo.is_empty() {
            for action in std::mem::take(&mut self.world.todo) {
                match action {
                    Action::Open { conversation, .. } => {
                        let fails = self.outage == Outage::Refuses && self.is_down(conversation);
                        let what = if fails { Later::Failed } else { Later::Greeted };
                        self.after(CONNECTING, what(conversation));
                    }
                    Action::Close(conversation) => self.after(CLOSING, Later::Closed(conversation)),
                    Action::Transmit { conversation, ticket, .. } => {
                        self.after(SENDING, Later::Sent(conversation, ticket))
                    }
                    Action::Settle { ticket, plan } => {
                        let next = plan.next.clone();
                        self.settle(ticket, &next);
                        self.world.perform(Action::Settle { ticket, plan });
                    }
                    Action::HandBack(ticket) => {
                        let entry = self.world.mails.remove(&ticket).unwrap().entry;
                        self.next_ticket += 1;
                        self.ready.push_back(Entry { ticket: Ticket(self.next_ticket), ..entry });
                    }
                    other => self.world.perform(other),
                }
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, next: &Move) {
        let entry = &self.world.mails[&ticket].entry;
        let Move::Tier { tier, attempt, .. } = next else {
            assert_eq!(*next, Move::Finished);
            return;
        };
        self.next_ticket += 1;
        let mut entry = Entry { ticket: Ticket(self.next_ticket), attempt: *attempt, ..entry.clone() };
        entry.id.hop += 1;
        self.tiers.push(*tier, self.world.now, entry);
    }

    fn end(&mut self, what: Later) {
        match what {
            Later::Greeted(conversation) => self.world.greet(conversation),
            Later::Closed(conversation) => self.world.end(conversation, None),
            Later::Failed(conversation) => self.world.end(conversation, Some(failure(FailureScope::Exchange))),
            Later::Accepted(entry) => self.accepted(*entry),
            Later::Sent(conversation, ticket) => {
                let result = match self.outage {
                    Outage::PutsOff(code) if self.is_down(conversation) => AttemptResult::Refused(reply(code)),
                    _ => AttemptResult::Delivered(reply(250)),
                };
                if matches!(result, AttemptResult::Delivered(_)) {
                    self.delivered(ticket);
                }
                self.attempts += 1;
                self.world.attempted(conversation, ticket, |_| result.clone());
                self.world.fact(Fact::Ready(conversation));
            }
        }
    }

    fn delivered(&mut self, ticket: Ticket) {
        let entry = &self.world.mails[&ticket].entry;
        if entry.site.as_str() == "google" {
            let (arrival, tenant) = (entry.arrival, entry.tenant.to_string());
            self.delivered.push(Delivered { at: self.world.now, arrival, tenant });
        } else {
            let wait = self.world.now.since(entry.arrival).as_millis();
            self.others.push(u64::try_from(wait).unwrap());
        }
    }

    /// As ingress does.
    fn accepted(&mut self, entry: Entry) {
        let (now, age) = (self.world.now, self.world.now.since(self.looked));
        let jam = self.jams.of(&entry.site, &entry.tenant).filter(|jam| !jam.probing);
        match jam.and_then(|jam| jam.tier(age, LONGEST_WAIT, now, entry.expiry, &self.delays)) {
            Some(tier) => self.tiers.push(tier, now, entry),
            None => self.ready.push_back(entry),
        }
    }

    fn promote(&mut self, tier: Tier) {
        let (now, delay) = (self.world.now, self.delays.of(tier));
        let mut spent = Duration::ZERO;
        while spent < LOOK {
            let mut due = DueMail::new(tier);
            let (mut count, mut again, mut late) = (0, 0, Duration::ZERO);
            let most = self.strides[tier.index()].most();
            while count < most
                && let Some((stored, entry)) = self.tiers.pop(tier, now.before(delay))
            {
                count += 1;
                late = late.max(now.since(stored.after(delay)));
                due.add(entry.site.clone(), entry.tenant.clone(), entry.arrival, entry.expiry, entry);
            }
            let placed = if self.jams.asks_for_credit() {
                let credits = self.world.dispatcher.credit(BULK, &due.question(), now);
                due.by_credit(&credits, now, &self.delays)
            } else {
                due.by_state(Some(&self.jams), now, &self.delays)
            };
            for (entry, placement) in placed {
                match placement {
                    Placement::Ready => self.ready.push_back(entry),
                    Placement::Tier(to) => {
                        again += u64::from(to == tier);
                        self.tiers.push(to, now, entry);
                    }
                }
            }
            let left = u64::try_from(self.tiers.queues[tier.index()].len()).unwrap() - again;
            spent += self.strides[tier.index()].pause(Walked { again, left, late, delay, promoters: 1 });
            if count < most {
                return;
            }
        }
    }

    fn look(&mut self) {
        let now = self.world.now;
        self.looked = now;
        for site in self.world.dispatcher.jammed_sites(BULK, now) {
            let depths = self.tiers.of(&site);
            self.world.fact(Fact::Deep { shard: BULK, site, depths });
        }
        self.jams = Jams::from(self.world.dispatcher.shard_state(BULK, now));
        Tier::ALL.into_iter().for_each(|tier| self.promote(tier));
    }

    fn pull(&mut self) {
        while self.world.dispatcher.room(BULK) > 0
            && let Some(entry) = self.ready.pop_front()
        {
            self.world.arrive(entry);
            self.perform();
        }
        let count = u64::try_from(self.ready.len()).unwrap();
        self.world.fact(Fact::Pending { shard: BULK, count });
    }

    fn run(&mut self, mails: usize, latest: Timestamp) {
        while self.world.now < latest && self.delivered.len() < mails {
            self.pull();
            self.perform();
            let next = self.later.first_key_value().map(|((time, _), _)| *time);
            let wake = self.world.dispatcher.wake_at();
            let now = next.into_iter().chain(wake).chain([self.looked.after(LOOK)]).min().unwrap();
            self.world.now = self.world.now.max(now);
            if wake == Some(now) {
                self.world.fact(Fact::Tick);
            }
            while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.world.now) {
                let what = entry.remove();
                self.end(what);
            }
            self.perform();
            if self.looked.after(LOOK) <= self.world.now {
                self.world.judge_connections();
                self.look();
                self.world.mails.retain(|_, mail| !mail.is_over());
            }
        }
    }
}

fn outage(outage: Outage) {
    let mut ramp = Ramp::new(outage, &format!("{RATE}/h"));
    let even = DAY / u32::try_from(MAILS).unwrap();
    for number in 0..u32::try_from(MAILS).unwrap() {
        let tenant = if number % 5 == 0 { format!("small-{}", number % 2) } else { "large".to_owned() };
        ramp.mail(&tenant, "google", even * number);
    }
    for number in 0..30 * 60 {
        ramp.mail("large", "example.net", Duration::from_secs(60) * number);
    }
    let takes = HOUR.mul_f64(MAILS as f64 / RATE as f64);
    ramp.run(usize::try_from(MAILS).unwrap(), ramp.back_at.after(takes + 6 * HOUR));
    let ended = ramp.delivered.last().map_or(Duration::ZERO, |last| last.at.since(ramp.back_at));
    let mut steps: BTreeMap<u64, u64> = BTreeMap::new();
    for it in &ramp.delivered {
        *steps.entry(it.at.since(ramp.back_at).as_secs() / 600).or_default() += 1;
    }
    println!(
        "{outage:?}: {} attempts; all {} delivered {ended:?} after the outage ({takes:?} at its rate)",
        ramp.attempts,
        ramp.delivered.len()
    );
    println!("in each ten minutes: {:?}", steps.values().collect::<Vec<_>>());
    let mut shift = (0.0, 0);
    for tenant in ["large", "small-0", "small-1"] {
        let back_at = ramp.back_at;
        let left = |it: &&Delivered| it.tenant == tenant && it.at > back_at;
        let order: Vec<Timestamp> = ramp.delivered.iter().filter(left).map(|it| it.arrival).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        for (place, arrival) in order.iter().enumerate() {
            let right = sorted.binary_search(arrival).unwrap();
            shift = (shift.0 + place.abs_diff(right) as f64 / order.len() as f64, shift.1 + 1);
        }
        let mean =
            |part: &[Timestamp]| part.iter().map(|it| it.as_secs()).sum::<u64>() / u64::try_from(part.len()).unwrap();
        let begin = back_at.before(DAY).as_secs();
        println!(
            "{tenant}: mean arrival by sixths {:?} min",
            order.chunks(order.len().div_ceil(6)).map(|c| (mean(c) - begin) / 60).collect::<Vec<_>>()
        );
    }
    println!("mean shift {:.3} (by chance 0.333)", shift.0 / f64::from(shift.1));
    ramp.others.sort_unstable();
    println!("the other site: {:?} of {}", ramp.others.last(), ramp.others.len());
    assert_eq!(ramp.delivered.len(), usize::try_from(MAILS).unwrap());
    assert!(ended <= HOUR + takes, "it took {ended:?}");
    assert!(ramp.others.last().is_some_and(|wait| *wait < 5_000));
}

#[test]
fn a_burst_leaves_at_the_permitted_rate() {
    let mut ramp = Ramp::new(Outage::None, "500/s");
    ramp.back_at = ramp.world.now;
    for number in 0..60_000 {
        ramp.mail("large", "google", Duration::from_micros(120) * number);
    }
    for number in 0..3_000 {
        ramp.mail("small", "google", Duration::from_millis(50) * number);
    }
    let begun = ramp.world.now;
    ramp.run(63_000, begun.after(Duration::from_secs(600)));
    let mut steps: BTreeMap<u64, u64> = BTreeMap::new();
    for it in &ramp.delivered {
        *steps.entry(it.at.since(begun).as_secs() / 5).or_default() += 1;
    }
    println!("in each five seconds: {:?}", steps.values().collect::<Vec<_>>());
    let small = ramp.delivered.iter().filter(|it| it.tenant == "small");
    println!("slowest of small: {:?}", small.clone().map(|it| it.at.since(it.arrival)).max());
    assert_eq!(ramp.delivered.len(), 63_000);
    let took = ramp.delivered.last().unwrap().at.since(begun);
    // Half a minute passes before the first of what found no room in the index comes back.
    assert!(took < Duration::from_secs(240), "{took:?}");
    assert!(small.clone().all(|it| it.at.since(it.arrival) < Duration::from_secs(2)));
}

#[test]
fn a_day_without_connections_ends_as_a_ramp() {
    outage(Outage::Refuses);
}

#[test]
fn a_day_of_trouble_ends_as_a_ramp() {
    outage(Outage::PutsOff(451));
}

#[test]
fn a_day_of_refusals_for_now_ends_as_a_ramp() {
    outage(Outage::PutsOff(450));
}
