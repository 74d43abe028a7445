//! AUTH PLAIN and LOGIN (RFC 4954, RFC 4616).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_smtp::{AuthOffer, Bounds, Mechanism, Phase, Question, ServerConfig, TlsOffer};

use crate::support::{Caller, Stop, codes, config};

fn offering(auth: AuthOffer) -> ServerConfig {
    let mut offering = config();
    offering.auth = auth;
    offering.require_auth = true;
    offering
}

fn caller() -> Caller {
    Caller::greeted(offering(AuthOffer::Always), Bounds { auth_failures_per_session: 9, ..Bounds::default() })
}

fn plain(text: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(text))
}

#[test]
fn plain_with_an_initial_response_opens_the_door() {
    let mut caller = caller();
    caller.check(&plain("\0user\0secret"), "235 2.7.0 Authentication successful");
    assert_eq!(caller.codes("MAIL FROM:<a@x> AUTH=a+2Bb@x"), [250]);
    caller.say("RCPT TO:<b@y>\r\nDATA\r\n.\r\n");
    let submission = caller.submissions()[0];
    assert_eq!(submission.authenticated.as_deref(), Some("user"));
    assert_eq!(submission.parameters.auth.as_deref(), Some("a+b@x"));
}

#[test]
fn plain_without_an_initial_response_is_asked_for_it() {
    let mut caller = caller();
    assert_eq!(caller.say("auth plain\r\n"), "334 \r\n");
    assert_eq!(caller.stop, Stop::Read(Phase::Auth));
    assert_eq!(caller.codes(STANDARD.encode("user\0user\0secret")), [235]);
}

#[test]
fn login_asks_for_name_and_password() {
    for first in ["AUTH LOGIN", "AUTH LOGIN dXNlcg=="] {
        let mut caller = caller();
        if first == "AUTH LOGIN" {
            caller.check(first, "334 VXNlcm5hbWU6");
            caller.check("dXNlcg==", "334 UGFzc3dvcmQ6");
        } else {
            caller.check(first, "334 UGFzc3dvcmQ6");
        }
        caller.check("c2VjcmV0", "235 2.7.0 Authentication successful");
        let Some(Question::Authenticate { mechanism, username, password }) = caller.questions.last() else { panic!() };
        assert_eq!((*mechanism, username.as_str(), password.expose()), (Mechanism::Login, "user", "secret"));
    }
}

#[test]
fn malformed_responses_are_never_asked_about() {
    let table = [
        (plain("\0user\0wrong"), 535, true),
        (plain("other\0user\0secret"), 535, false),
        (plain("\0\0secret"), 535, false),
        (plain("\0user\0"), 535, false),
        (plain("\0us\ner\0secret"), 535, false),
        (plain("user\0secret"), 501, false),
        (plain("\0user\0sec\0ret"), 501, false),
        ("AUTH PLAIN =".to_owned(), 501, false),
        ("AUTH PLAIN !".to_owned(), 501, false),
        ("AUTH PLAIN AHVzZXIAc2VjcmV0=".to_owned(), 501, false),
        (format!("AUTH PLAIN {}", STANDARD.encode(b"\0\xff\0x")), 501, false),
        ("AUTH PLAIN a b".to_owned(), 501, false),
        ("AUTH".to_owned(), 501, false),
        ("AUTH CRAM-MD5".to_owned(), 504, false),
        ("AUTH LOGIN YQBi".to_owned(), 501, false),
    ];
    for (line, code, asked) in table {
        let mut caller = caller();
        let questions = caller.questions.len();
        assert_eq!(caller.codes(&line), [code], "{line}");
        assert_eq!(caller.questions.len() > questions, asked, "{line}");
        assert_eq!(caller.codes("MAIL FROM:<a@x>"), [530], "{line}");
    }
}

#[test]
fn an_empty_login_name_is_wrong_credentials() {
    let mut caller = caller();
    caller.check("AUTH LOGIN =", "334 UGFzc3dvcmQ6");
    assert_eq!(caller.codes("c2VjcmV0"), [535]);
}

