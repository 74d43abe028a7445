//! Transactions of the client machine with servers that keep the protocol.

use bytes::Bytes;
use postrider_model::{EnhancedCode, Reply};
use postrider_smtp::{
    ClientConfig, ClientPhase, ClientStep, CloseReason, RecipientResult, TlsWish, Transaction, TransactionResult,
};

use crate::support::{Host, client_config, transaction};

fn accepted(text: &str) -> RecipientResult {
    RecipientResult::Accepted(Reply::new(250, None, text))
}

fn refused(phase: ClientPhase, code: u16, text: &str) -> RecipientResult {
    RecipientResult::Refused { phase, reply: Reply::new(code, None, text) }
}

#[track_caller]
fn done(host: &mut Host, results: &[RecipientResult]) {
    let recipients = (0..).zip(results.iter().cloned()).collect();
    host.expect(ClientStep::Done(TransactionResult { recipients, usable: true }));
    host.expect(ClientStep::Ready);
}

const GROUP: &str = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nRCPT TO:<c@y.example>\r\nDATA\r\n";

/// A transaction with two recipients whose commands have been sent in one group.
fn grouped() -> Host {
    let mut host = Host::ready(&["PIPELINING"]);
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.expect_sent(GROUP);
    host.expect(ClientStep::Read { phase: ClientPhase::Mail });
    host
}

#[test]
fn pipelined_commands_leave_together_and_the_message_with_its_end() {
    let mut host = grouped();
    host.reply("250 ok");
    host.expect(ClientStep::Read { phase: ClientPhase::Rcpt });
    host.reply("250 ok\r\n250 ok");
    host.expect(ClientStep::Read { phase: ClientPhase::DataCommand });
    host.reply("354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken");
    done(&mut host, &[accepted("taken"), accepted("taken")]);
}

#[test]
fn without_pipelining_each_command_waits_for_its_answer() {
    let mut host = Host::ready(&[]);
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.answer("MAIL FROM:<a@x.example>", "250 ok");
    host.answer("RCPT TO:<b@y.example>", "550 who?");
    host.answer("RCPT TO:<c@y.example>", "250 ok");
    host.answer("DATA", "354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken");
    done(&mut host, &[refused(ClientPhase::Rcpt, 550, "who?"), accepted("taken")]);
}

#[test]
fn without_pipelining_a_transaction_that_nobody_wants_stops_early_and_is_reset() {
    let mut host = Host::ready(&[]);
    host.client.transact(transaction(&["b"], "hello\r\n"));
    host.answer("MAIL FROM:<a@x.example>", "550 not you");
    done(&mut host, &[refused(ClientPhase::Mail, 550, "not you")]);

    host.client.transact(transaction(&["b"], "hello\r\n"));
    host.answer("MAIL FROM:<a@x.example>", "250 ok");
    host.answer("RCPT TO:<b@y.example>", "450 later");
    done(&mut host, &[refused(ClientPhase::Rcpt, 450, "later")]);

    host.client.transact(transaction(&["b"], "hello\r\n"));
    host.answer("RSET", "250 ok");
    host.answer("MAIL FROM:<a@x.example>", "250 ok");
}

#[test]
fn a_reset_that_is_due_leaves_with_the_next_group() {
    let mut host = grouped();
    host.reply("250 ok\r\n550 no\r\n550 no\r\n554 nobody");
    done(&mut host, &[refused(ClientPhase::Rcpt, 550, "no"), refused(ClientPhase::Rcpt, 550, "no")]);
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.expect_sent(&format!("RSET\r\n{GROUP}"));
    host.expect(ClientStep::Read { phase: ClientPhase::Rset });
    host.reply("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken");
    done(&mut host, &[accepted("taken"), accepted("taken")]);
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.expect_sent(GROUP);
}

#[test]
fn a_refused_sender_is_refused_for_all_whatever_else_is_said() {
    let mut host = grouped();
    host.reply("550 not you\r\n503 what\r\n250 fine\r\n503 what");
    let no = refused(ClientPhase::Mail, 550, "not you");
    done(&mut host, &[no.clone(), no]);
}

#[test]
fn go_ahead_although_nobody_gets_it_is_answered_with_a_lone_dot() {
    for replies in ["250 ok\r\n550 no\r\n550 no\r\n354 go", "550 no\r\n250 ok\r\n250 ok\r\n354 go"] {
        let mut host = grouped();
        host.reply(replies);
        host.expect_sent(".\r\n");
        host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
        host.reply("250 nothing taken");
        let phase = if replies.starts_with('5') { ClientPhase::Mail } else { ClientPhase::Rcpt };
        done(&mut host, &[refused(phase, 550, "no"), refused(phase, 550, "no")]);
    }
}

