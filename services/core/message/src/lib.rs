//! RFC 5322 bytes: what a message says about itself, the few header fields that we add or take out, and its DKIM
//! signature. Works on the raw bytes by offsets; never parses a message into parts and writes it anew.

mod header;
pub use header::{Header, Headers, headers};

mod inspect;
pub use inspect::{AuthorError, Directives, HEADER_BYTES, Inspection, MOST_RECEIVED, MessageError, inspect};

mod prepare;
pub use prepare::{Protocol, Trace, added_message_id, prepare};

pub mod dkim;
