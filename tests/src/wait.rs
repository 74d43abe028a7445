//! Waiting for a condition, never for a time: looks again and again until it holds, and says what was last seen where it
//! does not come to hold.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longer than anything a test waits for on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(50);

/// Looks until `look` finds something, at most for [`PATIENCE`].
///
/// # Errors
/// What `look` failed with, or that it found nothing in time.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, look)
}

/// As [`until`], with a patience of its own.
///
/// # Errors
/// As [`until`].
pub fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begun.elapsed() > patience {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        std::thread::sleep(STEP);
    }
}
