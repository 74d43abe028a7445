//! What every process needs around its service: configuration, logs, the admin endpoints, shutdown, the cluster key, the
//! clock and dice. It knows no service and no queue; what it offers is handed in as values, nothing is process-wide but
//! the log subscriber.

mod config;
pub use config::{ConfigError, load_config, parse_config};

pub mod telemetry;

mod readiness;
pub use readiness::{Readiness, ReadinessFlag, watch_connection};

mod hysteresis;
pub use hysteresis::Hysteresis;

mod admin;
pub use admin::Admin;

pub mod shutdown;

mod cluster_key;
pub use cluster_key::{ClusterKey, ClusterKeyError, SealError};

pub mod clock;

pub mod host;

pub mod random;

pub mod fault;
