//! What a seed means before anything happens: the kind of fault, the cluster, the load.

use super::dice::Dice;
use super::kind::Kind;
use crate::load::Shape;

/// Conversations that one delivery process may have open.
pub const CONVERSATIONS: usize = 40;

/// The load of a run.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Its name, for people.
    pub name: &'static str,
    recipients: fn(usize) -> Vec<String>,
    field: fn(usize) -> &'static str,
    /// Further bytes of the n-th message.
    pub bodies: fn(usize) -> usize,
}

const TRAFFIC: [Traffic; 4] = [
    // Either class, one recipient each.
    Traffic { name: "plain", recipients: plain, field: class, bodies: |_| 0 },
    // A third is deferred once and so goes through a tier, a third has recipients at several sites and so is split.
    Traffic { name: "mixed", recipients: mixed, field: |_| "", bodies: |_| 0 },
    // Every tenth is refused for good, every tenth deferred at the end of its data.
    Traffic { name: "refused", recipients: refused, field: class, bodies: |_| 0 },
    // As mixed, and every fifth has a body that is stored apart.
    Traffic {
        name: "large",
        recipients: mixed,
        field: class,
        bodies: |number| if number.is_multiple_of(5) { 90_000 } else { 300 },
    },
];

/// What all of it goes to where limits are watched.
const FEW_SITES: Traffic = Traffic { name: "few sites", recipients: few, field: class, bodies: |_| 0 };

fn class(number: usize) -> &'static str {
    if number.is_multiple_of(3) { "X-Postrider-Class: transactional" } else { "" }
}

fn plain(number: usize) -> Vec<String> {
    vec![format!("plain+{number}@p{}.example", number % 53)]
}

fn mixed(number: usize) -> Vec<String> {
    let domain = number % 31;
    match number % 3 {
        0 => plain(number),
        1 => vec![format!("defer1+{number}@m{domain}.example")],
        _ => (0..3).map(|n| format!("split+{number}@m{}.example", (domain + n) % 31)).collect(),
    }
}

fn refused(number: usize) -> Vec<String> {
    match number % 10 {
        3 => vec![format!("refuse+{number}@r{}.example", number % 7)],
        7 => vec![format!("defer1-data+{number}@r{}.example", number % 7)],
        _ => plain(number),
    }
}

fn few(number: usize) -> Vec<String> {
    vec![format!("plain+{number}@s{}.example", number % LIMITED_SITES)]
}

/// How many sites there are where limits are watched.
pub const LIMITED_SITES: usize = 5;

/// Recipients a second at each of them.
pub const LIMIT: usize = 20;

/// What a seed means.
#[derive(Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What goes wrong.
    pub kind: Kind,
    /// How many nats-servers.
    pub servers: usize,
    /// How many delivery processes.
    pub deliveries: usize,
    /// How the queue is cut.
    pub layout: &'static str,
    /// What is sent.
    pub traffic: Traffic,
    /// SMTP sessions, and messages a second.
    pub pace: (usize, u32),
    /// Messages accepted before the fault begins, and after its end.
    pub messages: (usize, usize),
    /// What is left of chance, for the fault.
    pub dice: Dice,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let kind = Kind::of(seed);
        let mut dice = Dice::new(seed);
        let servers = if matches!(kind, Kind::NatsOneOfThree | Kind::NatsThreeOfThree) { 3 } else { 1 };
        let layout = if servers == 3 || dice.chance(70) { "single" } else { "cluster" };
        let deliveries = if kind == Kind::TwoOwners { 2 } else { dice.count(1, 3) };
        let traffic = match kind {
            Kind::TwoOwners => FEW_SITES,
            // Deferrals and refusals by DNS are told from others only where the receiver has none of its own.
            Kind::DnsLying => TRAFFIC[0],
            _ => *dice.pick(&TRAFFIC),
        };
        let rate = if kind == Kind::TwoOwners { 200 } else { *dice.pick(&[60, 120, 200]) };
        // Enough sessions that the rate comes about though every answer takes its time.
        let pace = (dice.count(8, 20), rate);
        let messages = (dice.count(40, 120), dice.count(60, 160));
        Self { seed, kind, servers, deliveries, layout, traffic, pace, messages, dice }
    }

    /// The load.
    pub fn shape(&self) -> Shape {
        let (sessions, rate) = self.pace;
        Shape { sessions, rate, recipients: self.traffic.recipients, field: self.traffic.field }
    }

    /// The domains that mail goes to.
    pub fn domains() -> impl Iterator<Item = String> {
        let of = |letter: char, count: usize| (0..count).map(move |number| format!("{letter}{number}.example"));
        of('p', 53).chain(of('m', 31)).chain(of('r', 10)).chain(of('s', LIMITED_SITES))
    }
}
