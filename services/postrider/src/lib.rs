//! postrider.
