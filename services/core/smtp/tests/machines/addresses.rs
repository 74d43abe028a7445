//! Paths and parameters as clients write them (RFC 5321 section 4.1.2).

use postrider_smtp::{Bounds, Question};

use crate::support::{Caller, config};

/// What the server makes of `RCPT TO:` and this: an address or a code.
fn recipient(path: &str, mail_parameters: &str) -> Result<String, u16> {
    let mut caller = Caller::greeted(config(), Bounds::default());
    assert_eq!(caller.codes(format!("MAIL FROM:<a@x>{mail_parameters}")), [250]);
    let code = caller.codes(format!("RCPT TO:{path}"))[0];
    match caller.questions.last() {
        Some(Question::Recipient { recipient }) if code == 250 => Ok(recipient.to_string()),
        _ => Err(code),
    }
}

/// What the server makes of `MAIL FROM:` and this: an address or a code.
fn sender(path: &str) -> Result<String, u16> {
    let mut caller = Caller::greeted(config(), Bounds::default());
    let code = caller.codes(format!("MAIL FROM:{path}"))[0];
    match caller.questions.last() {
        Some(Question::Mail { sender, .. }) if code == 250 => Ok(sender.to_string()),
        _ => Err(code),
    }
}

#[track_caller]
fn check(path: &str, address: &str) {
    assert_eq!(recipient(path, ""), Ok(address.to_owned()), "{path}");
}

#[track_caller]
fn refused(path: &str, code: u16) {
    assert_eq!(recipient(path, ""), Err(code), "{path}");
}

#[test]
fn addresses_keep_quotes_case_and_literals() {
    check("<b@y.example>", "b@y.example");
    check("<Big.Case+tag@Y.Example>", "Big.Case+tag@y.example");
    check("<\"a b\"@y.example>", "\"a b\"@y.example");
    check("<\"a>b\\\"c\\\\\"@y.example>", "\"a>b\\\"c\\\\\"@y.example");
    check("<\"a@b\"@y.example>", "\"a@b\"@y.example");
    check("<b@[127.0.0.1]>", "b@[127.0.0.1]");
    check("<b@[IPv6:2001:db8::1]>", "b@[ipv6:2001:db8::1]");
}

#[test]
fn a_source_route_is_stripped() {
    check("<@one.example,@two.example:b@y.example>", "b@y.example");
    check("<@[IPv6:2001:db8::1],@two.example:b@y.example>", "b@y.example");
    refused("<@one.example:>", 501);
    refused("<@one.example>", 501);
    refused("<@:b@y.example>", 501);
    refused("<@one.example,two.example:b@y.example>", 501);
    assert_eq!(sender("<@one.example:a@x.example>"), Ok("a@x.example".to_owned()));
    assert_eq!(sender("<@one.example:>"), Err(501));
}

#[test]
fn a_bare_postmaster_is_ours() {
    check("<postmaster>", "postmaster@mx.example.com");
    check("<PostMaster>", "PostMaster@mx.example.com");
    refused("<@one.example:postmaster>", 501);
    assert_eq!(sender("<postmaster>"), Err(501));
}

#[test]
fn the_null_path_is_a_sender_and_no_recipient() {
    assert_eq!(sender("<>"), Ok(String::new()));
    refused("<>", 501);
}

#[test]
fn malformed_paths_are_refused() {
    let long = format!("<b@{}.example>", "y.".repeat(130));
    for path in [
        "b@y",
        "<b@y",
        "b@y>",
        " <b@y>",
        "<b>",
        "<b@>",
        "<@y>",
        "<b@y>x",
        "<b@y>SIZE=1",
        "<b c@y>",
        "<b@y c>",
        "<<b@y>>",
        "<b\x07@y>",
        "<\"b@y>",
        "<b@y..z>",
        "<b@[1.2.3]>",
        "",
        long.as_str(),
    ] {
        refused(path, 501);
        assert_eq!(sender(path), Err(501), "{path}");
    }
}

#[test]
fn a_non_ascii_address_needs_smtputf8() {
    refused("<δ@y.example>", 553);
    refused("<b@παράδειγμα.example>", 553);
    assert_eq!(sender("<δ@y.example>"), Err(550));
    assert_eq!(sender("<δ@y.example> SMTPUTF8"), Ok("δ@y.example".to_owned()));
    assert_eq!(recipient("<δ@y.example>", " SMTPUTF8"), Ok("δ@y.example".to_owned()));
    assert_eq!(recipient("<b@bücher.example>", " SMTPUTF8"), Ok("b@xn--bcher-kva.example".to_owned()));
}

#[test]
fn smtputf8_that_is_not_offered_is_not_taken() {
    let mut plain = config();
    plain.smtputf8 = false;
    let mut caller = Caller::greeted(plain, Bounds::default());
    assert_eq!(caller.codes("MAIL FROM:<a@x> SMTPUTF8"), [555]);
    assert_eq!(caller.codes("MAIL FROM:<δ@x>"), [550]);
}

#[test]
fn parameters_are_read_strictly() {
    let table = [
        (" SIZE=1 BODY=7BIT SMTPUTF8", 250),
        (" size=1 body=8bitmime", 250),
        ("  SIZE=1  ", 250),
        (" SIZE", 501),
        (" SIZE=", 501),
        (" SIZE=x", 501),
        (" SIZE=-1", 501),
        (" SIZE=1 SIZE=1", 501),
        (" BODY=8BITMIME BODY=7BIT", 501),
        (" SMTPUTF8 SMTPUTF8", 501),
        (" SMTPUTF8=1", 501),
        (" SIZE=123456789012345678901", 501),
        (" SIZE=18446744073709551616", 552),
        (" BODY", 501),
        (" BODY=BINARYMIME", 504),
        (" AUTH=<>", 555),
        (" RET=FULL", 555),
        (" =1", 501),
        (" -A=1", 501),
        (" SIZE=1=2", 501),
        (" FOO=\u{7f}", 501),
    ];
    for (parameters, code) in table {
        let mut caller = Caller::greeted(config(), Bounds::default());
        assert_eq!(caller.codes(format!("MAIL FROM:<a@x>{parameters}")), [code], "{parameters}");
    }
    refused("<b@y> NOTIFY=NEVER", 555);
    refused("<b@y> =", 501);
}

#[test]
fn the_keyword_is_followed_by_the_path_at_once() {
    let mut caller = Caller::greeted(config(), Bounds::default());
    for line in [
        "MAIL",
        "MAIL FROM",
        "MAIL FROM <a@x>",
        "MAIL FROM: <a@x>",
        "MAIL FROM :<a@x>",
        "MAIL TO:<a@x>",
        "MAIL  FROM:<a@x>",
    ] {
        assert_eq!(caller.codes(line), [501], "{line}");
    }
    assert_eq!(caller.codes("mail from:<a@x>"), [250]);
    assert_eq!(caller.codes("rcpt to:<b@y>"), [250]);
}
