//! A simulation of the machines under virtual time: several processes with the real dispatcher, limit owners, settles, takeovers,
//! promoters and splitters, between a model of JetStream and exchangers that misbehave. One seed decides everything; nothing here
//! reads a clock or rolls other dice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests run this, and a simulation fails by panicking"
)]
#![allow(missing_docs, reason = "what stands under process has the shape of the services, and is documented there")]
#![allow(dropping_copy_types, reason = "a message to whoever is gone is dropped, whatever it is")]

pub mod jetstream;

pub mod exec;

pub mod nats;

pub mod spool;

pub mod judge;

pub mod exchangers;

pub mod process;

pub mod story;
