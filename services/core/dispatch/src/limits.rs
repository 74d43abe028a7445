//! The owner of the limits of paths: connections, messages over a connection, messages per time. Pure: it is asked, it
//! answers; it never waits and knows nothing of queues.

mod path;
pub use path::{Path, Source};

mod permit;
pub use permit::{Ask, Grant, Permit, PermitId};

mod shaping;
pub use shaping::{PathLimits, Rate, RateError, Shaping};

mod window;

mod claim;

mod owner;
pub use owner::{LONGEST_PERMIT, LimitOwner};

#[cfg(test)]
mod tests;
