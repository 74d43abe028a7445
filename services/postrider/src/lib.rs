//! The binary's parts: the servers, one machine's whole cluster (`up`), the simulated provider (`receiver`), the load
//! (`bench`) and the client commands.

pub mod bench;
pub mod client;
pub mod process;
pub mod receiver;
pub mod serve;
pub mod up;

use std::io::Write;

/// Says on standard error what went wrong: the error and its causes, in one line.
pub fn complain(error: &anyhow::Error) {
    let mut out = std::io::stderr().lock();
    // Who cannot be told cannot be told.
    drop(writeln!(out, "postrider: {error:#}"));
}