#[test]
fn a_star_cancels() {
    let mut caller = caller();
    caller.codes("AUTH LOGIN");
    caller.check("*", "501 5.7.0 Authentication cancelled");
    assert_eq!(caller.codes(plain("\0user\0secret")), [235]);
}

#[test]
fn authenticating_twice_or_amid_a_transaction_or_after_helo_is_out_of_order() {
    let mut caller = caller();
    caller.codes(plain("\0user\0secret"));
    assert_eq!(caller.codes(plain("\0user\0secret")), [503]);
    assert!(!caller.say("EHLO x\r\n").contains("AUTH"));

    let mut optional = offering(AuthOffer::Always);
    optional.require_auth = false;
    let mut caller = Caller::greeted(optional, Bounds::default());
    caller.codes("MAIL FROM:<a@x>");
    assert_eq!(caller.codes(plain("\0user\0secret")), [503]);
    caller.codes("HELO x");
    assert_eq!(caller.codes(plain("\0user\0secret")), [503]);
}

#[test]
fn passwords_over_plain_text_are_refused_and_not_asked_for() {
    let mut caller = Caller::greeted(offering(AuthOffer::OnlyOverTls), Bounds::default());
    assert!(!caller.say("EHLO x\r\n").contains("AUTH"));
    caller.check(&plain("\0user\0secret"), "538 5.7.11 Encryption required for authentication");

    let mut implicit = offering(AuthOffer::OnlyOverTls);
    implicit.tls = TlsOffer::Implicit;
    let mut caller = Caller::greeted(implicit, Bounds::default());
    assert!(caller.say("EHLO x\r\n").contains("250-AUTH PLAIN LOGIN\r\n"));
    assert_eq!(caller.codes(plain("\0user\0secret")), [235]);

    assert_eq!(Caller::greeted(offering(AuthOffer::Never), Bounds::default()).codes("AUTH PLAIN"), [502]);
}

#[test]
fn nothing_may_be_pipelined_behind_authentication() {
    let good = plain("\0user\0secret");
    for input in
        [format!("{good}\r\nMAIL FROM:<a@x>\r\n"), "AUTH LOGIN\r\ndXNlcg==\r\n".to_owned(), format!("{good}\r\nx")]
    {
        let mut caller = caller();
        let questions = caller.questions.len();
        assert_eq!(codes(&caller.say(&input)), [421], "{input}");
        assert_eq!((caller.stop, caller.questions.len()), (Stop::Close, questions), "{input}");
    }
}

#[test]
fn guessing_ends_the_session() {
    let mut caller = Caller::greeted(offering(AuthOffer::Always), Bounds::default());
    for _ in 0..3 {
        assert_eq!(caller.codes(plain("\0user\0guess")), [535]);
    }
    assert_eq!(caller.codes(plain("\0user\0guess")), [421]);
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn a_long_response_is_taken_and_an_endless_one_refused() {
    let mut caller = caller();
    let long = format!("\0{}\0secret", "u".repeat(9_000));
    assert_eq!(caller.codes(plain(&long)), [235]);

    let mut caller = self::caller();
    caller.codes("AUTH PLAIN");
    caller.check(&"A".repeat(12_288), "500 5.5.6 Authentication exchange line is too long");
    assert_eq!(caller.codes("NOOP"), [250]);
}

#[test]
fn a_new_tls_session_forgets_who_authenticated() {
    let mut both = offering(AuthOffer::Always);
    both.tls = TlsOffer::StartTls;
    let mut caller = Caller::greeted(both, Bounds::default());
    caller.codes(plain("\0user\0secret"));
    caller.codes("STARTTLS");
    caller.server.tls_started();
    caller.run();
    caller.codes("EHLO x");
    assert_eq!(caller.codes("MAIL FROM:<a@x>"), [530]);
}

#[test]
fn a_password_does_not_print_itself() {
    let mut caller = caller();
    caller.codes(plain("\0user\0secret"));
    caller.server.receive(format!("{}\r\n", plain("\0user\0secret")).as_bytes());
    let printed = format!("{:?} {:?}", caller.questions, caller.server);
    assert!(!printed.contains("secret") && !printed.contains("AHVzZXIAc2VjcmV0"), "{printed}");
}
