//! The server machine hears the same whatever pieces its input comes in.

use postrider_smtp::{Bounds, Question};
use proptest::prelude::*;

use crate::support::{Caller, Stop, config, pieces};

/// A line of a session: mostly good, sometimes not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let good = prop::sample::select(vec![
        "EHLO x",
        "MAIL FROM:<a@x>",
        "MAIL FROM:<>",
        "RCPT TO:<b@y>",
        "RCPT TO:<no@y>",
        "RSET",
        "NOOP",
        "HELP",
        "FOO",
        "MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nSubject: x\r\n\r\n..text\r\n.",
    ]);
    let content = "[a.\r\n\0]{0,12}".prop_map(|text| format!("DATA\r\n{text}\r\n."));
    let long = (40_usize..120).prop_map(|length| "NOOP ".to_owned() + &"x".repeat(length));
    let soup = prop::collection::vec(prop::sample::select(&b"a.\r\n\0 \xff"[..]), 0..8);
    prop_oneof![
        8 => good.prop_map(|text| text.as_bytes().to_vec()),
        3 => content.prop_map(String::into_bytes),
        1 => long.prop_map(String::into_bytes),
        1 => soup,
    ]
    .prop_map(|line| [&line[..], b"\r\n"].concat())
}

/// All that can be seen of a session.
fn session(bounds: &Bounds, input: &[u8], lengths: &[usize]) -> (String, Vec<Question>, Stop) {
    let mut caller = Caller::greeted(config(), bounds.clone());
    let mut said = String::new();
    for piece in pieces(input, lengths) {
        said += &caller.say(piece);
    }
    (said, caller.questions, caller.stop)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn any_input_in_any_pieces_gives_the_same_output(
        lines in prop::collection::vec(line(), 0..25),
        lengths in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let tight = Bounds {
            command_line_bytes: 80,
            text_line_bytes: 20,
            message_bytes: 60,
            errors_per_session: 8,
            discarded_bytes: 110,
            recipients: 2,
            ..Bounds::default()
        };
        let input = lines.concat();
        let whole = session(&tight, &input, &[usize::MAX]);
        prop_assert_eq!(&session(&tight, &input, &[1]), &whole);
        prop_assert_eq!(&session(&tight, &input, &lengths), &whole);
    }

    #[test]
    fn garbage_in_any_pieces_gives_the_same_output(
        input in prop::collection::vec(any::<u8>(), 0..400),
        lengths in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let whole = session(&Bounds::default(), &input, &[usize::MAX]);
        prop_assert_eq!(&session(&Bounds::default(), &input, &[1]), &whole);
        prop_assert_eq!(&session(&Bounds::default(), &input, &lengths), &whole);
    }
}
