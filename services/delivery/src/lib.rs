//! postrider-delivery.
