//! postrider-runtime.
