//! Replies of several lines and their enhanced codes.

use super::*;

#[track_caller]
fn check(input: &str, printed: &str) {
    let mut replies = Replies::default();
    replies.receive(input.as_bytes());
    let reply = replies.next_reply(&Bounds::default()).map(|reply| reply.map(|reply| reply.to_reply().to_string()));
    assert_eq!(reply, Ok(Some(printed.to_owned())));
    assert!(replies.is_empty());
}

#[test]
fn lines_are_joined_and_a_repeated_enhanced_code_is_taken_out() {
    check("250 ok\r\n", "250 ok");
    check("250\r\n", "250 ");
    check("550-5.1.1 no such\r\n550 5.1.1 user\r\n", "550 5.1.1 no such user");
    check("550-5.1.1 no such\r\n550 user\r\n", "550 5.1.1 no such user");
    check("550-no such\r\n550 5.1.1 user\r\n", "550 no such 5.1.1 user");
    check("550 5.1.1\r\n", "550 5.1.1 ");
}

#[test]
fn a_part_of_a_reply_is_not_nothing() {
    let mut replies = Replies::default();
    assert!(replies.is_empty());
    for part in ["2", "50-a\r\n", "250 "] {
        replies.receive(part.as_bytes());
        assert_eq!(replies.next_reply(&Bounds::default()), Ok(None));
        assert!(!replies.is_empty());
    }
}
