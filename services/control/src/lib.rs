//! The control service: the gRPC API over the state of the system and over what the queue and the journal know. It holds
//! nothing between restarts; mail flows without it.

mod config;
pub use config::{AUDIT_DAYS, AUDIT_EVERY_SECS, AUDIT_HOURS_DAYS, BODIES_KEPT_SECS, ControlConfig};

mod service;
pub use service::{BoundControl, Collaborators, Control, ControlError};

mod auth;
mod metrics;

mod wire;

mod store;

mod api;
mod credentials;
mod domains;
mod routes;
mod tenants;

mod document;
mod documents;

mod queue;
mod rated;
mod summary;

mod life;
mod messages;
mod standing;
mod whereabouts;

mod events;
mod flat;

mod audit;

mod bodies;

mod dead_letters;
mod filter;
mod mail;
mod operations;
mod orders;
