//! One crypto provider, aws-lc-rs: no ring is built, and nothing of openssl stands in Cargo.lock.

use postrider_tests::place;

use super::tree::cargo;

fn locked_packages() -> Vec<String> {
    let text = std::fs::read_to_string(place::repository().join("Cargo.lock")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"').map(str::to_owned));
    let names: Vec<String> = names.collect();
    assert!(names.len() > 100, "only {} packages were read", names.len());
    names
}

/// `ring` does stand in Cargo.lock: rustls-webpki and hickory-proto name it in weak features (`ring?/alloc`), and cargo
/// records the target of a weak feature even if no selection of features, platform or package ever turns it on. So this
/// asks what could be built, on every platform, for programs, tests and build scripts.
#[test]
fn ring_is_never_built() {
    if !locked_packages().iter().any(|name| name == "ring") {
        return;
    }
    let tree =
        cargo(&["tree", "--workspace", "--target", "all", "--edges", "all", "--invert", "ring", "--locked", "--quiet"]);
    assert!(tree.trim().is_empty(), "ring is built because of:\n{tree}");
}

/// `openssl-probe` only looks where a system keeps its certificates; it links nothing.
#[test]
fn nothing_of_openssl_is_locked() {
    let found: Vec<String> = locked_packages()
        .into_iter()
        .filter(|name| (name.starts_with("openssl") && name != "openssl-probe") || name == "native-tls")
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn every_package_comes_from_the_registry_or_from_here() {
    let text = std::fs::read_to_string(place::repository().join("Cargo.lock")).unwrap();
    let foreign: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .filter(|source| !source.starts_with("\"registry+"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}
