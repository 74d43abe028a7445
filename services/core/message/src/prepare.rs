//! Makes an accepted message ready for the queue: our trace field before it, what every message must have added, our own
//! fields taken out. Every other byte stays as it came.

mod received;
pub use received::{Protocol, Trace};

use bytes::Bytes;
use postrider_model::{Domain, MessageId};

use crate::inspect::Inspection;

/// The Message-ID, without brackets, that [`prepare`] gives a message that has none.
pub fn added_message_id(id: &MessageId, host: &Domain) -> String {
    format!("{id}@{host}")
}

/// Puts `Received:` before the message, a Message-ID and a Date if there are none (RFC 6409 section 8), takes the fields of
/// [`crate::Directives`] out, and puts the empty line in if the body begins without one. `inspection` must be of this very
/// message.
pub fn prepare(message: &Bytes, inspection: &Inspection, trace: &Trace<'_>, message_id_host: &Domain) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 1024);
    out.extend_from_slice(trace.field().as_bytes());
    if !inspection.has_message_id {
        out.extend_from_slice(format!("Message-ID: <{}>\r\n", added_message_id(&trace.id, message_id_host)).as_bytes());
    }
    if !inspection.has_date {
        out.extend_from_slice(format!("Date: {}\r\n", trace.now.rfc5322()).as_bytes());
    }
    let mut kept_from = 0;
    for range in &inspection.directive_ranges {
        out.extend_from_slice(message.get(kept_from..range.start).unwrap_or_default());
        kept_from = range.end;
    }
    out.extend_from_slice(message.get(kept_from..inspection.header_end).unwrap_or_default());
    if inspection.separator_missing {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(message.get(inspection.header_end..).unwrap_or_default());
    out.into()
}

#[cfg(test)]
mod tests;
