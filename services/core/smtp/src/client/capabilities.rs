//! What a server said it can do, read from its reply to EHLO or LHLO.

/// The service extensions that a server announced and this client knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): offered, and with which limit in octets, if it named one.
    pub size: Option<Option<u64>>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
    /// LIMITS RCPTMAX= (RFC 9422): the most recipients of one transaction.
    pub recipients_max: Option<usize>,
}

impl Capabilities {
    /// Reads the lines after the first of a reply to EHLO or LHLO (RFC 5321 section 4.1.1.1). Keywords are
    /// case-insensitive; what is unknown or malformed is not offered.
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => found.pipelining = true,
                // RFC 1870 section 4: no number, or 0, is no fixed limit.
                "SIZE" => found.size = Some(words.next().and_then(|text| text.parse().ok()).filter(|size| *size > 0)),
                "8BITMIME" => found.eight_bit_mime = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "STARTTLS" => found.starttls = true,
                "ENHANCEDSTATUSCODES" => found.enhanced_status_codes = true,
                "LIMITS" => found.recipients_max = words.find_map(recipients_max),
                _ => {}
            }
        }
        found
    }
}

/// RFC 9422 section 4.2: at least one, or the limit means nothing.
fn recipients_max(limit: &str) -> Option<usize> {
    let (name, value) = limit.split_once('=')?;
    let value = value.parse().ok().filter(|max| *max > 0)?;
    name.eq_ignore_ascii_case("RCPTMAX").then_some(value)
}
