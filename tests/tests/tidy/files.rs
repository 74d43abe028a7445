//! Source files are short, and say first what they are for.

use super::tree::rust_files;

const MOST_LINES: usize = 500;

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let long: Vec<String> = rust_files()
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines; split it by state or by concern"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let silent: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| !file.text.starts_with("//! ") || file.text.starts_with("//! To be written"))
        .map(|file| format!("{}: begins with {:?}", file.path, file.text.lines().next().unwrap_or_default()))
        .collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn no_test_is_ignored() {
    let mark = ["#[", "ignore"].concat();
    let ignored: Vec<String> =
        rust_files().into_iter().filter(|file| file.text.contains(&mark)).map(|file| file.path).collect();
    assert!(ignored.is_empty(), "{ignored:#?}");
}

#[test]
fn every_exception_to_a_lint_has_a_reason() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        for kind in ["allow(", "expect("] {
            for attribute in [format!("#[{kind}"), format!("#![{kind}")] {
                for (at, _) in file.text.match_indices(&attribute) {
                    let rest = file.text.get(at..).unwrap_or_default();
                    let whole = rest.split(")]").next().unwrap_or_default();
                    if !whole.contains("reason") {
                        wrong.push(format!("{}: {whole})]", file.path));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
