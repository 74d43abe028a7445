//! One command line: which command, may it come now, is it well formed. Decides in this order, so that a command out of
//! turn is 503 however it is written.

use postrider_model::{Mailbox, ReversePath};

use super::path::{self, Offered};
use super::reply::Said;
use super::session::Session;
use super::{AuthOffer, MailParameters, Mechanism, ServerConfig, TlsOffer};
use crate::{Bounds, Secret};

/// A command that may be obeyed now.
#[derive(Debug)]
pub(super) enum Command {
    Hello { name: String, extended: bool },
    Mail { sender: ReversePath, parameters: MailParameters },
    Recipient(Mailbox),
    Data,
    Reset,
    Noop,
    Verify,
    Help,
    Quit,
    StartTls,
    Auth { mechanism: Mechanism, initial: Option<Secret> },
}

/// The commands we know by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    Auth,
    /// Known, and not implemented (RFC 5321 section 4.2.4: 502).
    Missing,
}

const NOT_TEXT: Said = Said::new(500, 5, 5, 2, "Not a line of ASCII or UTF-8 text");
const UNKNOWN: Said = Said::new(500, 5, 5, 1, "Command not recognized");
const MISSING: Said = Said::new(502, 5, 5, 1, "Command not implemented");
const ARGUMENTS: Said = Said::new(501, 5, 5, 4, "This command takes no argument");
const NO_NAME: Said = Said::new(501, 5, 5, 4, "Syntax: EHLO or HELO and one host name or address literal");
const MAIL_SYNTAX: Said = Said::new(501, 5, 5, 4, "Syntax: MAIL FROM:<address>");
const RCPT_SYNTAX: Said = Said::new(501, 5, 5, 4, "Syntax: RCPT TO:<address>");
const VRFY_SYNTAX: Said = Said::new(501, 5, 5, 4, "Syntax: VRFY string");
const AUTH_SYNTAX: Said = Said::new(501, 5, 5, 4, "Syntax: AUTH mechanism [initial-response]");
const HELLO_FIRST: Said = Said::new(503, 5, 5, 1, "Say EHLO first");
const NESTED: Said = Said::new(503, 5, 5, 1, "There is a transaction already");
const NO_TRANSACTION: Said = Said::new(503, 5, 5, 1, "Say MAIL first");
const NO_RECIPIENT: Said = Said::new(503, 5, 5, 1, "Say RCPT first");
const ALL_REFUSED: Said = Said::new(554, 5, 5, 1, "No valid recipients");
const TOO_MANY_RECIPIENTS: Said = Said::new(452, 4, 5, 3, "Too many recipients");
const AUTH_REQUIRED: Said = Said::new(530, 5, 7, 0, "Authentication required");
const TLS_REQUIRED: Said = Said::new(530, 5, 7, 0, "Must issue a STARTTLS command first");
const TLS_ALREADY: Said = Said::new(503, 5, 5, 1, "TLS is on already");
const AUTH_ALREADY: Said = Said::new(503, 5, 5, 1, "Authenticated already");
const AUTH_IN_CLEAR: Said = Said::new(538, 5, 7, 11, "Encryption required for authentication");
const MECHANISM: Said = Said::new(504, 5, 5, 4, "Authentication mechanism not supported");

impl Verb {
    /// Splits a line at its first space. Verbs are case-insensitive (RFC 5321 section 2.4).
    fn split(line: &str) -> Option<(Self, &str)> {
        let (verb, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let mut upper = [0; 8];
        let letters = upper.get_mut(..verb.len())?;
        letters.copy_from_slice(verb.as_bytes());
        letters.make_ascii_uppercase();
        let verb = match &*letters {
            b"EHLO" => Self::Ehlo,
            b"HELO" => Self::Helo,
            b"MAIL" => Self::Mail,
            b"RCPT" => Self::Rcpt,
            b"DATA" => Self::Data,
            b"RSET" => Self::Rset,
            b"NOOP" => Self::Noop,
            b"VRFY" => Self::Vrfy,
            b"HELP" => Self::Help,
            b"QUIT" => Self::Quit,
            b"STARTTLS" => Self::StartTls,
            b"AUTH" => Self::Auth,
            b"EXPN" | b"TURN" | b"ETRN" | b"ATRN" | b"SEND" | b"SOML" | b"SAML" | b"BDAT" | b"BURL" => Self::Missing,
            _ => return None,
        };
        Some((verb, arguments))
    }
}

/// What is needed to judge a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) config: &'a ServerConfig,
    pub(super) bounds: &'a Bounds,
    pub(super) session: &'a Session,
}

