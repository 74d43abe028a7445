//! The name of this host.

use postrider_model::{AddressError, Domain};

/// The name of this host, or `localhost` if it has none that could stand in EHLO.
///
/// # Errors
/// None: `localhost` is a name.
pub fn name() -> Result<Domain, AddressError> {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    named.trim().parse().or_else(|_| "localhost".parse())
}
