//! SMTP smuggling (CVE-2023-51764 to 51766, CVE-2024-27305): nothing but CRLF . CRLF ends the data, on the way in and on the
//! way out.

use bytes::Bytes;
use postrider_model::{EnhancedCode, Reply};
use postrider_smtp::{Bounds, ClientPhase, ClientStep, RecipientResult};
use proptest::prelude::*;

use crate::support::{Caller, Host, Stop, config, pieces, transaction};

const FALSE_ENDS: [&str; 12] = [
    "\n.\n",
    "\n.\r",
    "\r.\n",
    "\r.\r",
    "\n.\r\n",
    "\r.\r\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\r\n",
    "\r\r\n.\r\r\n",
];

/// A session amid DATA.
fn amid_data() -> Caller {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
    caller
}

#[track_caller]
fn check_refused(content: &[u8], lengths: &[usize]) {
    let mut caller = amid_data();
    let mut said = String::new();
    for piece in pieces(content, lengths) {
        said += &caller.say(piece);
    }
    assert_eq!(
        said, "550 5.6.0 Message refused: bare CR, bare LF or NUL in its content\r\n",
        "{content:?} {lengths:?}"
    );
    assert_eq!((caller.stop, caller.submissions().len()), (Stop::Close, 0), "{content:?} {lengths:?}");
}

#[test]
fn no_false_end_ends_the_data_and_nothing_behind_it_is_obeyed() {
    for end in FALSE_ENDS {
        let smuggled = "MAIL FROM:<evil@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nevil\r\n.\r\n";
        let content = format!("Subject: x\r\n\r\nhello{end}{smuggled}").into_bytes();
        check_refused(&content, &[usize::MAX]);
        for length in 1..16 {
            check_refused(&content, &[length]);
        }
        for cut in 1..content.len() {
            check_refused(&content, &[cut, usize::MAX]);
        }
    }
}

#[test]
fn no_false_end_is_an_end_even_right_after_data() {
    for end in FALSE_ENDS {
        let content = format!("{end}\r\n.\r\n").into_bytes();
        check_refused(&content, &[usize::MAX]);
        check_refused(&content, &[1]);
    }
}

/// What a stream after 354 means: the content if it is clean, and how long it is with its end. Naive on purpose.
fn naive(stream: &[u8]) -> Option<(Option<Vec<u8>>, usize)> {
    let with_line_start = [b"\r\n", stream].concat();
    let end = with_line_start.windows(5).position(|window| window == b"\r\n.\r\n")?;
    let text = &with_line_start[2..(end + 2).max(2)];
    let bare = |index: usize| match text[index] {
        0 => true,
        b'\r' => text.get(index + 1) != Some(&b'\n'),
        b'\n' => index == 0 || text[index - 1] != b'\r',
        _ => false,
    };
    let clean = !(0..text.len()).any(bare);
    let unstuffed = || {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let lines = text.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line));
        lines.collect::<String>().into_bytes()
    };
    Some((clean.then(unstuffed), end + 3))
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["\r\n", "\r\n", ".", "..", "a", "\r\n.", "\r", "\n", "\0"]);
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn the_data_ends_at_the_first_true_end_and_is_taken_only_if_clean(
        soup in soup(),
        lengths in prop::collection::vec(1_usize..20, 1..5),
    ) {
        let stream = [&soup[..], b"\r\n.\r\n"].concat();
        let (content, length) = naive(&stream).unwrap();
        let mut caller = amid_data();
        let said: String = pieces(&stream[..length], &lengths).into_iter().map(|piece| caller.say(piece)).collect();
        match content {
            Some(content) => {
                prop_assert_eq!(said, "250 2.0.0 queued as 1\r\n");
                prop_assert_eq!(caller.submissions()[0].message.as_ref(), &content[..]);
            }
            None => {
                prop_assert!(said.starts_with("550 5.6.0 "), "{}", said);
                prop_assert_eq!(caller.stop, Stop::Close);
            }
        }
    }

    #[test]
    fn what_the_client_sends_holds_one_end_at_its_end_and_means_the_message(soup in soup()) {
        let mut host = Host::ready(&["PIPELINING"]);
        let mut work = transaction(&["b"], "");
        work.message = Bytes::from(soup.clone());
        host.client.transact(work);
        let clean = naive(&[&soup[..], b"\r\n.\r\n"].concat()).is_some_and(|(_, length)| length > soup.len())
            || !soup.windows(5).any(|window| window == b"\r\n.\r\n");
        match host.client.step() {
            ClientStep::Send(_) => {
                host.expect(ClientStep::Read { phase: ClientPhase::Mail });
                host.reply("250 ok\r\n250 ok\r\n354 go");
                let ClientStep::Send(wire) = host.client.step() else { panic!("no content") };
                let (content, length) = naive(&wire).unwrap();
                prop_assert_eq!(length, wire.len());
                let complete = soup.is_empty() || soup.ends_with(b"\r\n");
                let line_end: &[u8] = if complete { b"" } else { b"\r\n" };
                prop_assert_eq!(content.unwrap(), [&soup[..], line_end].concat());
            }
            ClientStep::Done(result) => {
                let reply = Reply::new(550, Some(EnhancedCode(5, 6, 0)), "Message holds a bare CR, a bare LF or a NUL");
                let refused = RecipientResult::Refused { phase: ClientPhase::DataBlock, reply };
                prop_assert_eq!(result.recipients, vec![(0, refused)]);
                prop_assert!(soup.contains(&0) || !clean || has_bare_line_end(&soup));
                host.expect(ClientStep::Ready);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn has_bare_line_end(text: &[u8]) -> bool {
    let mut rest = String::from_utf8(text.to_vec()).unwrap();
    rest = rest.replace("\r\n", "");
    rest.contains(['\r', '\n'])
}

#[test]
fn a_client_sends_none_of_the_false_ends() {
    for end in FALSE_ENDS {
        let mut host = Host::ready(&["PIPELINING"]);
        host.client.transact(transaction(&["b"], &format!("hello{end}MAIL FROM:<evil@x>\r\n")));
        assert!(matches!(host.client.step(), ClientStep::Done(_)), "{end:?}");
    }
}

#[test]
fn what_hides_behind_a_bare_line_feed_in_a_command_is_never_obeyed() {
    for hidden in ["NOOP\nRSET\r\n", "NOOP\rRSET\r\n", "NOOP\0\r\n", "\nRSET\r\n", "NOOP\r\r\n", "NOOP\n\nRSET\r\n"] {
        let mut caller = Caller::greeted(config(), Bounds::default());
        let said = caller.say(hidden);
        let lines = hidden.matches('\n').count();
        assert_eq!(said, "500 5.5.2 Bare CR, bare LF or NUL: lines end in CRLF\r\n".repeat(lines), "{hidden:?}");
        assert_eq!(caller.codes("NOOP"), [250], "{hidden:?}");
    }
}
