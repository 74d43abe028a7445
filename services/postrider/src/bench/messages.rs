//! The mail of the load. Every message is its own: ids, addresses, links and the choice of words differ. HTML text compresses
//! to about 30 % once there is some of it, base64 attachments to about 76 %, as real mail does; incompressible bodies are for
//! comparison. Same seed and number, same message.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What bodies are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// HTML text, and from 32 KiB on mostly a base64 attachment.
    AsRealMail,
    /// Bytes without any pattern, sent as they are (8BITMIME).
    Incompressible,
}

/// From this size on a message is mostly attachment.
const ATTACHMENT_FROM: usize = 32 << 10;

/// The HTML text of a message with an attachment, bytes.
const TEXT_BESIDE_ATTACHMENT: usize = 6 << 10;

/// A line of an attachment with its end (RFC 2045 section 6.8: at most 76 characters).
const LINE: usize = 78;

/// Lines that attachments are cut from: some 16 MiB, each attachment beginning at a line of its own.
const POOL_LINES: usize = (16 << 20) / LINE;

/// Where messages come from and go to.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The sender's domain.
    pub sender_domain: String,
    /// The recipients' domains; message n goes to the n-th, round and round.
    pub recipient_domains: Vec<String>,
}

/// Makes messages.
pub struct Corpus {
    size: usize,
    body: Body,
    addresses: Addresses,
    words: Vec<String>,
    pool: Vec<u8>,
}

impl Corpus {
    /// A corpus of messages of about `size` bytes each, headers included.
    pub fn new(size: usize, body: Body, addresses: Addresses) -> Self {
        let mut rng = SmallRng::seed_from_u64(size as u64);
        let words = (0..1_500).map(|_| word(&mut rng)).collect();
        let pool = match body {
            Body::AsRealMail if size < ATTACHMENT_FROM => Vec::new(),
            Body::AsRealMail => base64_lines(POOL_LINES, &mut rng),
            Body::Incompressible => raw_lines(POOL_LINES, &mut rng),
        };
        Self { size, body, addresses, words, pool }
    }

    /// The sender's address.
    pub fn sender(&self) -> String {
        format!("news@{}", self.addresses.sender_domain)
    }

    /// The domain that message `number` goes to.
    pub fn recipient_domain(&self, number: usize) -> &str {
        let domains = &self.addresses.recipient_domains;
        domains.get(number % domains.len().max(1)).map_or("dest.example", String::as_str)
    }

