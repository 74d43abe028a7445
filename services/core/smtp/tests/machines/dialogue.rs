//! What a client hears from the server machine in ordinary sessions.

use postrider_model::{EnhancedCode, Reply};
use postrider_smtp::{Bounds, Phase, Question, TlsOffer, Verdict};

use crate::support::{Caller, Stop, codes, config};

#[test]
fn a_message_is_taken_with_all_that_was_said_about_it() {
    let mut caller = Caller::new(config(), Bounds::default());
    assert_eq!(caller.run(), "220 mx.example.com ESMTP Postrider\r\n");
    assert_eq!(caller.stop, Stop::Read(Phase::Greeting));
    caller.say("EHLO client.example\r\n");
    caller.check("MAIL FROM:<a@x.example> SIZE=30 BODY=8BITMIME SMTPUTF8", "250 2.1.0 Ok");
    caller.check("RCPT TO:<b@Y.example>", "250 2.1.5 Ok");
    caller.check("RCPT TO:<no@y.example>", "550 5.7.1 no");
    caller.check("RCPT TO:<c@y.example>", "250 2.1.5 Ok");
    caller.check("DATA", "354 End data with <CR><LF>.<CR><LF>");
    assert_eq!(caller.stop, Stop::Read(Phase::Data));
    caller.check("Subject: x\r\n\r\n..\r\n..a\r\n.", "250 2.0.0 queued as 1");
    caller.check("QUIT", "221 2.0.0 mx.example.com Bye");
    assert_eq!(caller.stop, Stop::Close);

    let submissions = caller.submissions();
    let [submission] = submissions[..] else { panic!("one message") };
    assert_eq!(submission.sender.to_string(), "a@x.example");
    assert_eq!(
        submission.recipients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["b@y.example", "c@y.example"]
    );
    assert_eq!(submission.message.as_ref(), b"Subject: x\r\n\r\n.\r\n.a\r\n");
    assert_eq!((submission.hello.as_str(), submission.extended, submission.tls), ("client.example", true, false));
    let parameters = &submission.parameters;
    assert_eq!((parameters.size, parameters.eight_bit, parameters.smtputf8), (Some(30), true, true));
}

#[test]
fn ehlo_lists_what_is_offered_and_helo_nothing() {
    let mut caller = Caller::new(config(), Bounds { message_bytes: 1000, ..Bounds::default() });
    caller.run();
    let offered = "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES";
    caller.check("EHLO x", offered);
    caller.check("HELO x", "250 mx.example.com");
    caller.check("MAIL FROM:<a@x> SIZE=1", "555 5.5.4 Parameter not recognized or not implemented");
}

#[test]
fn replies_to_pipelined_commands_come_in_order_and_in_one_piece() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    let sends = caller.sends.len();
    let group = "MAIL FROM:<a@x>\r\nRCPT TO:<no@y>\r\nRCPT TO:<later@y>\r\nRCPT TO:<b@y>\r\nDATA\r\n";
    assert_eq!(codes(&caller.say(group)), [250, 550, 450, 250, 354]);
    assert_eq!(caller.sends.len(), sends + 1);
}

#[test]
fn a_message_and_the_next_commands_may_come_together() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
    let rest = "one\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@y>\r\nDATA\r\n";
    assert_eq!(codes(&caller.say(rest)), [250, 250, 250, 354]);
    assert_eq!(codes(&caller.say("two\r\n.\r\nQUIT\r\n")), [250, 221]);
    assert_eq!(caller.submissions().iter().map(|s| s.message.as_ref()).collect::<Vec<_>>(), [b"one\r\n", b"two\r\n"]);
}

#[test]
fn an_empty_message_ends_at_once() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n");
    assert_eq!(codes(&caller.say(".\r\n")), [250]);
    assert!(caller.submissions()[0].message.is_empty());
}

#[test]
fn small_commands_are_answered() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.check("NOOP anything goes", "250 2.0.0 Ok");
    caller.check("noop", "250 2.0.0 Ok");
    caller.check("RSET ", "250 2.0.0 Ok");
    caller.check("VRFY postmaster", "252 2.0.0 Cannot verify, but will take mail for it");
    assert_eq!(caller.codes("HELP"), [214]);
    assert_eq!(caller.codes("HELP MAIL"), [214]);
    for missing in ["EXPN list", "ETRN x", "BDAT 3 LAST", "TURN"] {
        assert_eq!(caller.codes(missing), [502], "{missing}");
    }
    assert_eq!(caller.codes("FOO"), [500]);
    assert_eq!(caller.codes(""), [500]);
    assert_eq!(caller.codes("é"), [500]);
    assert_eq!(caller.codes(b"NOOP \xff"), [500]);
    for argument in ["RSET x", "QUIT x", "DATA x"] {
        assert!(matches!(caller.codes(argument)[..], [501 | 503]), "{argument}");
    }
    assert_eq!(caller.codes("VRFY"), [501]);
    assert_eq!(caller.codes("EHLO"), [501]);
    assert_eq!(caller.codes("EHLO a b"), [501]);
}