impl Standing<'_> {
    /// Reads a line: the command, or why it is refused, and its verb if it has one.
    pub(super) fn read(&self, line: &[u8]) -> (Option<Verb>, Result<Command, Said>) {
        let Ok(line) = std::str::from_utf8(line) else { return (None, Err(NOT_TEXT)) };
        // RFC 5321 section 4.1.1: white space before the line end is tolerated.
        let Some((verb, arguments)) = Verb::split(line.trim_end_matches(' ')) else { return (None, Err(UNKNOWN)) };
        (Some(verb), self.may_come(verb).and_then(|()| self.parse(verb, arguments)))
    }

    /// The order of commands (RFC 5321 section 4.1.4) and what listeners demand first.
    fn may_come(&self, verb: Verb) -> Result<(), Said> {
        let harmless = matches!(verb, Verb::Ehlo | Verb::Helo | Verb::Noop | Verb::StartTls | Verb::Quit);
        if self.config.require_tls && !self.session.tls && !harmless {
            return Err(TLS_REQUIRED); // RFC 3207 section 4
        }
        let transaction = self.session.transaction.as_ref();
        let greeted = self.session.hello.is_some();
        match verb {
            Verb::Missing => Err(MISSING),
            Verb::Ehlo | Verb::Helo | Verb::Noop | Verb::Quit | Verb::Rset | Verb::Help | Verb::Vrfy => Ok(()),
            Verb::StartTls => self.may_start_tls(),
            Verb::Auth => self.may_authenticate(),
            Verb::Mail if !greeted => Err(HELLO_FIRST),
            Verb::Mail if transaction.is_some() => Err(NESTED),
            Verb::Mail if self.config.require_auth && self.session.authenticated.is_none() => Err(AUTH_REQUIRED),
            Verb::Mail => Ok(()),
            Verb::Rcpt | Verb::Data => match (verb, transaction) {
                (_, None) => Err(NO_TRANSACTION),
                (Verb::Data, Some(open)) if open.recipients.is_empty() => {
                    // Section 3.3 allows both; 554 says that asking again is no use.
                    Err(if open.any_refused { ALL_REFUSED } else { NO_RECIPIENT })
                }
                (Verb::Rcpt, Some(open)) if open.recipients.len() >= self.bounds.recipients => Err(TOO_MANY_RECIPIENTS),
                (_, Some(_)) => Ok(()),
            },
        }
    }

    fn may_start_tls(&self) -> Result<(), Said> {
        match self.config.tls {
            TlsOffer::None => Err(MISSING),
            TlsOffer::StartTls | TlsOffer::Implicit if self.session.tls => Err(TLS_ALREADY),
            TlsOffer::StartTls | TlsOffer::Implicit if !self.session.extended() => Err(HELLO_FIRST),
            TlsOffer::StartTls | TlsOffer::Implicit => Ok(()),
        }
    }

    /// RFC 4954 section 4.
    fn may_authenticate(&self) -> Result<(), Said> {
        match self.config.auth {
            AuthOffer::Never => Err(MISSING),
            AuthOffer::OnlyOverTls | AuthOffer::Always if !self.session.extended() => Err(HELLO_FIRST),
            AuthOffer::OnlyOverTls if !self.session.tls => Err(AUTH_IN_CLEAR),
            AuthOffer::OnlyOverTls | AuthOffer::Always if self.session.authenticated.is_some() => Err(AUTH_ALREADY),
            AuthOffer::OnlyOverTls | AuthOffer::Always if self.session.transaction.is_some() => Err(NESTED),
            AuthOffer::OnlyOverTls | AuthOffer::Always => Ok(()),
        }
    }

    /// Whether AUTH is offered now.
    pub(super) fn offers_auth(&self) -> bool {
        match self.config.auth {
            AuthOffer::Never => false,
            AuthOffer::OnlyOverTls => self.session.tls,
            AuthOffer::Always => true,
        }
    }

    fn parse(&self, verb: Verb, arguments: &str) -> Result<Command, Said> {
        let alone = |command| if arguments.is_empty() { Ok(command) } else { Err(ARGUMENTS) };
        match verb {
            Verb::Ehlo | Verb::Helo => hello(arguments, verb == Verb::Ehlo),
            Verb::Mail => {
                let text = after_keyword(arguments, "FROM:").ok_or(MAIL_SYNTAX)?;
                let (sender, parameters) = path::read_mail(text, self.offered())?;
                Ok(Command::Mail { sender, parameters })
            }
            Verb::Rcpt => {
                let text = after_keyword(arguments, "TO:").ok_or(RCPT_SYNTAX)?;
                let smtputf8 = self.session.transaction.as_ref().is_some_and(|open| open.parameters.smtputf8);
                path::read_recipient(text, &self.config.host_name, smtputf8).map(Command::Recipient)
            }
            Verb::Data => alone(Command::Data),
            Verb::Rset => alone(Command::Reset),
            Verb::Noop => Ok(Command::Noop),
            Verb::Vrfy if arguments.is_empty() => Err(VRFY_SYNTAX),
            Verb::Vrfy => Ok(Command::Verify),
            Verb::Help => Ok(Command::Help),
            Verb::Quit => alone(Command::Quit),
            Verb::StartTls => alone(Command::StartTls),
            Verb::Auth => auth(arguments),
            Verb::Missing => Err(MISSING),
        }
    }

    fn offered(&self) -> Offered {
        Offered {
            extended: self.session.extended(),
            smtputf8: self.config.smtputf8,
            auth: self.offers_auth(),
            message_bytes: u64::try_from(self.bounds.message_bytes).unwrap_or(u64::MAX),
        }
    }
}

/// `FROM:` or `TO:` in any case; RFC 5321 section 3.3: no space on either side of the colon.
fn after_keyword<'a>(arguments: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = arguments.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then_some(tail)
}

/// Any one printable word is a name: what clients call themselves is unverified anyway (RFC 5321 section 4.1.4).
fn hello(arguments: &str, extended: bool) -> Result<Command, Said> {
    let fits = !arguments.is_empty() && arguments.len() <= 255 && arguments.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Command::Hello { name: arguments.to_owned(), extended }) } else { Err(NO_NAME) }
}

fn auth(arguments: &str) -> Result<Command, Said> {
    let (name, initial) = match arguments.split_once(' ') {
        Some((name, initial)) => (name, Some(Secret::new(initial.to_owned()))),
        None => (arguments, None),
    };
    if name.is_empty() || initial.as_ref().is_some_and(|text| text.expose().contains(' ')) {
        return Err(AUTH_SYNTAX);
    }
    let known = [Mechanism::Plain, Mechanism::Login];
    let mechanism = known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name)).ok_or(MECHANISM)?;
    Ok(Command::Auth { mechanism, initial })
}