    /// Writes message `number` to `recipient` into `out`, which is emptied first, up to and with the end of data. No line
    /// begins with a dot.
    pub fn write(&self, number: usize, recipient: &str, out: &mut Vec<u8>) {
        out.clear();
        let mut rng = SmallRng::seed_from_u64((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.size as u64);
        let mut text = String::with_capacity(self.size.min(TEXT_BESIDE_ATTACHMENT) + 1_024);
        match self.body {
            Body::AsRealMail if self.size >= ATTACHMENT_FROM => {
                self.header(&mut text, &mut rng, number, recipient, "multipart/mixed; boundary=\"=_part\"", "7bit");
                text.push_str("--=_part\r\nContent-Type: text/html; charset=utf-8\r\n\r\n");
                self.html(&mut text, TEXT_BESIDE_ATTACHMENT, &mut rng, number);
                text.push_str(
                    "--=_part\r\nContent-Type: application/pdf; name=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
                     Content-Disposition: attachment; filename=\"invoice.pdf\"\r\n\r\n",
                );
                out.extend_from_slice(text.as_bytes());
                self.cut(out, &mut rng);
                out.extend_from_slice(b"--=_part--\r\n");
            }
            Body::AsRealMail => {
                self.header(&mut text, &mut rng, number, recipient, "text/html; charset=utf-8", "7bit");
                self.html(&mut text, self.size, &mut rng, number);
                out.extend_from_slice(text.as_bytes());
            }
            Body::Incompressible => {
                self.header(&mut text, &mut rng, number, recipient, "application/octet-stream", "8bit");
                out.extend_from_slice(text.as_bytes());
                self.cut(out, &mut rng);
            }
        }
        out.extend_from_slice(b".\r\n");
    }

    fn header(
        &self,
        out: &mut String,
        rng: &mut SmallRng,
        number: usize,
        recipient: &str,
        content_type: &str,
        encoding: &str,
    ) {
        let domain = &self.addresses.sender_domain;
        let unique: u64 = rng.random();
        let (one, two) = (self.word(rng), self.word(rng));
        // A String takes all that is written to it.
        write!(
            out,
            "From: The {one} team <{}>\r\nTo: <{recipient}>\r\nSubject: Your {one} {two}, no. {number}\r\n\
             Date: Sat, 21 Nov 2026 10:{:02}:{:02} +0000\r\nMessage-ID: <{unique:016x}.{number}@{domain}>\r\n\
             MIME-Version: 1.0\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n",
            self.sender(),
            number / 60 % 60,
            number % 60,
        )
        .ok();
    }

    fn word(&self, rng: &mut SmallRng) -> &str {
        // Few words are frequent and most are rare, as in any language.
        let share: f64 = rng.random();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of the list is an index in it"
        )]
        let at = (share * share * share * self.words.len() as f64) as usize;
        self.words.get(at).map_or("the", String::as_str)
    }

    /// HTML text until `out` is about `until` bytes long.
    fn html(&self, out: &mut String, until: usize, rng: &mut SmallRng, number: usize) {
        out.push_str("<!DOCTYPE html>\r\n<html><body style=\"margin:0;background:#f4f4f4\">\r\n<table width=\"600\" align=\"center\">\r\n");
        const END: &str = "</table>\r\n</body></html>\r\n";
        while out.len() + END.len() + 64 < until {
            let room = until - out.len() - END.len();
            match rng.random_range(0..3) {
                0 if room > 320 => {
                    let link: u32 = rng.random();
                    write!(
                        out,
                        "<tr><td style=\"padding:12px 24px\"><a href=\"https://www.{}/c/{number}/{link:08x}\" \
                         style=\"color:#0645ad\">",
                        self.addresses.sender_domain
                    )
                    .ok();
                    self.sentence(out, 40, rng);
                    out.push_str("</a></td></tr>\r\n");
                }
                1 | 2 if room > 256 => {
                    out.push_str("<tr><td style=\"padding:12px 24px\">\r\n<p style=\"font:15px/22px Arial,sans-serif;color:#333333\">");
                    self.sentence(out, room.min(360) - 160, rng);
                    out.push_str("</p></td></tr>\r\n");
                }
                _ => {
                    out.push_str("<p>");
                    self.sentence(out, room.min(80) - 16, rng);
                    out.push_str("</p>\r\n");
                }
            }
        }
        out.push_str(END);
    }

    /// Words for about so many bytes, in lines.
    fn sentence(&self, out: &mut String, bytes: usize, rng: &mut SmallRng) {
        let end = out.len() + bytes;
        let mut line = out.len();
        while out.len() < end {
            out.push_str(self.word(rng));
            if out.len() - line > 72 {
                out.push_str("\r\n");
                line = out.len();
            } else {
                out.push(' ');
            }
        }
    }

    /// Lines of the pool until the message is as long as it shall be, from a place of its own on.
    fn cut(&self, out: &mut Vec<u8>, rng: &mut SmallRng) {
        let lines = self.size.saturating_sub(out.len() + 16).div_ceil(LINE);
        let most = POOL_LINES.saturating_sub(lines);
        let from = rng.random_range(0..most.max(1)) * LINE;
        out.extend_from_slice(self.pool.get(from..from + lines.min(POOL_LINES) * LINE).unwrap_or_default());
    }
}

