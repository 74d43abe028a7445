//! The binary's parts: the servers, one machine's whole cluster (`up`), the simulated provider (`receiver`) and the client
//! commands.

pub mod client;
pub mod receiver;
pub mod up;
