//! The settings of every stream, consumer and bucket, in one place.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use postrider_dispatch::ownership::MEMBER_TTL;
use postrider_model::{Class, ShardLayout, Tier};

use crate::bucket;
use crate::config::NatsConfig;
use crate::subject::{self, StreamName};

/// A stream that must exist, with its consumers.
pub(crate) struct Wanted {
    pub(crate) config: Config,
    pub(crate) consumers: Vec<pull::Config>,
}

const DAY: Duration = Duration::from_secs(86_400);

/// Bodies and events outlive the longest expiry.
const KEPT: Duration = DAY.saturating_mul(8);

/// What operators did is kept for a year.
const OPERATIONS_KEPT: Duration = DAY.saturating_mul(366);

/// Sums of the audit outlive events: for as long as whoever keeps them says, and not longer than this.
const SUMS_KEPT: Duration = DAY.saturating_mul(3 * 366);

/// How long a repeat of an id is recognised.
const REPEATS: Duration = Duration::from_secs(60);

/// How long a promoter or splitter may take. Well below [`REPEATS`]: when one dies between its publish and its ack, what the
/// next one publishes again must still be recognised.
pub(crate) const MOVE_WAIT: Duration = Duration::from_secs(25);

/// How many envelopes of a tier promoters may hold at a time.
pub(crate) const TIER_UNACKNOWLEDGED: i64 = 4_096;

/// The share of `storage_bytes` that each kind of stream gets, in thousandths.
mod share {
    use postrider_model::Tier;

    pub(super) const READY_BULK: i64 = 200;
    pub(super) const READY_TRANSACTIONAL: i64 = 50;
    /// Of each tier. What waits for a site ends in that of an hour, what waits for a mailbox in that of four.
    pub(super) const fn retry(tier: Tier) -> i64 {
        match tier {
            Tier::M1 | Tier::M5 => 20,
            Tier::M15 => 30,
            Tier::H1 => 50,
            Tier::H4 => 40,
        }
    }
    pub(super) const BODY: i64 = 340;
    pub(super) const INTAKE: i64 = 60;
    pub(super) const HOLD: i64 = 40;
    pub(super) const DEAD: i64 = 30;
    pub(super) const OPERATIONS: i64 = 10;
    pub(super) const EVENTS: i64 = 100;
    pub(super) const BUCKETS: i64 = 10;
}

fn bytes(config: &NatsConfig, thousandths: i64, streams: u8) -> i64 {
    let total = i64::try_from(config.storage_bytes).unwrap_or(i64::MAX);
    total / 1_000 * thousandths / i64::from(streams.max(1))
}

