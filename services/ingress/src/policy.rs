//! Who may submit what: pure decisions over a snapshot of the configuration. Nothing here waits, looks anything up or
//! remembers.

mod principal;
pub use principal::{Choice, Principal, authenticate, tenant_of_network};

mod rights;
pub use rights::{choose, circles, header_from, relay_refused, sender, wrong_credentials};

#[cfg(test)]
mod tests;
