//! Sessions with a real ingress before a real nats-server: what is accepted and lands where, what is refused and how, what
//! happens when something fails. One binary, so that it is built and started once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what tests are built from may panic as tests do")]

#[path = "sessions/world.rs"]
mod world;

#[path = "sessions/smtp.rs"]
mod smtp;

#[path = "sessions/submission.rs"]
mod submission;

#[path = "sessions/refusals.rs"]
mod refusals;

#[path = "sessions/abuse.rs"]
mod abuse;

#[path = "sessions/faults.rs"]
mod faults;

#[path = "sessions/pressure.rs"]
mod pressure;

#[path = "sessions/draining.rs"]
mod draining;
