//! What a server says: RFC 5321 section 4.2 with the enhanced status codes of RFC 3463.

use std::fmt;
use std::str::FromStr;

/// An enhanced status code such as `4.7.1` (RFC 3463 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode(pub u8, pub u16, pub u16);

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl FromStr for EnhancedCode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |part: Option<&str>| {
            part.filter(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|p| p.parse::<u16>().ok())
                .ok_or(())
        };
        let mut parts = text.split('.');
        let (class, subject, detail) = (number(parts.next())?, number(parts.next())?, number(parts.next())?);
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return Err(());
        }
        Ok(Self(u8::try_from(class).map_err(|_| ())?, subject, detail))
    }
}

/// A reply: code, enhanced code if there is one, and the text with its lines joined by spaces. The text of a remote server
/// is untrusted: control characters are already replaced, the length is bounded to [`Reply::LONGEST_TEXT`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The enhanced status code.
    pub enhanced: Option<EnhancedCode>,
    /// The rest.
    pub text: String,
}

impl Reply {
    /// The most bytes of text that are kept.
    pub const LONGEST_TEXT: usize = 1024;

    /// A reply whose text is made safe to log: control characters become spaces, and it is cut to the bound.
    pub fn new(code: u16, enhanced: Option<EnhancedCode>, text: &str) -> Self {
        let mut clean = String::with_capacity(text.len().min(Self::LONGEST_TEXT));
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if clean.len() + c.len_utf8() > Self::LONGEST_TEXT {
                break;
            }
            clean.push(c);
        }
        Self { code, enhanced, text: clean }
    }

    /// 2xx.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// 4xx, and every code outside 2xx to 5xx: nothing unknown may become a permanent failure.
    pub fn is_temporary(&self) -> bool {
        !self.is_positive() && !self.is_permanent()
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        write!(f, " {}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_stranger_is_made_safe_and_short() {
        let reply = Reply::new(550, Some(EnhancedCode(5, 1, 1)), &format!("no\x1b[31m\r\n{}", "é".repeat(2_000)));
        assert!(reply.text.starts_with("no [31m  é"));
        assert!(reply.text.len() <= Reply::LONGEST_TEXT);
    }

    #[test]
    fn unknown_codes_are_temporary() {
        for code in [0, 199, 354, 421, 450, 600, 999] {
            assert!(Reply::new(code, None, "").is_temporary(), "{code}");
        }
        assert!(Reply::new(550, None, "").is_permanent());
    }

    #[test]
    fn enhanced_codes_parse_strictly() {
        assert_eq!("5.7.26".parse(), Ok(EnhancedCode(5, 7, 26)));
        for bad in ["", "5", "5.7", "5.7.x", "3.1.1", "5.7.1.1", "5.7.1234", "5..1"] {
            assert!(bad.parse::<EnhancedCode>().is_err(), "{bad:?}");
        }
    }
}
