//! The harness of the end-to-end tests: boots the built program with everything it needs on loopback, plays its senders
//! and receivers with real peers, and leaves nothing running. Tests nothing itself.

pub mod dns;

pub mod place;

pub mod wait;

pub mod process;

pub mod cluster;

pub mod client;

pub mod provider;

pub mod peers;

pub mod talk;

pub mod mail;

pub mod load;

pub mod sink;

pub mod streams;

pub mod admin;

pub mod rules;

pub mod servers;

pub mod tmpfs;

pub mod processes;

pub mod chaos;

pub mod power_cut;
