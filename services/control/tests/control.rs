//! The control service against a real nats-server, as its clients see it: one server and one control a test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "control/server.rs"]
mod server;

#[path = "control/cluster.rs"]
mod cluster;

#[path = "control/bodies.rs"]
mod bodies;

#[path = "control/access.rs"]
mod access;

#[path = "control/objects.rs"]
mod objects;

#[path = "control/documents.rs"]
mod documents;

#[path = "control/members.rs"]
mod members;

#[path = "control/events.rs"]
mod events;

#[path = "control/messages.rs"]
mod messages;

#[path = "control/audit.rs"]
mod audit;

#[path = "control/operator.rs"]
mod operator;
