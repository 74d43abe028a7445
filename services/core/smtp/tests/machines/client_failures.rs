//! Servers that break the protocol, hang up or fall silent while the client machine is at work.

use postrider_smtp::{Bounds, ClientPhase, ClientStep, CloseReason, RecipientResult, TlsWish};

use crate::support::{Host, client_config, transaction};

/// After MAIL, RCPT, RCPT, DATA in one group.
fn grouped() -> Host {
    let mut host = Host::ready(&["PIPELINING"]);
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.sent();
    host
}

/// After the end of the content.
fn ended() -> Host {
    let mut host = grouped();
    host.reply("250 ok\r\n550 no\r\n250 ok\r\n354 go");
    host.expect_sent("hello\r\n.\r\n");
    host
}

/// The result of the second recipient and why the connection closed.
#[track_caller]
fn outcome(host: &mut Host) -> (RecipientResult, CloseReason) {
    let result = loop {
        match host.client.step() {
            ClientStep::Read { .. } | ClientStep::Send(_) => {}
            ClientStep::Done(result) => break result,
            other => panic!("{other:?}"),
        }
    };
    assert!(!result.usable);
    let ClientStep::Close(reason) = host.client.step() else { panic!("not closed") };
    assert!(matches!(host.client.step(), ClientStep::Close(_)));
    (result.recipients[1].1.clone(), reason)
}

