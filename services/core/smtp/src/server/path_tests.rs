//! Small parts of the path grammar; whole commands are tested from outside.

use super::*;

#[test]
fn the_bracket_that_closes_a_path_is_not_one_within_quotes() {
    assert_eq!(split_path("<\"a>b\"@c> SIZE=1"), Ok(("\"a>b\"@c", " SIZE=1")));
    assert_eq!(split_path("<\"a\\\">b\"@c>"), Ok(("\"a\\\">b\"@c", "")));
    assert_eq!(split_path("<\"a>b@c>"), Err(NO_BRACKETS));
}

#[test]
fn xtext_is_decoded_strictly() {
    let table = [
        ("a@b", Some("a@b")),
        ("a+2Bb", Some("a+b")),
        ("+3D", Some("=")),
        ("+C3+A9", Some("é")),
        ("<>", Some("<>")),
        ("+2b", None),
        ("+2", None),
        ("+", None),
        ("+ZZ", None),
        ("+FF", None),
        ("+0A", None),
        ("+00", None),
    ];
    for (text, decoded) in table {
        assert_eq!(xtext(text).as_deref(), decoded, "{text}");
    }
}
