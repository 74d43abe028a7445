//! What is added, what is taken out, and that nothing else changes.

use std::net::IpAddr;

use postrider_model::{Mailbox, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::inspect::inspect;

const ID: &str = "01930b0e-5c1a-7def-8000-0123456789ab";

fn trace() -> Trace<'static> {
    Trace {
        from_hello: "client.example",
        peer_address: IpAddr::from([192, 0, 2, 1]),
        by_host: "mx.postrider.example",
        protocol: Protocol { extended: true, tls: true, authenticated: true, smtputf8: false },
        id: ID.parse().unwrap(),
        tls: Some("TLSv1.3 TLS_AES_256_GCM_SHA384"),
        now: Timestamp::from_millis(1_709_210_096_789),
        for_: None,
    }
}

const RECEIVED: &str = "Received: from client.example ([192.0.2.1])\r\n\
    \tby mx.postrider.example with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n\
    \tid 01930b0e-5c1a-7def-8000-0123456789ab;\r\n\
    \tThu, 29 Feb 2024 12:34:56 +0000\r\n";

const MESSAGE_ID: &str = "Message-ID: <01930b0e-5c1a-7def-8000-0123456789ab@acme.example>\r\n";

const DATE: &str = "Date: Thu, 29 Feb 2024 12:34:56 +0000\r\n";

fn prepared(message: &[u8]) -> Bytes {
    let message = Bytes::copy_from_slice(message);
    prepare(&message, &inspect(&message).unwrap(), &trace(), &"acme.example".parse().unwrap())
}

#[track_caller]
fn check(message: &str, expected: &str) {
    assert_eq!(String::from_utf8_lossy(&prepared(message.as_bytes())), expected);
}

#[test]
fn a_complete_message_gets_a_trace_field_only() {
    let message = "Subject: x\r\nDate: y\r\nMessage-ID: <z>\r\n\r\nbody\r\n";
    check(message, &format!("{RECEIVED}{message}"));
}

#[test]
fn a_missing_message_id_and_date_are_added() {
    check("Subject: x\r\n\r\n", &format!("{RECEIVED}{MESSAGE_ID}{DATE}Subject: x\r\n\r\n"));
    check("Date: y\r\n\r\n", &format!("{RECEIVED}{MESSAGE_ID}Date: y\r\n\r\n"));
    check("message-id:\r\n\r\n", &format!("{RECEIVED}{DATE}message-id:\r\n\r\n"));
}

#[test]
fn the_added_message_id_is_known_beforehand() {
    let id = added_message_id(&ID.parse().unwrap(), &"acme.example".parse().unwrap());
    assert_eq!(MESSAGE_ID, format!("Message-ID: <{id}>\r\n"));
}

#[test]
fn the_submitters_choice_is_taken_out() {
    check(
        "X-Postrider-Class: bulk\r\nDate: y\r\nX-POSTRIDER-CAMPAIGN: a\r\n b\r\nMessage-ID: <z>\r\nX-Postrider-Pool:p\r\n\r\n\
         X-Postrider-Class: in the body\r\n",
        &format!("{RECEIVED}Date: y\r\nMessage-ID: <z>\r\n\r\nX-Postrider-Class: in the body\r\n"),
    );
}

#[test]
fn a_message_of_a_body_alone_gets_the_empty_line_that_is_missing() {
    check("hello\r\n", &format!("{RECEIVED}{MESSAGE_ID}{DATE}\r\nhello\r\n"));
    check(" hello: x\r\n", &format!("{RECEIVED}{MESSAGE_ID}{DATE}\r\n hello: x\r\n"));
    check("Subject: x\r\nhello\r\n", &format!("{RECEIVED}{MESSAGE_ID}{DATE}Subject: x\r\n\r\nhello\r\n"));
}

#[test]
fn an_empty_header_and_an_empty_message_are_taken() {
    check("\r\nhello\r\n", &format!("{RECEIVED}{MESSAGE_ID}{DATE}\r\nhello\r\n"));
    check("", &format!("{RECEIVED}{MESSAGE_ID}{DATE}"));
    check("Subject: x\r\n", &format!("{RECEIVED}{MESSAGE_ID}{DATE}Subject: x\r\n"));
}

#[track_caller]
fn check_received(trace: &Trace<'_>, expected: &str) {
    assert_eq!(trace.field().replace("\r\n\t", " "), format!("Received: {expected}\r\n"));
}

const END: &str = "id 01930b0e-5c1a-7def-8000-0123456789ab; Thu, 29 Feb 2024 12:34:56 +0000";

#[test]
fn the_protocol_type_tells_how_it_came_in() {
    let protocol =
        |extended, tls, authenticated, smtputf8| Protocol { extended, tls, authenticated, smtputf8 }.to_string();
    assert_eq!(protocol(false, false, false, false), "SMTP");
    assert_eq!(protocol(true, false, false, false), "ESMTP");
    assert_eq!(protocol(true, true, false, false), "ESMTPS");
    assert_eq!(protocol(true, false, true, false), "ESMTPA");
    assert_eq!(protocol(true, true, true, false), "ESMTPSA");
    assert_eq!(protocol(true, false, false, true), "UTF8SMTP");
    assert_eq!(protocol(true, true, true, true), "UTF8SMTPSA");
}

