//! Delivery: pulls the mail of the shards it owns, sends it to the recipients' exchangers, and settles every outcome. It is
//! the shell around the machines of `postrider-dispatch`: what is decided is decided there.
//!
//! Reading order: [`Delivery`] wires the tasks; `ownership` and `shard` take and give back shards; `arrivals` brings envelopes
//! in; `worker` runs the dispatcher; `conversation` talks to exchangers; `settlement` and `journal` make outcomes durable.

mod config;
pub use config::{DeliveryConfig, LimitsConfig, ShapingConfig};

mod fence;

mod metrics;
pub use metrics::Metrics;

mod ownership;

mod shard;

mod arrivals;

pub mod held;

mod worker;

mod conversation;

mod connect;

mod session;

mod link;

mod finish;

mod settlement;

mod journal;

mod limits;

mod keeper;

mod questions;

mod shard_states;

mod service;
pub use service::{Collaborators, Delivery};
