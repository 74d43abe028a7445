//! Subject tokens: a name becomes one token of a NATS subject and back. `.` is written `_`, `_` is written `__`.

/// Writes a name as one token. Characters that NATS forbids in subjects (`*`, `>`, spaces) do not occur in our names.
pub fn escape_token(name: &str) -> String {
    name.replace('_', "__").replace('.', "_")
}

/// Reads a token written by [`escape_token`].
pub fn unescape_token(token: &str) -> String {
    token.replace("__", "\0").replace('_', ".").replace('\0', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_no_dot_and_come_back() {
        for name in ["example.com", "a_b.example", "_dmarc.x", "google", "a__b"] {
            let token = escape_token(name);
            assert!(!token.contains('.'));
            assert_eq!(unescape_token(&token), name);
        }
        assert_eq!(escape_token("a_b.example"), "a__b_example");
    }
}
