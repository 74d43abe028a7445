//! What the machines are simulated on: a model of JetStream under virtual time. Nothing here reads a clock or rolls dice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests run this, and a simulation fails by panicking"
)]

pub mod jetstream;
