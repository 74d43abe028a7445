//! Paths and parameters of MAIL and RCPT (RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2): strict, and never rewriting an
//! address beyond taking a source route away.

use std::borrow::Cow;

use postrider_model::{Domain, Mailbox, ReversePath};

use super::MailParameters;
use super::reply::Said;

/// RFC 5321 section 4.5.3.1.3: octets of a path with its punctuation.
const PATH_BYTES: usize = 256;

const NO_BRACKETS: Said =
    Said::new(501, 5, 5, 4, "Syntax: the address stands in <angle brackets>, right after the colon");
const LONG_PATH: Said = Said::new(501, 5, 5, 4, "A path is at most 256 octets long");
const BAD_SENDER: Said = Said::new(501, 5, 1, 7, "Not a valid sender address");
const BAD_RECIPIENT: Said = Said::new(501, 5, 1, 3, "Not a valid recipient address");
const BAD_PARAMETER: Said = Said::new(501, 5, 5, 4, "Malformed parameter");
const REPEATED_PARAMETER: Said = Said::new(501, 5, 5, 4, "A parameter was given twice");
const UNKNOWN_PARAMETER: Said = Said::new(555, 5, 5, 4, "Parameter not recognized or not implemented");
const BAD_BODY: Said = Said::new(504, 5, 5, 4, "BODY is 7BIT or 8BITMIME");
const TOO_LARGE: Said = Said::new(552, 5, 3, 4, "Message size exceeds fixed maximum message size");
const UTF8_SENDER: Said = Said::new(550, 5, 6, 7, "A non-ASCII sender address needs the SMTPUTF8 parameter");
const UTF8_RECIPIENT: Said = Said::new(553, 5, 6, 7, "A non-ASCII recipient address needs the SMTPUTF8 parameter");

/// Which parameters may be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered {
    /// EHLO was said: without it there are no parameters at all.
    pub(super) extended: bool,
    pub(super) smtputf8: bool,
    pub(super) auth: bool,
    pub(super) message_bytes: u64,
}

/// Reads what follows `MAIL FROM:`.
pub(super) fn read_mail(text: &str, offered: Offered) -> Result<(ReversePath, MailParameters), Said> {
    let (path, rest) = split_path(text)?;
    let sender: ReversePath = match without_route(path).ok_or(BAD_SENDER)? {
        "" if !path.is_empty() => return Err(BAD_SENDER),
        address => address.parse().map_err(|_| BAD_SENDER)?,
    };
    let parameters = mail_parameters(rest, offered)?;
    // RFC 6531 section 3.5. A domain in U-labels needs the parameter too, though it is kept in A-labels.
    if !path.is_ascii() && !parameters.smtputf8 {
        return Err(UTF8_SENDER);
    }
    Ok((sender, parameters))
}

/// Reads what follows `RCPT TO:` in a transaction with or without SMTPUTF8.
pub(super) fn read_recipient(text: &str, host_name: &Domain, smtputf8: bool) -> Result<Mailbox, Said> {
    let (path, rest) = split_path(text)?;
    let recipient = match without_route(path).ok_or(BAD_RECIPIENT)? {
        // Section 4.5.1: every server knows its bare postmaster, in any case.
        bare if bare.len() == path.len() && bare.eq_ignore_ascii_case("postmaster") => {
            Cow::Owned(format!("{bare}@{host_name}"))
        }
        address => Cow::Borrowed(address),
    };
    let recipient = recipient.parse().map_err(|_| BAD_RECIPIENT)?;
    if !path.is_ascii() && !smtputf8 {
        return Err(UTF8_RECIPIENT);
    }
    // No extension offered here adds a parameter to RCPT.
    match parameters(rest).next() {
        None => Ok(recipient),
        Some(Ok(_)) => Err(UNKNOWN_PARAMETER),
        Some(Err(said)) => Err(said),
    }
}

