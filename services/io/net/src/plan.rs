//! What a recipient domain resolves to: its site and the hosts to try. Plain values; the dice are handed in.

use std::sync::Arc;

use postrider_model::SiteName;
use rand::Rng;
use rand::seq::SliceRandom;

use crate::{Host, Reach};

/// A host to try, with everything the connection needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlannedHost {
    /// The name (look its addresses up when its turn comes) or the address.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
    /// LMTP (RFC 2033) instead of SMTP.
    pub lmtp: bool,
    /// Whether private addresses may be reached: only where the operator's route named the host.
    pub reach: Reach,
    /// Lower is tried first; among equals chance decides (RFC 5321 section 5.1).
    pub preference: u16,
}

/// The hosts of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangePlan {
    exchange_key: Arc<str>,
    hosts: Vec<PlannedHost>,
}

impl ExchangePlan {
    /// A plan of hosts, the lowest preference first, known by a key: equal keys must mean equal sets of hosts.
    pub fn new(exchange_key: Arc<str>, mut hosts: Vec<PlannedHost>) -> Self {
        hosts.sort_by_key(|host| host.preference);
        Self { exchange_key, hosts }
    }

    /// The same text for every domain with the same set of hosts: connections are reused within it.
    pub fn exchange_key(&self) -> &Arc<str> {
        &self.exchange_key
    }

    /// The hosts by preference, always in the same order.
    pub fn hosts(&self) -> &[PlannedHost] {
        &self.hosts
    }

    /// The hosts in the order to try them now: by preference, equals shuffled.
    pub fn in_order<R: Rng + ?Sized>(&self, dice: &mut R) -> Vec<PlannedHost> {
        let mut hosts = self.hosts.clone();
        for equals in hosts.chunk_by_mut(|left, right| left.preference == right.preference) {
            equals.shuffle(dice);
        }
        hosts
    }
}

/// What a recipient domain resolves to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The site: queues, limits and shards go by it.
    pub site: SiteName,
    /// Into how many slices the site is cut; 1 for all but giants.
    pub slices: u16,
    /// The hosts.
    pub plan: Arc<ExchangePlan>,
}
