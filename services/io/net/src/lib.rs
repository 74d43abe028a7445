//! postrider-net.
