//! postrider-tests.

pub mod dns;