#[test]
fn a_refused_data_refuses_those_who_were_accepted() {
    let mut host = grouped();
    host.reply("250 ok\r\n550 no\r\n250 ok\r\n451 not now");
    done(&mut host, &[refused(ClientPhase::Rcpt, 550, "no"), refused(ClientPhase::DataCommand, 451, "not now")]);
}

#[test]
fn the_reply_after_the_end_counts_for_those_who_were_accepted() {
    let mut host = grouped();
    host.reply("250 ok\r\n550 no\r\n250 ok\r\n354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("554 5.7.1 spam");
    let spam = Reply::new(554, Some(EnhancedCode(5, 7, 1)), "spam");
    let spam = RecipientResult::Refused { phase: ClientPhase::DataEnd, reply: spam };
    done(&mut host, &[refused(ClientPhase::Rcpt, 550, "no"), spam]);
}

#[test]
fn a_552_to_rcpt_means_later() {
    let mut host = grouped();
    host.reply("250 ok\r\n250 ok\r\n552 5.5.3 too many\r\n354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken");
    let later = Reply::new(452, Some(EnhancedCode(4, 5, 3)), "too many");
    done(&mut host, &[accepted("taken"), RecipientResult::Refused { phase: ClientPhase::Rcpt, reply: later }]);
}

#[test]
fn unknown_codes_count_by_their_class() {
    let mut host = grouped();
    host.reply("299 ok\r\n251 will forward\r\n499 hm\r\n399 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("277 taken");
    let taken = RecipientResult::Accepted(Reply::new(277, None, "taken"));
    done(&mut host, &[taken, refused(ClientPhase::Rcpt, 499, "hm")]);
}

#[test]
fn lmtp_answers_for_each_accepted_recipient() {
    let mut host = Host::new(ClientConfig { lmtp: true, ..client_config(TlsWish::Never) });
    host.open(&["PIPELINING"]);
    host.client.transact(transaction(&["b", "c", "d"], "hello\r\n"));
    host.sent();
    host.expect(ClientStep::Read { phase: ClientPhase::Mail });
    host.reply("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 b has it");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("452 d is full");
    let results =
        [accepted("b has it"), refused(ClientPhase::Rcpt, 550, "no"), refused(ClientPhase::DataEnd, 452, "d is full")];
    done(&mut host, &results);
}

/// The first line that a client sends for a message.
#[track_caller]
fn check_mail(offers: &[&str], transaction: Transaction, line: &str) {
    let mut host = Host::ready(offers);
    host.client.transact(transaction);
    assert_eq!(host.sent().lines().next(), Some(line));
}

#[test]
fn parameters_are_said_where_they_are_offered() {
    let plain = || transaction(&["b"], "hello\r\n");
    let eight_bit = || Transaction { eight_bit: true, ..plain() };
    let utf8 = || Transaction { smtputf8: true, ..plain() };
    check_mail(&[], eight_bit(), "MAIL FROM:<a@x.example>");
    check_mail(&["8BITMIME"], plain(), "MAIL FROM:<a@x.example>");
    check_mail(&["8BITMIME"], eight_bit(), "MAIL FROM:<a@x.example> BODY=8BITMIME");
    check_mail(&["SMTPUTF8"], plain(), "MAIL FROM:<a@x.example>");
    check_mail(&["SMTPUTF8", "SIZE 0"], utf8(), "MAIL FROM:<a@x.example> SIZE=7 SMTPUTF8");
    check_mail(&["SIZE 7"], plain(), "MAIL FROM:<a@x.example> SIZE=7");
    check_mail(&["SIZE"], transaction(&["b"], "hello"), "MAIL FROM:<a@x.example> SIZE=7");
    let greek = Transaction { sender: "δ@x.example".parse().unwrap(), ..plain() };
    check_mail(&["SMTPUTF8"], greek, "MAIL FROM:<δ@x.example> SMTPUTF8");
    let null = Transaction { sender: "".parse().unwrap(), ..plain() };
    check_mail(&[], null, "MAIL FROM:<>");
}

/// A transaction that is over before anything is sent.
#[track_caller]
fn check_never_sent(offers: &[&str], work: Transaction, phase: ClientPhase, code: u16) {
    let mut host = Host::ready(offers);
    host.client.transact(work);
    let ClientStep::Done(result) = host.client.step() else { panic!("sent") };
    for (_, result) in &result.recipients {
        let RecipientResult::Refused { phase: when, reply } = result else { panic!("{result:?}") };
        assert_eq!((*when, reply.code), (phase, code));
    }
    assert!(result.usable);
    host.expect(ClientStep::Ready);
}

#[test]
fn what_cannot_be_taken_is_not_offered() {
    check_never_sent(&["SIZE 6"], transaction(&["b", "c"], "hello\r\n"), ClientPhase::Mail, 552);
    let utf8 = Transaction { smtputf8: true, ..transaction(&["b"], "hello\r\n") };
    check_never_sent(&[], utf8, ClientPhase::Mail, 550);
    let greek = Transaction { sender: "δ@x.example".parse().unwrap(), ..transaction(&["b"], "") };
    check_never_sent(&[], greek, ClientPhase::Mail, 550);
    check_never_sent(&[], transaction(&["δ"], ""), ClientPhase::Rcpt, 550);
    check_never_sent(&["SMTPUTF8"], transaction(&["b"], "a\nb\r\n"), ClientPhase::DataBlock, 550);
    check_never_sent(&[], transaction(&[], ""), ClientPhase::Mail, 0);
}

#[test]
fn only_the_recipient_that_needs_smtputf8_is_held_back() {
    let mut host = Host::ready(&["PIPELINING"]);
    host.client.transact(transaction(&["b", "δ"], "hello\r\n"));
    host.expect_sent("MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::Mail });
    host.reply("250 ok\r\n250 ok\r\n354 go");
    host.sent();
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken");
    let ClientStep::Done(result) = host.client.step() else { panic!("not done") };
    let codes: Vec<(u32, bool)> = result
        .recipients
        .iter()
        .map(|(number, result)| (*number, matches!(result, RecipientResult::Accepted(_))))
        .collect();
    assert_eq!(codes, [(0, true), (1, false)]);
}

#[test]
fn an_announced_limit_of_recipients_is_kept() {
    let mut host = Host::ready(&["PIPELINING", "LIMITS RCPTMAX=1"]);
    host.client.transact(transaction(&["b", "c"], "hello\r\n"));
    host.expect_sent("MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::Mail });
    host.reply("250 ok\r\n250 ok\r\n354 go");
    host.sent();
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken");
    let ClientStep::Done(result) = host.client.step() else { panic!("not done") };
    let (_, RecipientResult::Refused { reply, .. }) = &result.recipients[1] else { panic!("{result:?}") };
    assert_eq!(reply.code, 452);
}

#[test]
fn dots_that_begin_lines_are_doubled_and_a_missing_line_end_is_added() {
    let table = [
        ("", ".\r\n"),
        (".", "..\r\n.\r\n"),
        ("a", "a\r\n.\r\n"),
        (".\r\n", "..\r\n.\r\n"),
        ("a\r\n..b\r\n.\r\n", "a\r\n...b\r\n..\r\n.\r\n"),
        ("a.b\r\n", "a.b\r\n.\r\n"),
    ];
    for (message, wire) in table {
        let mut host = Host::ready(&["PIPELINING"]);
        host.client.transact(transaction(&["b"], message));
        host.sent();
        host.expect(ClientStep::Read { phase: ClientPhase::Mail });
        host.reply("250 ok\r\n250 ok\r\n354 go");
        host.expect_sent(wire);
    }
}

#[test]
fn a_long_message_leaves_in_blocks_without_a_copy() {
    let message = Bytes::from("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n".repeat(16 << 10));
    let mut host = Host::ready(&["PIPELINING"]);
    host.client.transact(Transaction { message: message.clone(), ..transaction(&["b"], "") });
    host.sent();
    host.expect(ClientStep::Read { phase: ClientPhase::Mail });
    host.reply("250 ok\r\n250 ok\r\n354 go");
    let mut blocks = Vec::new();
    while let ClientStep::Send(block) = host.client.step() {
        assert_eq!(
            host.client.phase(),
            if block.ends_with(b"\r\n.\r\n") { ClientPhase::DataEnd } else { ClientPhase::DataBlock }
        );
        blocks.push(block);
    }
    let within = message.as_ptr_range();
    let (last, others) = blocks.split_last().unwrap();
    assert!(others.iter().all(|block| within.contains(&block.as_ptr())));
    assert!((16 << 10..=64 << 10).contains(&(last.len() - 3)));
    assert_eq!(blocks.concat(), [&message[..], b".\r\n"].concat());
}

#[test]
fn a_transaction_at_the_wrong_time_is_lost_at_once_and_disturbs_nothing() {
    let mut host = grouped();
    host.client.transact(transaction(&["z"], "other\r\n"));
    let ClientStep::Done(result) = host.client.step() else { panic!("not done") };
    assert!(matches!(result.recipients[..], [(0, RecipientResult::Lost { after_end_of_data: false, .. })]));
    host.reply("250 ok\r\n250 ok\r\n250 ok\r\n354 go");
    host.expect_sent("hello\r\n.\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::DataEnd });
    host.reply("250 taken\r\n421 enough");
    host.expect(ClientStep::Done(TransactionResult {
        recipients: vec![(0, accepted("taken")), (1, accepted("taken"))],
        usable: false,
    }));
    let reply = Reply::new(421, None, "enough");
    host.expect(ClientStep::Close(CloseReason::Refused { phase: ClientPhase::Idle, reply }));
}
