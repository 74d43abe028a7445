//! From the connection to `Ready`: greeting, EHLO or HELO or LHLO, STARTTLS.

use bytes::Bytes;

use super::reply::RawReply;
use super::{Capabilities, Client, CloseReason, State, TlsWish};

/// Which introduction was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Ehlo,
    Helo,
    Lhlo,
}

impl Hello {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::Lhlo => "LHLO",
        }
    }
}

impl Client {
    /// RFC 5321 section 3.1: 220 or a refusal.
    pub(super) fn hear_greeting(&mut self, raw: &RawReply) {
        if raw.is_positive() {
            self.say_hello();
        } else if raw.is_intermediate() {
            self.break_off("the greeting is neither welcome nor refusal");
        } else {
            self.part(CloseReason::Refused { phase: self.phase(), reply: raw.to_reply() });
        }
    }

    pub(super) fn say_hello(&mut self) {
        self.introduce(if self.config.lmtp { Hello::Lhlo } else { Hello::Ehlo });
    }

    fn introduce(&mut self, hello: Hello) {
        let command = format!("{} {}", hello.as_str(), self.config.ehlo_name);
        self.ask(command, State::Hello(hello));
    }

    pub(super) fn hear_hello(&mut self, hello: Hello, raw: &RawReply) {
        if raw.is_positive() {
            if hello != Hello::Helo {
                self.capabilities = Capabilities::read(raw.lines.iter().skip(1).map(String::as_str));
            }
            return self.decide_tls();
        }
        if raw.is_intermediate() {
            return self.break_off("EHLO was answered with a 3xx reply");
        }
        // RFC 5321 section 3.2: whoever does not know EHLO is greeted with HELO. There is no TLS that way.
        let needs_ehlo = self.config.tls == TlsWish::Required && !self.tls;
        let permanent = (500..600).contains(&raw.code);
        if hello == Hello::Ehlo && permanent && !needs_ehlo {
            return self.introduce(Hello::Helo);
        }
        self.part(CloseReason::Refused { phase: self.phase(), reply: raw.to_reply() });
    }

    fn decide_tls(&mut self) {
        match (self.config.tls, self.tls, self.capabilities.starttls) {
            (TlsWish::Opportunistic | TlsWish::Required, false, true) => {
                self.ask("STARTTLS".to_owned(), State::StartTls);
            }
            (TlsWish::Required, false, false) => self.part(CloseReason::NoTls { reply: None }),
            _ => self.state = State::Ready,
        }
    }

    /// RFC 3207 section 4. Bytes behind the 220 were injected before the handshake: they are never read as replies.
    pub(super) fn hear_start_tls(&mut self, raw: &RawReply) {
        if raw.is_intermediate() {
            return self.break_off("STARTTLS was answered with a 3xx reply");
        }
        if raw.is_positive() {
            if !self.replies.is_empty() {
                return self.break_off("plain text between STARTTLS and the handshake");
            }
            self.state = State::TlsAgreed;
            return;
        }
        match self.config.tls {
            TlsWish::Required => self.part(CloseReason::NoTls { reply: Some(raw.to_reply()) }),
            TlsWish::Opportunistic | TlsWish::Never => self.state = State::Ready,
        }
    }

    /// Says QUIT to a server that will not serve, and does not wait for the answer.
    fn part(&mut self, reason: CloseReason) {
        self.state = State::Parting(reason);
        self.outgoing = Some(Bytes::from_static(b"QUIT\r\n"));
    }
}
