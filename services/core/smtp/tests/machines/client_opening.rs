//! From the greeting to `Ready`: EHLO, HELO and LHLO, refusals, capabilities.

use postrider_smtp::{Capabilities, ClientConfig, ClientPhase, ClientStep, CloseReason, TlsWish};

use crate::support::{Host, client_config};

fn greeted(config: ClientConfig) -> Host {
    let mut host = Host::new(config);
    host.expect(ClientStep::Read { phase: ClientPhase::Greeting });
    host.reply("220-mx.example.net\r\n220 hello");
    host
}

#[track_caller]
fn refused(host: &mut Host, phase: ClientPhase, reply: &str) {
    match host.client.step() {
        ClientStep::Close(CloseReason::Refused { phase: when, reply: said }) => {
            assert_eq!((when, said.to_string().as_str()), (phase, reply));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn capabilities_are_read_in_any_case_and_order() {
    let mut host = greeted(client_config(TlsWish::Never));
    let offers = "250-mx\r\n250-size 1000\r\n250-Pipelining\r\n250-8bitmime\r\n250-SMTPUTF8\r\n250-X-FOO a b\r\n\
                  250-LIMITS MAILMAX=5 RCPTMAX=50\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES";
    host.answer("EHLO out.example.com", offers);
    host.expect(ClientStep::Ready);
    let all = Capabilities {
        pipelining: true,
        size: Some(Some(1000)),
        eight_bit_mime: true,
        smtputf8: true,
        starttls: true,
        enhanced_status_codes: true,
        recipients_max: Some(50),
    };
    assert_eq!(host.client.capabilities(), &all);
}

#[test]
fn the_first_line_of_the_reply_to_ehlo_offers_nothing() {
    let mut host = greeted(client_config(TlsWish::Never));
    host.answer("EHLO out.example.com", "250-PIPELINING\r\n250-SIZE\r\n250 LIMITS RCPTMAX=0");
    host.expect(ClientStep::Ready);
    assert_eq!(host.client.capabilities(), &Capabilities { size: Some(None), ..Capabilities::default() });
}

#[test]
fn who_does_not_know_ehlo_is_greeted_with_helo() {
    let mut host = greeted(client_config(TlsWish::Opportunistic));
    host.answer("EHLO out.example.com", "502 what?");
    host.answer("HELO out.example.com", "250-mx\r\n250 PIPELINING");
    host.expect(ClientStep::Ready);
    assert!(!host.client.capabilities().pipelining);
}

#[test]
fn helo_is_no_way_around_required_tls() {
    let mut host = greeted(client_config(TlsWish::Required));
    host.answer("EHLO out.example.com", "502 5.5.1 what?");
    host.expect_sent("QUIT\r\n");
    refused(&mut host, ClientPhase::Ehlo, "502 5.5.1 what?");
}

#[test]
fn a_temporary_refusal_of_ehlo_and_a_refusal_of_helo_are_final() {
    let mut host = greeted(client_config(TlsWish::Never));
    host.answer("EHLO out.example.com", "450 not now");
    host.expect_sent("QUIT\r\n");
    refused(&mut host, ClientPhase::Ehlo, "450 not now");

    let mut host = greeted(client_config(TlsWish::Never));
    host.answer("EHLO out.example.com", "550 5.7.1 not you");
    host.answer("HELO out.example.com", "550 5.7.1 still not you");
    host.expect_sent("QUIT\r\n");
    refused(&mut host, ClientPhase::Ehlo, "550 5.7.1 still not you");
}

#[test]
fn a_greeting_may_be_a_refusal() {
    for greeting in ["554 5.7.1 no mail here", "521 we take no mail"] {
        let mut host = Host::new(client_config(TlsWish::Never));
        host.reply(greeting);
        host.expect_sent("QUIT\r\n");
        refused(&mut host, ClientPhase::Greeting, greeting);
    }
    let mut host = Host::new(client_config(TlsWish::Never));
    host.reply("421 busy");
    refused(&mut host, ClientPhase::Greeting, "421 busy");
}

#[test]
fn lmtp_says_lhlo_and_nothing_else() {
    let lmtp = ClientConfig { lmtp: true, ..client_config(TlsWish::Never) };
    let mut host = greeted(lmtp.clone());
    host.answer("LHLO out.example.com", "250-mx\r\n250 PIPELINING");
    host.expect(ClientStep::Ready);
    assert!(host.client.capabilities().pipelining);

    let mut host = greeted(lmtp);
    host.answer("LHLO out.example.com", "500 what?");
    host.expect_sent("QUIT\r\n");
    refused(&mut host, ClientPhase::Ehlo, "500 what?");
}

#[test]
fn quit_is_said_and_its_answer_waited_for() {
    let mut host = Host::ready(&[]);
    host.client.quit();
    host.expect_sent("QUIT\r\n");
    host.expect(ClientStep::Read { phase: ClientPhase::Quit });
    host.reply("221 bye");
    host.expect(ClientStep::Close(CloseReason::Finished));
}

#[test]
fn a_server_that_hangs_up_at_quit_has_understood() {
    for hang_up in [postrider_smtp::Client::end_of_stream, postrider_smtp::Client::timed_out] {
        let mut host = Host::ready(&[]);
        host.client.quit();
        host.expect_sent("QUIT\r\n");
        hang_up(&mut host.client);
        host.expect(ClientStep::Close(CloseReason::Finished));
    }
}

#[test]
fn the_connection_may_end_in_any_phase_of_the_opening() {
    let mut host = Host::new(client_config(TlsWish::Never));
    host.client.end_of_stream();
    host.expect(ClientStep::Close(CloseReason::Lost { phase: ClientPhase::Greeting }));

    let mut host = greeted(client_config(TlsWish::Never));
    host.expect_sent("EHLO out.example.com\r\n");
    host.client.timed_out();
    host.expect(ClientStep::Close(CloseReason::TimedOut { phase: ClientPhase::Ehlo }));

    let mut host = Host::ready(&[]);
    host.client.end_of_stream();
    host.expect(ClientStep::Close(CloseReason::Lost { phase: ClientPhase::Idle }));
}

#[test]
fn an_idle_server_may_say_421_and_nothing_else() {
    let mut host = Host::ready(&[]);
    host.reply("421 4.4.2 idle too long");
    refused(&mut host, ClientPhase::Idle, "421 4.4.2 idle too long");

    let mut host = Host::ready(&[]);
    host.reply("250 surprise");
    let why = "the server spoke out of turn".to_owned();
    host.expect(ClientStep::Close(CloseReason::Protocol { phase: ClientPhase::Idle, why }));
}

#[test]
fn timeouts_are_those_of_the_standard() {
    let minutes = |phase: ClientPhase| phase.timeout().as_secs() / 60;
    assert_eq!([ClientPhase::Greeting, ClientPhase::Mail, ClientPhase::Rcpt].map(minutes), [5, 5, 5]);
    assert_eq!([ClientPhase::DataCommand, ClientPhase::DataBlock, ClientPhase::DataEnd].map(minutes), [2, 3, 10]);
}
