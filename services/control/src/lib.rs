//! postrider-control.