#[test]
fn one_recipient_is_named() {
    let recipient: Mailbox = "bob@example.net".parse().unwrap();
    let trace = Trace { tls: None, for_: Some(&recipient), ..trace() };
    let end = END.replace(';', " for <bob@example.net>;");
    check_received(&trace, &format!("from client.example ([192.0.2.1]) by mx.postrider.example with ESMTPSA {end}"));
}

#[test]
fn an_ipv6_client_is_written_as_a_literal() {
    let hello = "[IPv6:2001:db8::1]";
    let trace = Trace { tls: None, peer_address: "2001:db8::1".parse().unwrap(), from_hello: hello, ..trace() };
    check_received(
        &trace,
        &format!("from [IPv6:2001:db8::1] ([IPv6:2001:db8::1]) by mx.postrider.example with ESMTPSA {END}"),
    );
    let mapped = Trace { peer_address: "::ffff:192.0.2.1".parse().unwrap(), ..trace };
    assert!(mapped.field().contains("([192.0.2.1])"));
}

#[test]
fn a_hello_that_lies_in_wait_is_made_harmless() {
    for (hello, expected) in [
        ("evil)\r\nX-Injected: yes", "evil???X-Injected:?yes"),
        ("a (comment", "a??comment"),
        ("müller", "m?ller"),
        ("", "unknown"),
    ] {
        let trace = Trace { tls: None, from_hello: hello, ..trace() };
        check_received(&trace, &format!("from {expected} ([192.0.2.1]) by mx.postrider.example with ESMTPSA {END}"));
    }
}

#[test]
fn no_line_of_the_trace_field_comes_near_998_bytes() {
    let recipient: Mailbox = format!("{}@{}.example", "é".repeat(32), "d.".repeat(120) + "d").parse().unwrap();
    let long = "x".repeat(5_000);
    let trace = Trace { from_hello: &long, tls: Some(&long), for_: Some(&recipient), by_host: &long, ..trace() };
    let field = trace.field();
    assert!(field.split("\r\n").all(|line| line.len() < 500), "{field}");
    assert!(field.split("\r\n").filter(|line| !line.is_empty()).skip(1).all(|line| line.starts_with('\t')));
}

/// A message of pieces, with what must be left of it.
fn pieces() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let kept = "(Subject|To|X-[A-Z]{1,4}|Received|date):[ -~é]{0,20}(\r\n[ \t][ -~]{0,10}){0,2}\r\n";
    let field = prop_oneof![
        3 => kept.prop_map(|field| (field.clone(), field)),
        1 => "X-(POSTRIDER|Postrider)-(Class|Campaign|pool) ?:[ -~]{0,20}(\r\n\t[ -~]{0,9})?\r\n"
            .prop_map(|field| (field, String::new())),
    ];
    let body = prop::collection::vec(any::<u8>(), 0..100);
    (prop::collection::vec(field, 0..8), body).prop_map(|(fields, body)| {
        let (all, left): (Vec<String>, Vec<String>) = fields.into_iter().unzip();
        let message = [all.concat().as_bytes(), b"\r\n", &body].concat();
        (message, [left.concat().as_bytes(), b"\r\n", &body].concat())
    })
}

proptest! {
    #[test]
    fn every_other_byte_stays_in_its_place((message, left) in pieces()) {
        let prepared = prepared(&message);
        prop_assert!(prepared.starts_with(RECEIVED.as_bytes()));
        prop_assert!(prepared.ends_with(&left));
        let added = String::from_utf8(prepared[..prepared.len() - left.len()].to_vec()).unwrap();
        let rest = added.replacen(RECEIVED, "", 1).replacen(MESSAGE_ID, "", 1).replacen(DATE, "", 1);
        prop_assert_eq!(rest, "");
    }

    #[test]
    fn what_is_prepared_is_complete_and_has_nothing_of_ours(message in "((Date|Message-ID|X-Postrider-Class|X-Postrider-Pool|a) ?:|[ -~]{0,6}|\r\n ?){0,30}") {
        let found = inspect(&prepared(message.as_bytes())).unwrap();
        prop_assert!(found.has_date && found.has_message_id && !found.separator_missing);
        prop_assert!(found.received_count >= 1 && found.directive_ranges.is_empty());
    }

    #[test]
    fn arbitrary_bytes_are_prepared(message in prop::collection::vec(any::<u8>(), 0..200)) {
        let prepared = prepared(&message);
        prop_assert!(prepared.starts_with(RECEIVED.as_bytes()));
    }

    #[test]
    fn an_arbitrary_hello_adds_no_field(hello in ".{0,300}") {
        let field = Trace { from_hello: &hello, tls: Some(&hello), ..trace() }.field();
        prop_assert_eq!(crate::headers(field.as_bytes()).count(), 1);
        prop_assert!(field.is_ascii());
    }
}