#[test]
fn every_answer_but_greeting_and_hello_has_an_enhanced_code_of_its_class() {
    let mut caller = Caller::new(config(), Bounds::default());
    caller.run();
    assert_eq!(caller.say("EHLO\r\n"), "501 Syntax: EHLO or HELO and one host name or address literal\r\n");
    caller.say("EHLO x\r\n");
    let lines = [
        "NOOP",
        "VRFY a",
        "HELP",
        "RSET",
        "FOO",
        "EXPN",
        "AUTH PLAIN",
        "STARTTLS",
        "RCPT TO:<a@b>",
        "DATA",
        "MAIL x",
        "MAIL FROM:<é@x>",
        "MAIL FROM:<a@x> FOO=1",
        "MAIL FROM:<a@x> SIZE=99999999999999999999",
        "MAIL FROM:<a@x>",
        "MAIL FROM:<a@x>",
        "RCPT TO:<no@y>",
        "RCPT TO:<later@y>",
        "DATA",
        "QUIT",
    ];
    for line in lines {
        let answer = caller.say(format!("{line}\r\n"));
        let (code, enhanced) = (&answer[..3], answer[4..].split(' ').next().unwrap());
        let enhanced: EnhancedCode = enhanced.parse().unwrap_or_else(|()| panic!("{line}: {answer}"));
        assert_eq!(code[..1], enhanced.0.to_string(), "{line}: {answer}");
    }
}

#[test]
fn who_talks_before_the_greeting_is_turned_away() {
    let mut caller = Caller::new(config(), Bounds::default());
    assert_eq!(codes(&caller.say("EHLO x\r\n")), [554]);
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn a_declared_size_above_the_bound_is_refused_at_mail() {
    let mut caller = Caller::greeted(config(), Bounds { message_bytes: 100, ..Bounds::default() });
    caller.check("MAIL FROM:<a@x> SIZE=101", "552 5.3.4 Message size exceeds fixed maximum message size");
    assert_eq!(caller.codes("MAIL FROM:<a@x> SIZE=100"), [250]);
}

#[test]
fn a_second_ehlo_ends_the_transaction_and_a_malformed_one_does_not() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    assert_eq!(caller.codes("MAIL FROM:<a@x>"), [250]);
    assert_eq!(caller.codes("EHLO"), [501]);
    assert_eq!(caller.codes("RCPT TO:<b@y>"), [250]);
    assert_eq!(caller.codes("EHLO x"), [250]);
    assert_eq!(caller.codes("RCPT TO:<b@y>"), [503]);
}

#[test]
fn a_verdict_may_close_the_connection() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller = caller.with_policy(|_| Verdict::Close(Reply::new(421, Some(EnhancedCode(4, 7, 1)), "too busy")));
    caller.check("MAIL FROM:<a@x>", "421 4.7.1 too busy");
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn a_refusal_in_words_of_consent_stays_a_refusal() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller = caller.with_policy(|_| Verdict::Refuse(Reply::new(250, None, "fine")));
    assert_eq!(caller.codes("MAIL FROM:<a@x>"), [451]);
    caller = caller.with_policy(|_| Verdict::AcceptWith(Reply::new(550, None, "no")));
    assert_eq!(caller.codes("MAIL FROM:<a@x>"), [550]);
}

#[test]
fn a_question_without_an_answer_is_refused_for_now() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.server.receive(b"MAIL FROM:<a@x>\r\n");
    assert!(matches!(caller.server.step(), postrider_smtp::ServerStep::Ask(Question::Mail { .. })));
    assert_eq!(codes(&caller.run()), [451]);
}

#[test]
fn a_refused_data_keeps_the_transaction() {
    let mut caller = Caller::greeted(config(), Bounds::default()).with_policy(|question| match question {
        Question::Data { .. } => Verdict::Refuse(Reply::new(452, Some(EnhancedCode(4, 3, 1)), "full")),
        _ => Verdict::Accept,
    });
    caller.say("MAIL FROM:<a@x> SIZE=5\r\nRCPT TO:<b@y>\r\n");
    caller.check("DATA", "452 4.3.1 full");
    assert_eq!(caller.questions.last(), Some(&Question::Data { recipients: 1, declared_bytes: Some(5) }));
    assert_eq!(caller.codes("RCPT TO:<c@y>"), [250]);
}

#[test]
fn shutting_down_lets_a_message_finish_and_takes_no_other() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nhalf");
    caller.server.shut_down();
    assert_eq!(caller.run(), "");
    let said = caller.say(" a message\r\n.\r\nMAIL FROM:<a@x>\r\n");
    assert_eq!(codes(&said), [250, 421]);
    assert!(said.ends_with("421 4.3.2 mx.example.com Service shutting down, try again\r\n"));
    assert_eq!((caller.stop, caller.submissions().len()), (Stop::Close, 1));
}

#[test]
fn shutting_down_ends_an_idle_session_at_once() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.server.shut_down();
    assert_eq!(codes(&caller.run()), [421]);
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn who_is_turned_away_is_not_greeted() {
    let mut caller = Caller::new(config(), Bounds::default());
    caller.server.turn_away(Reply::new(421, None, "mx.example.com too many connections"));
    assert_eq!(caller.run(), "421 mx.example.com too many connections\r\n");
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn silence_ends_a_session_with_421() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.server.timed_out();
    assert_eq!(caller.run(), "421 4.4.2 mx.example.com Timeout, closing connection\r\n");
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn a_client_that_leaves_amid_a_message_leaves_nothing() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\nhalf a message\r\n.");
    caller.server.end_of_stream();
    assert_eq!(caller.run(), "");
    assert_eq!((caller.stop, caller.submissions().len()), (Stop::Close, 0));
}

#[test]
fn a_listener_may_insist_on_tls_and_on_authentication() {
    let mut demanding = config();
    demanding.tls = TlsOffer::StartTls;
    demanding.require_tls = true;
    let mut caller = Caller::greeted(demanding, Bounds::default());
    assert_eq!(caller.codes("NOOP"), [250]);
    caller.check("MAIL FROM:<a@x>", "530 5.7.0 Must issue a STARTTLS command first");
    assert_eq!(caller.codes("VRFY a"), [530]);

    let mut demanding = config();
    demanding.require_auth = true;
    let mut caller = Caller::greeted(demanding, Bounds::default());
    caller.check("MAIL FROM:<a@x>", "530 5.7.0 Authentication required");
}
