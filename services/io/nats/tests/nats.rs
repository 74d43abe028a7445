//! The whole crate against a real nats-server: one server a test, on a free port of loopback, gone with its test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "nats/server.rs"]
mod server;

#[path = "nats/mail.rs"]
mod mail;

#[path = "nats/layout.rs"]
mod layout;

#[path = "nats/access.rs"]
mod access;

#[path = "nats/publish.rs"]
mod publish;

#[path = "nats/pull.rs"]
mod pull;

#[path = "nats/tiers.rs"]
mod tiers;

#[path = "nats/shard_state.rs"]
mod shard_state;

#[path = "nats/intake.rs"]
mod intake;

#[path = "nats/twice.rs"]
mod twice;

#[path = "nats/frozen.rs"]
mod frozen;

#[path = "nats/bodies.rs"]
mod bodies;

#[path = "nats/events.rs"]
mod events;

#[path = "nats/hold.rs"]
mod hold;

#[path = "nats/operations.rs"]
mod operations;

#[path = "nats/configuration.rs"]
mod configuration;

#[path = "nats/leases.rs"]
mod leases;

#[path = "nats/questions.rs"]
mod questions;

#[path = "nats/restart.rs"]
mod restart;

#[path = "nats/cluster.rs"]
mod cluster;

#[path = "nats/model.rs"]
mod model;