/// A word of two to four syllables, of no language.
fn word(rng: &mut SmallRng) -> String {
    const ONSETS: [&str; 16] = ["b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "th", "v", "st", "w"];
    const ENDS: [&str; 10] = ["a", "e", "i", "o", "u", "en", "er", "in", "on", "al"];
    let pick =
        |list: &[&'static str], rng: &mut SmallRng| list.get(rng.random_range(0..list.len())).copied().unwrap_or("");
    let syllables = rng.random_range(1..4);
    (0..syllables).flat_map(|_| [pick(&ONSETS, rng), pick(&ENDS, rng)]).collect()
}

fn base64_lines(lines: usize, rng: &mut SmallRng) -> Vec<u8> {
    let mut out = String::with_capacity(lines * LINE);
    let mut raw = [0u8; 57];
    for _ in 0..lines {
        rng.fill(&mut raw);
        STANDARD.encode_string(raw, &mut out);
        out.push_str("\r\n");
    }
    out.into_bytes()
}

/// Lines of any bytes but those that end a line, a string or a message.
fn raw_lines(lines: usize, rng: &mut SmallRng) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines * LINE);
    let mut line = [0u8; LINE - 2];
    for _ in 0..lines {
        rng.fill(&mut line);
        // From the byte after the dot on.
        out.extend(line.iter().map(|byte| b'/' + byte % (255 - b'/')));
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(size: usize, body: Body) -> Corpus {
        let addresses =
            Addresses { sender_domain: "bench.example".into(), recipient_domains: vec!["dest.example".into()] };
        Corpus::new(size, body, addresses)
    }

    fn message(corpus: &Corpus, number: usize) -> Vec<u8> {
        let mut out = Vec::new();
        corpus.write(number, "r1@dest.example", &mut out);
        out
    }

    /// What zstd, as the queue uses it, leaves of some messages.
    fn share(size: usize, body: Body) -> f64 {
        let corpus = corpus(size, body);
        let (mut before, mut after) = (0, 0);
        for number in 0..20 {
            let message = message(&corpus, number);
            before += message.len();
            after += zstd::bulk::compress(&message, 3).unwrap().len();
        }
        after as f64 / before as f64
    }

    #[test]
    fn text_compresses_to_about_30_percent_and_attachments_to_about_76() {
        for size in [10 << 10, 20 << 10] {
            let text = share(size, Body::AsRealMail);
            assert!((0.25..0.36).contains(&text), "{size}: {text}");
        }
        let attachment = share(100 << 10, Body::AsRealMail);
        assert!((0.70..0.78).contains(&attachment), "{attachment}");
        let nothing = share(10 << 10, Body::Incompressible);
        assert!(nothing > 0.93, "{nothing}");
        // One KiB alone has little to repeat.
        let small = share(1 << 10, Body::AsRealMail);
        assert!((0.45..0.75).contains(&small), "{small}");
    }

    #[test]
    fn messages_are_as_long_as_they_shall_be_and_well_formed() {
        for body in [Body::AsRealMail, Body::Incompressible] {
            for size in [1 << 10, 10 << 10, 100 << 10] {
                let corpus = corpus(size, body);
                for number in 0..30 {
                    let message = message(&corpus, number);
                    let off = message.len().abs_diff(size);
                    assert!(off < 160, "{body:?} {size}: {}", message.len());
                    let text: String = message.into_iter().map(char::from).collect();
                    let content = text.strip_suffix("\r\n.\r\n").expect("the end of data");
                    assert!(content.split("\r\n").all(|line| line.len() < 400 && !line.starts_with('.')), "{text}");
                    assert!(!content.replace("\r\n", "").contains(['\r', '\n']));
                }
            }
        }
    }

    #[test]
    fn every_message_is_its_own_and_comes_again_the_same() {
        let corpus = corpus(1 << 10, Body::AsRealMail);
        let all: std::collections::BTreeSet<Vec<u8>> = (0..300).map(|number| message(&corpus, number)).collect();
        assert_eq!(all.len(), 300);
        assert_eq!(message(&corpus, 7), message(&corpus, 7));
    }
}
