//! The source files of the repository, as git knows them.

use std::path::PathBuf;
use std::process::Command;

use postrider_tests::place;

/// A tracked or new file (not an ignored one) with its text.
pub struct Source {
    /// Its path from the top of the repository, with `/`.
    pub path: String,
    /// What it holds.
    pub text: String,
}

/// All Rust files.
pub fn rust_files() -> Vec<Source> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(place::repository())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let files: Vec<Source> = paths
        .lines()
        // A file that is deleted and not yet committed so is listed too.
        .filter_map(|path| Some(Source { path: path.to_owned(), text: read(place::repository().join(path))? }))
        .collect();
    assert!(files.len() > 50, "only {} Rust files were found", files.len());
    files
}

fn read(path: PathBuf) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Runs cargo at the top of the repository; its standard output.
pub fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(place::repository()).output().expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}
