//! The queue in rows: what delivery members hold, and what lies in READY and in the tiers beside it. Pure.

use std::collections::BTreeMap;

use postrider_model::{Class, Tier, Timestamp, WaitReason};
use postrider_nats::Depth;
use postrider_proto::control::v1 as api;

use crate::wire::time;

/// Which rows are wanted; empty is all.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowFilter {
    pub(crate) tenant: Option<String>,
    pub(crate) site: Option<String>,
    pub(crate) class: Option<Class>,
}

impl RowFilter {
    fn wants(&self, key: &Key) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == key.tenant)
            && self.site.as_ref().is_none_or(|site| *site == key.site)
            && self.class.is_none_or(|class| class.as_str() == key.class)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    site: String,
    tenant: String,
    class: String,
}

#[derive(Default)]
struct Row {
    /// In the indexes of delivery members.
    ready: u64,
    in_flight: u64,
    held: BTreeMap<String, u64>,
    oldest: Option<u64>,
    /// In READY altogether.
    in_ready: u64,
    tiers: BTreeMap<Tier, u64>,
    /// In HOLD.
    suspended: u64,
}

/// The rows of a summary, in the order of site, tenant and class. `suspended` is what HOLD has, and when
/// the oldest of it was accepted. `oldest` says the same of the first `depths`.
pub(crate) fn rows(
    answers: &[api::DeliveryAnswer],
    depths: &[Depth],
    suspended: &[(Depth, Option<Timestamp>)],
    oldest: &[Option<Timestamp>],
    filter: &RowFilter,
) -> Vec<api::QueueRow> {
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    for answered in answers.iter().flat_map(|answer| &answer.rows) {
        let key = Key { site: answered.site.clone(), tenant: answered.tenant.clone(), class: answered.class.clone() };
        let row = rows.entry(key).or_default();
        row.ready += answered.ready;
        row.in_flight += answered.in_flight;
        for waiting in &answered.waiting {
            *row.held.entry(waiting.reason.clone()).or_default() += waiting.count;
        }
        let oldest = Some(answered.oldest_arrival_ms).filter(|&oldest| oldest > 0);
        row.oldest = row.oldest.into_iter().chain(oldest).min();
    }
    let oldest = oldest.iter().copied().chain(std::iter::repeat(None));
    for (depth, oldest) in depths.iter().zip(oldest) {
        let key =
            Key { site: depth.site.to_string(), tenant: depth.tenant.to_string(), class: depth.class.to_string() };
        let row = rows.entry(key).or_default();
        row.oldest = row.oldest.into_iter().chain(oldest.map(Timestamp::as_millis)).min();
        match depth.tier {
            None => row.in_ready += depth.count,
            Some(tier) => *row.tiers.entry(tier).or_default() += depth.count,
        }
    }
    for (depth, oldest) in suspended {
        let key =
            Key { site: depth.site.to_string(), tenant: depth.tenant.to_string(), class: depth.class.to_string() };
        let row = rows.entry(key).or_default();
        row.suspended += depth.count;
        row.oldest = row.oldest.into_iter().chain(oldest.map(Timestamp::as_millis)).min();
    }
    rows.into_iter().filter(|(key, _)| filter.wants(key)).map(|(key, row)| row.finish(key)).collect()
}

impl Row {
    fn finish(mut self, key: Key) -> api::QueueRow {
        let held: u64 = self.ready + self.in_flight + self.held.values().sum::<u64>();
        // What READY holds and no member has in its index has not been pulled yet.
        let queued = self.in_ready.saturating_sub(held);
        if queued > 0 {
            *self.held.entry(WaitReason::Queued.as_str().to_owned()).or_default() += queued;
        }
        // On their way to HOLD in an index, or there already.
        if self.suspended > 0 {
            *self.held.entry(WaitReason::Held.as_str().to_owned()).or_default() += self.suspended;
        }
        let held = self.held.into_iter().filter(|(_, count)| *count > 0);
        let tiers = self.tiers.into_iter().map(|(tier, count)| (format!("tier ({tier})"), count));
        api::QueueRow {
            site: key.site,
            tenant: key.tenant,
            class: key.class,
            ready: self.ready,
            in_flight: self.in_flight,
            waiting: held.chain(tiers).map(|(reason, count)| api::WaitCount { reason, count }).collect(),
            oldest_accept_time: self.oldest.map(|millis| time(Timestamp::from_millis(millis))),
            minute: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(member: &str, ready: u64, in_flight: u64, waiting: &[(&str, u64)], oldest: u64) -> api::DeliveryAnswer {
        let waiting =
            waiting.iter().map(|(reason, count)| api::ReasonCount { reason: (*reason).into(), count: *count });
        let row = api::SummaryRow {
            site: "google".into(),
            tenant: "acme".into(),
            class: "bulk".into(),
            ready,
            in_flight,
            waiting: waiting.collect(),
            oldest_arrival_ms: oldest,
        };
        api::DeliveryAnswer { member: member.into(), rows: vec![row], ..api::DeliveryAnswer::default() }
    }

    fn depth(tier: Option<Tier>, site: &str, count: u64) -> Depth {
        Depth { tier, class: Class::Bulk, site: site.parse().unwrap(), tenant: "acme".parse().unwrap(), count }
    }

    fn told(rows: &[api::QueueRow]) -> Vec<String> {
        let waiting = |row: &api::QueueRow| {
            row.waiting.iter().map(|w| format!("{} {}", w.reason, w.count)).collect::<Vec<_>>().join(", ")
        };
        rows.iter().map(|r| format!("{} {} {}: {}", r.site, r.ready, r.in_flight, waiting(r))).collect()
    }

    #[test]
    fn what_members_hold_and_what_lies_in_the_streams_is_counted_once() {
        let answers =
            [answer("d0", 10, 2, &[("rate-limit", 3)], 5_000), answer("d1", 1, 0, &[("rate-limit", 4)], 4_000)];
        let depths = [
            depth(None, "google", 30),
            depth(Some(Tier::M5), "google", 7),
            depth(Some(Tier::M1), "google", 2),
            depth(None, "example.net", 1),
        ];
        let oldest = [None, Some(Timestamp::from_millis(3_000))];
        let suspended = [(depth(None, "google", 5), Some(Timestamp::from_millis(2_000)))];
        let rows = rows(&answers, &depths, &suspended, &oldest, &RowFilter::default());
        assert_eq!(
            told(&rows),
            ["example.net 0 0: queued 1", "google 11 2: held 5, queued 10, rate-limit 7, tier (1m) 2, tier (5m) 7",]
        );
        assert_eq!(rows[1].oldest_accept_time, Some(time(Timestamp::from_millis(2_000))));
    }

    #[test]
    fn a_stream_that_was_counted_a_moment_earlier_makes_nothing_negative() {
        let rows = rows(&[answer("d0", 10, 0, &[], 0)], &[depth(None, "google", 4)], &[], &[], &RowFilter::default());
        assert_eq!(told(&rows), ["google 10 0: "]);
        assert_eq!(rows[0].oldest_accept_time, None);
    }

    #[test]
    fn only_the_rows_that_were_asked_for_are_told() {
        let filter = RowFilter { site: Some("google".into()), ..RowFilter::default() };
        let depths = [depth(None, "google", 1), depth(None, "example.net", 1)];
        assert_eq!(told(&rows(&[], &depths, &[], &[], &filter)), ["google 0 0: queued 1"]);
        let filter = RowFilter { class: Some(Class::Transactional), ..RowFilter::default() };
        assert!(rows(&[], &depths, &[], &[], &filter).is_empty());
    }
}