pub(crate) fn streams(layout: &ShardLayout, config: &NatsConfig) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let shards =
        |stream: StreamName| layout.shards().filter(move |&shard| subject::ready_stream(layout, shard) == stream);
    let ready = |stream: StreamName, max_bytes: i64| Wanted {
        config: Config {
            subjects: shards(stream).map(subject::all_ready).collect(),
            allow_direct: true,
            ..work_queue(stream, config, max_bytes)
        },
        consumers: shards(stream).map(|shard| consumer(&Consumer::Ready(shard))).collect(),
    };
    for n in 0..layout.bulk_streams {
        let max_bytes = bytes(config, share::READY_BULK, layout.bulk_streams);
        wanted.push(ready(StreamName::ReadyBulk(n), max_bytes));
    }
    wanted.push(ready(StreamName::ReadyTransactional, bytes(config, share::READY_TRANSACTIONAL, 1)));
    for tier in Tier::ALL {
        wanted.push(Wanted {
            config: Config {
                subjects: Class::ALL.map(|class| subject::all_retry(tier, class)).into(),
                allow_direct: true,
                ..work_queue(StreamName::Retry(tier), config, bytes(config, share::retry(tier), 1))
            },
            consumers: Class::ALL.map(|class| consumer(&Consumer::Retry(tier, class))).into(),
        });
    }
    for n in 0..layout.side_streams {
        wanted.push(Wanted {
            config: Config {
                subjects: vec![subject::body(n)],
                retention: RetentionPolicy::Limits,
                max_age: KEPT,
                allow_direct: true,
                ..work_queue(StreamName::Body(n), config, bytes(config, share::BODY, layout.side_streams))
            },
            consumers: Vec::new(),
        });
    }
    wanted.push(Wanted {
        config: Config {
            subjects: Class::ALL.map(subject::intake).into(),
            allow_direct: true,
            ..work_queue(StreamName::Intake, config, bytes(config, share::INTAKE, 1))
        },
        consumers: Class::ALL.map(|class| consumer(&Consumer::Split(class))).into(),
    });
    wanted.push(Wanted {
        config: Config {
            subjects: vec![subject::ALL_HELD.to_owned()],
            retention: RetentionPolicy::Limits,
            allow_direct: true,
            ..work_queue(StreamName::Hold, config, bytes(config, share::HOLD, 1))
        },
        consumers: Vec::new(),
    });
    wanted.push(Wanted {
        config: Config {
            subjects: vec![subject::OPERATION.to_owned()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: OPERATIONS_KEPT,
            allow_direct: true,
            ..work_queue(StreamName::Operations, config, bytes(config, share::OPERATIONS, 1))
        },
        consumers: Vec::new(),
    });
    wanted.push(Wanted {
        config: Config {
            subjects: vec!["dead.>".to_owned()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            allow_direct: true,
            ..work_queue(StreamName::Dead, config, bytes(config, share::DEAD, 1))
        },
        consumers: Vec::new(),
    });
    for n in 0..layout.side_streams {
        let shards = layout.shards().filter(|&shard| subject::events_stream(layout, shard) == StreamName::Events(n));
        wanted.push(Wanted {
            config: Config {
                subjects: shards.map(subject::event).collect(),
                retention: RetentionPolicy::Limits,
                discard: DiscardPolicy::Old,
                max_age: KEPT,
                allow_direct: true,
                ..work_queue(StreamName::Events(n), config, bytes(config, share::EVENTS, layout.side_streams))
            },
            consumers: Vec::new(),
        });
    }
    wanted
}

/// What all streams of the spool have in common; the others say how they differ.
fn work_queue(name: StreamName, config: &NatsConfig, max_bytes: i64) -> Config {
    Config {
        name: name.to_string(),
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        duplicate_window: REPEATS,
        max_bytes,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        ..Config::default()
    }
}

/// Every durable consumer.
#[derive(Clone, Debug)]
pub(crate) enum Consumer {
    Ready(postrider_model::ShardId),
    Retry(Tier, Class),
    Split(Class),
}

/// Where a consumer is and how it is set.
pub(crate) struct Placed {
    pub(crate) stream: String,
    pub(crate) name: String,
    pub(crate) config: pull::Config,
}

pub(crate) fn consumer_of(layout: &ShardLayout, which: &Consumer) -> Placed {
    let stream = match which {
        Consumer::Ready(shard) => subject::ready_stream(layout, *shard),
        Consumer::Retry(tier, _) => StreamName::Retry(*tier),
        Consumer::Split(_) => StreamName::Intake,
    };
    let config = consumer(which);
    Placed { stream: stream.to_string(), name: config.durable_name.clone().unwrap_or_default(), config }
}

fn consumer(which: &Consumer) -> pull::Config {
    let (name, filter, ack_wait, max_ack_pending) = match which {
        // Longer than any conversation: an owner that dies is replaced by RESET, not by waiting.
        Consumer::Ready(shard) => {
            (subject::ready_consumer(*shard), subject::all_ready(*shard), Duration::from_secs(20 * 60), 20_000)
        }
        Consumer::Retry(tier, class) => {
            (subject::retry_consumer(*tier, *class), subject::all_retry(*tier, *class), MOVE_WAIT, TIER_UNACKNOWLEDGED)
        }
        Consumer::Split(class) => (subject::split_consumer(*class), subject::intake(*class), MOVE_WAIT, 1_024),
    };
    pull::Config {
        durable_name: Some(name.clone()),
        name: Some(name),
        filter_subject: filter,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_ack_pending,
        max_deliver: -1,
        // A file consumer rewrites its state with every ack; a work queue needs none to be kept.
        memory_storage: true,
        ..pull::Config::default()
    }
}

/// Key-value buckets are streams too: one subject a key, the last values of each.
pub(crate) fn buckets(config: &NatsConfig) -> Vec<Config> {
    let bucket = |name: &str, history: i64| Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: config.replicas,
        duplicate_window: REPEATS,
        max_bytes: bytes(config, share::BUCKETS, 3),
        max_messages: -1,
        max_messages_per_subject: history,
        max_consumers: -1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    // A member that runs out leaves a marker, so that watchers hear of it.
    let lease =
        Config { allow_message_ttl: true, subject_delete_marker_ttl: Some(MEMBER_TTL), ..bucket(bucket::LEASE, 1) };
    let audit = Config { max_age: SUMS_KEPT, ..bucket(bucket::AUDIT, 1) };
    vec![bucket(bucket::CONFIG, 5), lease, audit]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_streams_together_stay_within_the_storage() {
        for layout in [ShardLayout::CLUSTER, ShardLayout::SINGLE] {
            let config = NatsConfig { storage_bytes: 10_000_000_000, ..NatsConfig::default() };
            let streams: i64 = streams(&layout, &config).iter().map(|wanted| wanted.config.max_bytes).sum();
            let buckets: i64 = buckets(&config).iter().map(|bucket| bucket.max_bytes).sum();
            let total = streams + buckets;
            assert!((9_800_000_000..=10_000_000_000).contains(&total), "{total}");
        }
    }

    #[test]
    fn every_shard_has_one_consumer_and_one_subject() {
        let wanted = streams(&ShardLayout::CLUSTER, &NatsConfig::default());
        let subjects = wanted.iter().flat_map(|w| &w.config.subjects).filter(|s| s.starts_with("ready.")).count();
        let consumers = wanted.iter().flat_map(|w| &w.consumers).filter(|c| c.filter_subject.starts_with("ready."));
        assert_eq!((subjects, consumers.count()), (80, 80));
    }
}
