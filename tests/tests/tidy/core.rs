//! Nothing under `services/core` reads a clock, rolls dice, opens a socket or a file, spawns, or logs: time and dice are
//! arguments.

use super::tree::rust_files;

/// What would give it away, each with what to do instead.
const KEPT_OUT: [(&str, &str); 13] = [
    ("tokio", "the shell awaits; the core is told"),
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime", "take a `Timestamp` as an argument"),
    ("std::net::Tcp", "the shell owns the sockets"),
    ("std::net::Udp", "the shell owns the sockets"),
    ("std::fs", "the shell reads files"),
    ("std::env", "configuration is handed in"),
    ("std::process", "the shell starts processes"),
    ("std::thread", "the shell decides what runs where"),
    ("rand::", "dice are an argument"),
    ("RandomState", "iteration order must not depend on dice: use a BTreeMap, or a fixed hasher"),
    ("tracing::", "return what happened; the shell logs it"),
    ("async fn", "the core never waits"),
];

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        // What only tests do is the tests' affair.
        let is_test = file.path.contains("/tests/") || file.path.ends_with("tests.rs");
        if !file.path.starts_with("services/core/") || is_test {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            let code = line.split("//").next().unwrap_or_default();
            for (word, instead) in KEPT_OUT.iter().filter(|(word, _)| code.contains(word)) {
                wrong.push(format!("{}:{}: {word}: {instead}", file.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
