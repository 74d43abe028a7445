//! Nothing that a client sends makes the server machine grow past its bounds.

use postrider_smtp::{Bounds, Phase};

use crate::support::{Caller, Stop, codes, config};

static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

#[test]
fn an_endless_command_line_is_thrown_away_and_then_the_session_too() {
    let bounds = Bounds { discarded_bytes: 1 << 20, ..Bounds::default() };
    let mut caller = Caller::greeted(config(), bounds);
    let mut said = String::new();
    let mut pieces = 0;
    while caller.stop != Stop::Close {
        said += &caller.say(PIECE);
        pieces += 1;
        assert!(caller.server.buffered_bytes() < 200 << 10);
    }
    assert_eq!((codes(&said), pieces), (vec![421], 16));
}

#[test]
fn a_line_too_long_is_refused_at_its_end_and_the_session_goes_on() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.say(PIECE);
    caller.say(PIECE);
    caller.check("NOOP", "500 5.5.2 Line too long");
    caller.check("NOOP", "250 2.0.0 Ok");
    assert_eq!(caller.codes("NOOP ".to_owned() + &"x".repeat(2048 - 7)), [250]);
    assert_eq!(caller.codes("NOOP ".to_owned() + &"x".repeat(2048 - 6)), [500]);
}

/// Lines of 64 octets.
fn lines(bytes: usize) -> Vec<u8> {
    let line = [&[b'a'; 62][..], b"\r\n"].concat();
    line.iter().copied().cycle().take(bytes).collect()
}

#[test]
fn a_message_too_large_is_refused_after_its_end_within_bounds_and_the_session_goes_on() {
    let bounds = Bounds { message_bytes: 256 << 10, ..Bounds::default() };
    let mut caller = Caller::greeted(config(), bounds);
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
    let piece = lines(64 << 10);
    for _ in 0..40 {
        assert_eq!(caller.say(&piece), "");
        assert!(caller.server.buffered_bytes() <= (256 << 10) + (32 << 10), "{}", caller.server.buffered_bytes());
    }
    assert_eq!(caller.say(".\r\n"), "552 5.3.4 Message size exceeds fixed maximum message size\r\n");
    assert!(caller.submissions().is_empty());
    assert_eq!(codes(&caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n")), [250, 250, 354]);
    assert_eq!(codes(&caller.say("small\r\n.\r\n")), [250]);
}

#[test]
fn a_message_of_exactly_the_bound_is_taken() {
    for (size, code) in [(4096, 250), (4097, 552)] {
        let mut caller = Caller::greeted(config(), Bounds { message_bytes: 4096, ..Bounds::default() });
        caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
        let mut message = lines(4096 - 64);
        message.extend(std::iter::repeat_n(b'b', size - message.len() - 2));
        message.extend_from_slice(b"\r\n.\r\n");
        assert_eq!(codes(&caller.say(&message)), [code]);
        assert_eq!(
            caller.submissions().iter().map(|s| s.message.len()).sum::<usize>(),
            if code == 250 { size } else { 0 }
        );
    }
}

#[test]
fn a_message_without_end_ends_the_session() {
    let bounds = Bounds { message_bytes: 1 << 10, discarded_bytes: 1 << 20, ..Bounds::default() };
    let mut caller = Caller::greeted(config(), bounds);
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
    let piece = lines(64 << 10);
    let mut said = String::new();
    while caller.stop == Stop::Read(Phase::Data) {
        said += &caller.say(&piece);
    }
    assert_eq!((codes(&said), caller.stop), (vec![421], Stop::Close));
}

#[test]
fn a_text_line_too_long_is_refused_after_the_end_and_the_session_goes_on() {
    for (length, code) in [(998, 250), (999, 550)] {
        for prefix in ["", "short\r\n", "..\r\n.."] {
            let mut caller = Caller::greeted(config(), Bounds::default());
            caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
            let line = "x".repeat(if prefix.ends_with("..") { length - 1 } else { length });
            assert_eq!(codes(&caller.say(format!("{prefix}{line}\r\nmore\r\n.\r\n"))), [code], "{length} {prefix}");
            assert_eq!(caller.codes("NOOP"), [250]);
        }
    }
}

#[test]
fn too_many_recipients_are_told_to_come_again() {
    let mut caller = Caller::greeted(config(), Bounds { recipients: 2, ..Bounds::default() });
    caller.codes("MAIL FROM:<a@x>");
    assert_eq!(codes(&caller.say("RCPT TO:<b@y>\r\n".repeat(3))), [250, 250, 452]);
    assert_eq!(codes(&caller.say("DATA\r\n.\r\n")), [354, 250]);
    assert_eq!(caller.submissions()[0].recipients.len(), 2);
}

#[test]
fn too_many_errors_end_the_session() {
    let mut caller = Caller::greeted(config(), Bounds { errors_per_session: 3, ..Bounds::default() });
    assert_eq!(codes(&caller.say("FOO\r\n".repeat(9))), [500, 500, 500, 421]);
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn a_pipelining_client_whose_sender_is_refused_makes_no_errors() {
    let mut caller = Caller::greeted(config(), Bounds { errors_per_session: 1, ..Bounds::default() });
    let group = format!("MAIL FROM:<no@x>\r\n{}DATA\r\n", "RCPT TO:<b@y>\r\n".repeat(5));
    assert_eq!(codes(&caller.say(&group)), [550, 503, 503, 503, 503, 503, 503]);
    assert_eq!(codes(&caller.say(&group)), [550, 503, 503, 503, 503, 503, 503]);
    assert_eq!(codes(&caller.say("RSET\r\nRCPT TO:<b@y>\r\nDATA\r\n")), [250, 503, 421]);
}

#[test]
fn idle_commands_and_all_commands_are_bounded() {
    let mut caller = Caller::greeted(config(), Bounds { idle_commands: 4, ..Bounds::default() });
    assert_eq!(codes(&caller.say("NOOP\r\nRSET\r\nVRFY x\r\n")), [250, 250, 252]);
    assert_eq!(codes(&caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n.\r\n")), [250, 250, 354, 250]);
    assert_eq!(codes(&caller.say("NOOP\r\n".repeat(9))), [250, 250, 250, 250, 421]);

    let mut caller = Caller::greeted(config(), Bounds { commands_per_session: 3, ..Bounds::default() });
    assert_eq!(codes(&caller.say("NOOP\r\n".repeat(9))), [250, 250, 421]);
}

#[test]
fn replies_to_a_flood_of_commands_leave_in_pieces() {
    let mut caller = Caller::greeted(config(), Bounds { idle_commands: 10_000, ..Bounds::default() });
    caller.say("NOOP\r\n".repeat(5_000));
    assert!(caller.sends.len() > 3);
    assert!(caller.sends.iter().all(|send| send.len() < 17 << 10));
}