/// Splits `<path> parameters` at the bracket that closes the path: not one within a quoted local part.
fn split_path(text: &str) -> Result<(&str, &str), Said> {
    let inner = text.strip_prefix('<').ok_or(NO_BRACKETS)?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.bytes().position(|byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return true,
            _ => {}
        }
        false
    });
    let (path, rest) = end.and_then(|end| Some((inner.get(..end)?, inner.get(end + 1..)?))).ok_or(NO_BRACKETS)?;
    if path.len() + 2 > PATH_BYTES {
        return Err(LONG_PATH);
    }
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(BAD_PARAMETER);
    }
    Ok((path, rest))
}

/// Takes a source route (`@a,@b:`) away: RFC 5321 appendix C says to accept and ignore it. `None` if it is malformed.
fn without_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    let mut rest = path;
    loop {
        rest = rest.strip_prefix('@')?;
        let literal_end = if rest.starts_with('[') { rest.find(']')? } else { 0 };
        let end = literal_end + rest.get(literal_end..)?.find([',', ':'])?;
        rest.get(..end)?.parse::<Domain>().ok()?;
        let separator = rest.get(end..=end)?;
        rest = rest.get(end + 1..)?;
        if separator == ":" {
            return Some(rest);
        }
    }
}

/// A keyword and its value.
type Parameter<'a> = (&'a str, Option<&'a str>);

/// The parameters of a command (RFC 5321 section 4.1.2, esmtp-param).
fn parameters(text: &str) -> impl Iterator<Item = Result<Parameter<'_>, Said>> {
    text.split(' ').filter(|item| !item.is_empty()).map(|item| {
        let (keyword, value) = match item.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (item, None),
        };
        let begins = keyword.starts_with(|c: char| c.is_ascii_alphanumeric());
        let keyword_fits = begins && keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let value_fits =
            value.is_none_or(|value| !value.is_empty() && value.bytes().all(|b| matches!(b, 33..=60 | 62..=126)));
        if keyword_fits && value_fits { Ok((keyword, value)) } else { Err(BAD_PARAMETER) }
    })
}

fn mail_parameters(text: &str, offered: Offered) -> Result<MailParameters, Said> {
    let mut found = MailParameters::default();
    let mut body_given = false;
    for parameter in parameters(text) {
        let (keyword, value) = parameter?;
        let is = |name: &str, offered: bool| offered && keyword.eq_ignore_ascii_case(name);
        let repeated = if is("SIZE", offered.extended) {
            found.size.replace(size(value, offered.message_bytes)?).is_some()
        } else if is("BODY", offered.extended) {
            found.eight_bit = eight_bit(value)?;
            std::mem::replace(&mut body_given, true)
        } else if is("SMTPUTF8", offered.extended && offered.smtputf8) {
            if value.is_some() {
                return Err(BAD_PARAMETER);
            }
            std::mem::replace(&mut found.smtputf8, true)
        } else if is("AUTH", offered.extended && offered.auth) {
            found.auth.replace(xtext(value.ok_or(BAD_PARAMETER)?).ok_or(BAD_PARAMETER)?).is_some()
        } else {
            return Err(UNKNOWN_PARAMETER);
        };
        if repeated {
            return Err(REPEATED_PARAMETER);
        }
    }
    Ok(found)
}

/// RFC 1870 section 6: up to 20 digits; larger than we take is refused at once.
fn size(value: Option<&str>, bound: u64) -> Result<u64, Said> {
    let digits = value.ok_or(BAD_PARAMETER)?;
    if digits.len() > 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD_PARAMETER);
    }
    digits.parse().ok().filter(|size| *size <= bound).ok_or(TOO_LARGE)
}

/// RFC 6152 section 2.
fn eight_bit(value: Option<&str>) -> Result<bool, Said> {
    match value {
        Some(value) if value.eq_ignore_ascii_case("8BITMIME") => Ok(true),
        Some(value) if value.eq_ignore_ascii_case("7BIT") => Ok(false),
        Some(_) => Err(BAD_BODY),
        None => Err(BAD_PARAMETER),
    }
}

/// Decodes xtext (RFC 3461 section 4): `+` and two upper-case hexadecimal digits stand for an octet.
fn xtext(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_lowercase());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'+' {
            decoded.push(byte);
            continue;
        }
        let octet = 16 * digit(bytes.next()?)? + digit(bytes.next()?)?;
        decoded.push(u8::try_from(octet).ok()?);
    }
    String::from_utf8(decoded).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
