//! Fault points: places at which a test may kill the process, to prove that nothing is lost there. They exist in debug builds
//! only; a release build has none of it.

/// Ends the process as `kill -9` would, if the environment asks for it: `POSTRIDER_FAULT=<name>` at the first pass,
/// `POSTRIDER_FAULT=<name>@<n>` at the n-th.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};
    // One process has one fault at most, so one counter serves: it exists to end the process, not to share state.
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Ok(wanted) = std::env::var("POSTRIDER_FAULT") else { return };
    let (wanted, passes) = wanted.split_once('@').unwrap_or((&wanted, "1"));
    if wanted == name && PASSES.fetch_add(1, Ordering::Relaxed) + 1 == passes.parse().unwrap_or(1) {
        tracing::warn!(name, "fault point: ending the process");
        let pid = std::process::id().to_string();
        if std::process::Command::new("kill").args(["-9", &pid]).status().is_err() {
            std::process::abort();
        }
        std::process::abort();
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str) {}
