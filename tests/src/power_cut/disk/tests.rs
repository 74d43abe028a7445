//! What of a few calls is on disk, by each model.

use super::*;

/// Calls in the form of the record, strings plain; each returns at the second of its line.
fn record(calls: &[&str]) -> Record {
    let hexadecimal = |line: &str| {
        let parts = line.split('"').enumerate().map(|(number, part)| match number % 2 {
            1 => part.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>(),
            _ => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("\"")
    };
    let lines = calls.iter().enumerate().map(|(second, call)| format!("1 {second}.0 {} <0.0>", hexadecimal(call)));
    Record::parse(&lines.collect::<Vec<_>>().join("\n")).unwrap()
}

#[track_caller]
fn check(calls: &[&str], disk: Disk, expected: &[(&str, &str)]) {
    let tree = replay(&record(calls), Path::new("/s"), None, None, disk).unwrap();
    let found: Vec<(String, String)> = tree
        .files
        .iter()
        .map(|(path, bytes)| (path.display().to_string(), String::from_utf8_lossy(bytes).into_owned()))
        .collect();
    let expected: Vec<(String, String)> =
        expected.iter().map(|(path, bytes)| ((*path).to_owned(), (*bytes).to_owned())).collect();
    assert_eq!(found, expected);
}

const MADE: &str = "openat(AT_FDCWD, \"/s/a\", O_RDWR|O_CREAT, 0600) = 5";

#[test]
fn bytes_without_fsync_are_gone() {
    let calls = [MADE, "write(5, \"xy\", 2) = 2", "fsync(5) = 0", "write(5, \"z\", 1) = 1"];
    check(&calls, Disk::Live, &[("a", "xyz")]);
    check(&calls, Disk::Journal, &[("a", "xy")]);
    check(&calls, Disk::Posix, &[]);
}

#[test]
fn a_sync_of_everything_keeps_all_that_had_returned_before() {
    let calls = [
        MADE,
        "write(5, \"x\", 1) = 1",
        "write(5, \"y\", 1) = 1",
        "renameat(AT_FDCWD, \"/s/a\", AT_FDCWD, \"/s/b\") = 0",
    ];
    for (second, expected) in [(0, ("a", "")), (1, ("a", "x")), (3, ("b", "xy")), (9, ("b", "xy"))] {
        let all_down = Some(Duration::from_secs(second));
        let tree = replay(&record(&calls), Path::new("/s"), None, all_down, Disk::Posix).unwrap();
        let expected = (PathBuf::from(expected.0), expected.1.as_bytes().to_vec());
        assert_eq!(tree.files.into_iter().collect::<Vec<_>>(), [expected], "{second}");
    }
}

#[test]
fn an_fsync_of_the_folder_keeps_the_name_not_the_bytes() {
    let calls = [MADE, "write(5, \"xy\", 2) = 2", "openat(AT_FDCWD, \"/s\", O_RDONLY) = 6", "fsync(6) = 0"];
    check(&calls, Disk::Posix, &[("a", "")]);
}

#[test]
fn what_is_written_through_o_sync_is_kept() {
    let calls = ["openat(AT_FDCWD, \"/s/a\", O_WRONLY|O_CREAT|O_TRUNC|O_SYNC, 0600) = 5", "write(5, \"xy\", 2) = 2"];
    check(&calls, Disk::Journal, &[("a", "xy")]);
}

#[test]
fn a_renaming_without_fsync_of_the_folder_is_undone() {
    let renamed = "renameat(AT_FDCWD, \"/s/a\", AT_FDCWD, \"/s/b\") = 0";
    let calls = [MADE, "write(5, \"xy\", 2) = 2", "fsync(5) = 0", renamed];
    check(&calls, Disk::Journal, &[("a", "xy")]);
    let folder = ["openat(AT_FDCWD, \"/s\", O_RDONLY) = 6", "fsync(6) = 0"];
    check(&[&calls[..], &folder].concat(), Disk::Journal, &[("b", "xy")]);
    check(&[&calls[..], &folder].concat(), Disk::Posix, &[("b", "xy")]);
}

#[test]
fn a_removal_without_fsync_of_the_folder_is_undone() {
    let calls = [MADE, "fsync(5) = 0", "unlinkat(AT_FDCWD, \"/s/a\", 0) = 0"];
    check(&calls, Disk::Live, &[]);
    check(&calls, Disk::Journal, &[("a", "")]);
}

#[test]
fn an_fsync_keeps_only_what_was_written_before_it_began() {
    let text = "1 1.0 openat(AT_FDCWD, \"\\x2f\\x73\\x2f\\x61\", O_RDWR|O_CREAT, 0600) = 5 <0.0>\n\
                1 2.0 fsync(5 <unfinished ...>\n\
                2 2.5 pwrite64(5, \"\\x78\", 1, 0) = 1 <0.0>\n\
                1 3.0 <... fsync resumed>) = 0 <1.0>\n";
    let tree = replay(&Record::parse(text).unwrap(), Path::new("/s"), None, None, Disk::Journal).unwrap();
    assert_eq!(tree.files.get(Path::new("a")), Some(&Vec::new()));
}
