//! postrider-tests.
