//! Every bound of both machines in one struct: nothing a peer sends may grow past one of these.

/// Bounds of memory and patience. Sizes are in octets and include the line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Server: a command line. RFC 5321 section 4.5.3.1.4 asks for 512 plus what extensions add (SIZE 26, AUTH 500,
    /// SMTPUTF8 10, BODY 17).
    pub command_line_bytes: usize,
    /// Server: an AUTH command or a line of its dialogue (RFC 4954 section 4).
    pub auth_line_bytes: usize,
    /// Server: a line of a message without its stuffed dot (RFC 5321 section 4.5.3.1.6: 1000). Submission may be laxer.
    pub text_line_bytes: usize,
    /// Server: a message as received, unstuffed; announced with SIZE.
    pub message_bytes: usize,
    /// Server: accepted recipients of a message (RFC 5321 section 4.5.3.1.8 asks for at least 100).
    pub recipients: usize,
    /// Server: commands refused for their form or order since the last accepted message before the session ends with 421.
    pub errors_per_session: u32,
    /// Server: authentications refused before the session ends with 421.
    pub auth_failures_per_session: u32,
    /// Server: commands before the session ends with 421.
    pub commands_per_session: u32,
    /// Server: commands since the last accepted message that carry no mail (NOOP, RSET, EHLO, VRFY, HELP ...) before
    /// the session ends with 421.
    pub idle_commands: u32,
    /// Server: octets of one over-long line or refused message that are read and thrown away before the session ends
    /// with 421.
    pub discarded_bytes: u64,
    /// Client: what is kept of one line of a reply; the rest of the line is dropped (RFC 5321 section 4.5.3.1.5: 512).
    pub reply_line_bytes: usize,
    /// Client: lines of one reply; more are a protocol error.
    pub reply_lines: usize,
    /// Client: octets of one reply, dropped ones included; more are a protocol error.
    pub reply_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            command_line_bytes: 2_048,
            auth_line_bytes: 12_288,
            text_line_bytes: 1_000,
            message_bytes: 50 << 20,
            recipients: 1_000,
            errors_per_session: 20,
            auth_failures_per_session: 3,
            commands_per_session: 1_000_000,
            idle_commands: 200,
            discarded_bytes: 256 << 20,
            reply_line_bytes: 2_048,
            reply_lines: 128,
            reply_bytes: 64 << 10,
        }
    }
}