#[track_caller]
fn check_lost(mut host: Host, in_phase: ClientPhase, after: bool) {
    match outcome(&mut host) {
        (RecipientResult::Lost { phase, after_end_of_data, .. }, _) => {
            assert_eq!((phase, after_end_of_data), (in_phase, after))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_lost_in_any_phase_leaves_its_recipients_lost() {
    for replies in ["", "250 ok\r\n", "250 ok\r\n250 ok\r\n250 ok\r\n"] {
        let mut host = grouped();
        host.client.receive(replies.as_bytes());
        host.client.end_of_stream();
        let phase = [ClientPhase::Mail, ClientPhase::Rcpt, ClientPhase::Rcpt, ClientPhase::DataCommand];
        check_lost(host, phase[replies.matches('\n').count()], false);
    }
    let mut host = grouped();
    host.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go");
    host.client.end_of_stream();
    check_lost(host, ClientPhase::DataBlock, false);
}

#[test]
fn a_connection_lost_after_the_end_is_told_apart() {
    let mut host = ended();
    host.client.end_of_stream();
    check_lost(host, ClientPhase::DataEnd, true);

    let mut host = ended();
    host.client.timed_out();
    let (_, reason) = outcome(&mut host);
    assert_eq!(reason, CloseReason::TimedOut { phase: ClientPhase::DataEnd });
}

#[test]
fn who_was_refused_before_the_loss_stays_refused() {
    let mut host = ended();
    host.client.end_of_stream();
    host.expect(host_done_first_refused());
}

fn host_done_first_refused() -> ClientStep {
    use postrider_model::Reply;
    let no = RecipientResult::Refused { phase: ClientPhase::Rcpt, reply: Reply::new(550, None, "no") };
    let lost = RecipientResult::Lost {
        phase: ClientPhase::DataEnd,
        after_end_of_data: true,
        why: "connection lost".to_owned(),
    };
    ClientStep::Done(postrider_smtp::TransactionResult { recipients: vec![(0, no), (1, lost)], usable: false })
}

#[test]
fn a_reply_that_came_before_the_end_of_the_stream_still_counts() {
    let mut host = ended();
    host.reply("250 taken");
    host.client.end_of_stream();
    assert!(matches!(host.client.step(), ClientStep::Done(result) if !result.usable
        && matches!(result.recipients[1].1, RecipientResult::Accepted(_))));
    host.expect(ClientStep::Close(CloseReason::Lost { phase: ClientPhase::Idle }));
}

#[test]
fn a_421_in_any_phase_refuses_whoever_has_no_result_and_ends_the_connection() {
    let phases = [ClientPhase::Mail, ClientPhase::Rcpt, ClientPhase::Rcpt, ClientPhase::DataCommand];
    for (positive, expected) in phases.into_iter().enumerate() {
        let mut host = grouped();
        host.client.receive("250 ok\r\n".repeat(positive).as_bytes());
        host.reply("421 4.3.2 going down");
        let (result, reason) = outcome(&mut host);
        let RecipientResult::Refused { phase, reply } = result else { panic!("{result:?}") };
        assert_eq!((phase, reply.code), (expected, 421));
        assert_eq!(reason, CloseReason::Refused { phase, reply });
    }
    let mut host = ended();
    host.reply("421 4.3.2 going down");
    let (result, _) = outcome(&mut host);
    assert!(matches!(result, RecipientResult::Refused { phase: ClientPhase::DataEnd, .. }));
}

#[test]
fn go_ahead_at_the_wrong_time_breaks_the_protocol() {
    for (replies, phase) in [
        ("354 go", ClientPhase::Mail),
        ("250 ok\r\n354 go", ClientPhase::Rcpt),
        ("250 ok\r\n250 ok\r\n250 ok\r\n250 taken", ClientPhase::DataCommand),
    ] {
        let mut host = grouped();
        host.reply(replies);
        let (result, reason) = outcome(&mut host);
        assert!(matches!(result, RecipientResult::Lost { after_end_of_data: false, .. }), "{result:?}");
        assert!(matches!(reason, CloseReason::Protocol { phase: when, .. } if when == phase), "{reason:?}");
    }
    let mut host = ended();
    host.reply("354 go on");
    let (result, _) = outcome(&mut host);
    let why = "end of data was answered with 354 go on".to_owned();
    assert_eq!(result, RecipientResult::Lost { phase: ClientPhase::DataEnd, after_end_of_data: true, why });
}

#[test]
fn a_positive_reply_before_the_end_of_the_content_breaks_the_protocol() {
    let mut host = grouped();
    host.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken already");
    let (result, _) = outcome(&mut host);
    assert!(matches!(result, RecipientResult::Lost { phase: ClientPhase::DataBlock, after_end_of_data: false, .. }));
}

#[test]
fn a_refusal_amid_the_content_is_the_answer() {
    let mut host = Host::ready(&["PIPELINING"]);
    host.client.transact(transaction(&["b", "c"], &"a long line\r\n".repeat(50_000)));
    host.sent();
    host.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go");
    host.sent();
    host.reply("552 5.3.4 too large");
    host.client.end_of_stream();
    let (result, _) = outcome(&mut host);
    let RecipientResult::Refused { phase: ClientPhase::DataBlock, reply } = result else { panic!("{result:?}") };
    assert_eq!(reply.to_string(), "552 5.3.4 too large");
}

#[test]
fn a_refused_reset_loses_the_connection_and_no_recipient_for_ever() {
    let mut host = grouped();
    host.reply("250 ok\r\n550 no\r\n550 no\r\n554 nobody");
    assert!(matches!(host.client.step(), ClientStep::Done(_)));
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.sent();
    host.reply("502 no RSET here");
    check_lost(host, ClientPhase::Rset, false);
}

#[test]
fn replies_without_form_break_the_protocol() {
    for nonsense in [
        "hello",
        "25 ok",
        "2500 ok",
        "199 ok",
        "600 ok",
        "250+ok",
        "250-ok\r\n251 ok",
        "\u{1b}250 ok",
        "",
        "-250 ok",
        "+50 ok",
    ] {
        let mut host = grouped();
        host.reply(nonsense);
        let (result, reason) = outcome(&mut host);
        assert!(matches!(result, RecipientResult::Lost { phase: ClientPhase::Mail, .. }), "{nonsense:?} {result:?}");
        assert!(matches!(reason, CloseReason::Protocol { .. }), "{nonsense:?} {reason:?}");
    }
}

#[test]
fn an_endless_reply_is_cut_off() {
    for endless in ["x", "250-more\r\n"] {
        let mut host = Host::new(client_config(TlsWish::Never));
        host.client.receive(b"250-");
        let mut received = 0;
        while matches!(host.client.step(), ClientStep::Read { .. }) {
            host.client.receive(endless.repeat(100).as_bytes());
            received += endless.len() * 100;
            assert!(received < 128 << 10);
        }
        assert!(matches!(host.client.step(), ClientStep::Close(CloseReason::Protocol { .. })));
    }
}

#[test]
fn a_line_too_long_is_cut_and_still_understood() {
    let mut host = Host::bounded(client_config(TlsWish::Never), Bounds { reply_line_bytes: 20, ..Bounds::default() });
    host.open(&["SIZE 12", "8BITMIME and so on and on and on and on"]);
    assert!(host.client.capabilities().eight_bit_mime);
}

#[test]
fn what_a_server_says_is_cleaned_joined_and_its_enhanced_code_taken_out() {
    let mut host = ended();
    host.client.receive(b"550-5.7.1 not\x1b[31m\0\xff\r\n550-5.7.1  today\n550 5.7.2 bye\r\n");
    let ClientStep::Done(result) = host.client.step() else { panic!("not done") };
    let (_, RecipientResult::Refused { reply, .. }) = &result.recipients[1] else { panic!("{result:?}") };
    assert_eq!(reply.to_string(), "550 5.7.1 not [31m \u{fffd}  today 5.7.2 bye");
}

#[test]
fn an_enhanced_code_of_another_class_is_just_text() {
    let mut host = ended();
    host.reply("550 4.7.1 hm");
    let ClientStep::Done(result) = host.client.step() else { panic!("not done") };
    let (_, RecipientResult::Refused { reply, .. }) = &result.recipients[1] else { panic!("{result:?}") };
    assert_eq!((reply.enhanced, reply.text.as_str()), (None, "4.7.1 hm"));
}

#[test]
fn giving_up_amid_a_transaction_loses_its_recipients() {
    let mut host = ended();
    host.client.quit();
    let (result, reason) = outcome(&mut host);
    assert!(matches!(result, RecipientResult::Lost { after_end_of_data: true, .. }));
    assert_eq!(reason, CloseReason::Finished);
}
