//! The SMTP ingress: listens, lets `postrider_smtp::Server` speak, decides who may submit what, and makes each message
//! durable before its `250`. Holds nothing: when a process of it dies, only unanswered messages are gone, and their senders
//! still have them.
//!
//! Reading order: [`IngressConfig`], [`Ingress`] (listeners), `session` (one connection: the driver of the machine),
//! `policy` (pure decisions), `accept` (a message on its way to JetStream).

mod config;
pub use config::{
    AuthConfig, BoundsConfig, IngressConfig, ListenerConfig, ListenerKind, ListenerTls, NetworkConfig, TimeoutsConfig,
};

mod ingress;
pub use ingress::{BindError, Bound, BuildError, Collaborators, Ingress};

mod listener;

mod session;

mod policy;

mod accept;

mod refusal;

mod admission;

mod room;

mod strain;

mod metrics;
