//! postrider-nats.
