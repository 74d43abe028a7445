//! STARTTLS without injection in either direction (RFC 3207, CVE-2011-0411, NO STARTTLS 2021).

use postrider_smtp::{Bounds, ClientPhase, ClientStep, CloseReason, Phase, ServerConfig, TlsOffer, TlsWish};

use crate::support::{Caller, Host, Stop, client_config, codes, config};

fn offering() -> ServerConfig {
    let mut offering = config();
    offering.tls = TlsOffer::StartTls;
    offering
}

#[test]
fn the_session_begins_anew_inside_tls() {
    let mut caller = Caller::greeted(offering(), Bounds::default());
    assert!(caller.say("EHLO x\r\n").contains("250-STARTTLS\r\n"));
    caller.codes("MAIL FROM:<a@x>");
    caller.check("STARTTLS", "220 2.0.0 Ready to start TLS");
    assert_eq!(caller.stop, Stop::StartTls);
    caller.server.tls_started();
    assert_eq!(caller.run(), "");
    assert_eq!(caller.stop, Stop::Read(Phase::Command));
    assert_eq!(caller.codes("MAIL FROM:<a@x>"), [503]);
    assert!(!caller.say("EHLO x\r\n").contains("STARTTLS"));
    assert_eq!(caller.codes("STARTTLS"), [503]);
    caller.say("MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n.\r\n");
    assert!(caller.submissions()[0].tls);
}

#[test]
fn a_command_injected_behind_starttls_ends_the_session() {
    for injected in ["RSET\r\n", "R", "\0"] {
        let mut caller = Caller::greeted(offering(), Bounds::default());
        assert_eq!(codes(&caller.say(format!("STARTTLS\r\n{injected}"))), [421], "{injected:?}");
        assert_eq!(caller.stop, Stop::Close);
    }
}

#[test]
fn plain_text_before_the_handshake_is_never_read_inside_tls() {
    let mut caller = Caller::greeted(offering(), Bounds::default());
    caller.codes("STARTTLS");
    caller.server.receive(b"RSET\r\n");
    caller.server.tls_started();
    assert_eq!(caller.run(), "");
    assert_eq!(caller.stop, Stop::Close);
}

#[test]
fn starttls_that_is_not_offered_or_has_an_argument_is_refused() {
    assert_eq!(Caller::greeted(config(), Bounds::default()).codes("STARTTLS"), [502]);
    assert_eq!(Caller::greeted(offering(), Bounds::default()).codes("STARTTLS now"), [501]);
    let mut caller = Caller::new(offering(), Bounds::default());
    caller.run();
    assert_eq!(caller.codes("STARTTLS"), [503]);
    let mut implicit = config();
    implicit.tls = TlsOffer::Implicit;
    assert_eq!(Caller::greeted(implicit, Bounds::default()).codes("STARTTLS"), [503]);
}

/// A client that has just been told 250 by a server that offers STARTTLS.
fn wishing(tls: TlsWish) -> Host {
    let mut host = Host::new(client_config(tls));
    host.expect(ClientStep::Read { phase: ClientPhase::Greeting });
    host.reply("220 hello");
    host.answer("EHLO out.example.com", "250-mx\r\n250 STARTTLS");
    host
}

#[test]
fn a_client_greets_again_inside_tls_and_forgets_what_was_offered_outside() {
    let mut host = Host::new(client_config(TlsWish::Opportunistic));
    host.expect(ClientStep::Read { phase: ClientPhase::Greeting });
    host.reply("220 hello");
    host.answer("EHLO out.example.com", "250-mx\r\n250-PIPELINING\r\n250 STARTTLS");
    host.answer("STARTTLS", "220 go");
    host.expect(ClientStep::StartTls);
    host.client.tls_started();
    assert!(host.client.is_tls() && !host.client.capabilities().pipelining);
    host.answer("EHLO out.example.com", "250-mx\r\n250-SIZE 5\r\n250 STARTTLS");
    host.expect(ClientStep::Ready);
    assert_eq!(host.client.capabilities().size, Some(Some(5)));
}

#[test]
fn a_response_injected_behind_the_220_ends_the_connection() {
    for injected in ["250 mx", "2"] {
        let mut host = wishing(TlsWish::Opportunistic);
        host.expect_sent("STARTTLS\r\n");
        host.client.receive(format!("220 go\r\n{injected}").as_bytes());
        let why = "plain text between STARTTLS and the handshake".to_owned();
        host.expect(ClientStep::Close(CloseReason::Protocol { phase: ClientPhase::StartTls, why }));
    }
}

#[test]
fn a_response_that_comes_before_the_handshake_is_never_read_inside_tls() {
    let mut host = wishing(TlsWish::Required);
    host.answer("STARTTLS", "220 go");
    host.expect(ClientStep::StartTls);
    host.reply("250 injected");
    host.client.tls_started();
    assert!(matches!(host.client.step(), ClientStep::Close(CloseReason::Protocol { .. })));
    assert!(!host.client.is_tls());
}

#[test]
fn an_answer_to_starttls_before_the_question_ends_the_connection() {
    let mut host = Host::new(client_config(TlsWish::Required));
    host.reply("220 hello");
    host.expect_sent("EHLO out.example.com\r\n");
    host.reply("250-mx\r\n250 STARTTLS\r\n220 go");
    assert!(matches!(host.client.step(), ClientStep::Close(CloseReason::Protocol { .. })));
}

#[test]
fn a_wish_for_tls_that_is_refused_is_given_up_or_insisted_on() {
    let mut host = wishing(TlsWish::Opportunistic);
    host.answer("STARTTLS", "454 4.7.0 not now");
    host.expect(ClientStep::Ready);

    let mut host = wishing(TlsWish::Required);
    host.answer("STARTTLS", "454 4.7.0 not now");
    host.expect_sent("QUIT\r\n");
    let ClientStep::Close(CloseReason::NoTls { reply: Some(reply) }) = host.client.step() else { panic!("open") };
    assert_eq!(reply.to_string(), "454 4.7.0 not now");

    let mut host = Host::new(client_config(TlsWish::Required));
    host.reply("220 hello");
    host.answer("EHLO out.example.com", "250 mx");
    host.expect_sent("QUIT\r\n");
    host.expect(ClientStep::Close(CloseReason::NoTls { reply: None }));
}

#[test]
fn a_failed_handshake_closes() {
    let mut host = wishing(TlsWish::Opportunistic);
    host.answer("STARTTLS", "220 go");
    host.expect(ClientStep::StartTls);
    host.client.tls_failed();
    host.expect(ClientStep::Close(CloseReason::TlsFailed));
}
