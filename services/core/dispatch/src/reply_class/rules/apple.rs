//! iCloud Mail. Apple publishes what it asks of senders and explains no codes.
//!
//! 2026-11: support.apple.com/102322 (as of 2025-02-25); the replies are those that smtp.codes/icloud and the libraries of
//! bounce parsers list.

use crate::reply_class::ReplyClass::{
    Authentication, BadAddress, Blocked, Content, Mailbox, Policy, RateLimited, System,
};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Permanent, Rule, Temporary, rule, x};

pub(super) const RULES: &[Rule] = &[
    // "Messages to <recipient> deferred": one mailbox gets too many.
    rule("apple-recipient-rate", x(4, 7, 1), "excessive volume", RateLimited, Recipient),
    rule("apple-hcm1", Temporary, "[hcm1]", RateLimited, Source),
    rule("apple-bs02", Temporary, "[bs02]", System, Site),
    rule("apple-unavailable", Temporary, "service unavailable - try again later", System, Site),
    rule("apple-not-accepting", Permanent, "not accepting connections", Blocked, Source),
    rule("apple-listed", Permanent, "listing in spamhaus", Blocked, Source),
    rule("apple-listed-domain", Permanent, "present in the spamhaus dbl", Content, Message),
    rule("apple-hme1", Permanent, "[hme1]", Authentication, SigningDomain),
    rule("apple-cs01", Permanent, "[cs01]", Policy, Message),
    rule("apple-cs02", Permanent, "[cs02]", Policy, Message),
    rule("apple-hm08", Permanent, "[hm08]", Policy, Message),
    rule("apple-spam", Permanent, "content rejected due to spam", Content, Message),
    rule("apple-inactive", x(5, 1, 1), "inactive email address", Mailbox, Recipient),
    rule("apple-moved", x(5, 1, 6), "", BadAddress, Recipient),
    rule("apple-over-quota", x(5, 2, 2), "", Mailbox, Recipient),
];
