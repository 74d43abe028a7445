//! The SMTP machines from outside: dialogues, bad input, every chunking, and both machines wired back to back. No socket
//! and no clock anywhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

mod addresses;
mod auth;
mod chunking;
mod dialogue;
mod order;
mod server_bounds;
mod smuggling;
mod starttls;

mod back_to_back;
mod client_chunking;
mod client_failures;
mod client_opening;
mod client_transaction;
