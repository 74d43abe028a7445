//! Yahoo, AOL and the domains that moved to them; Yahoo Japan, a company of its own that uses some of the same codes.
//!
//! 2026-11: senders.yahooinc.com/smtp-error-codes (as of 2026-02-15); the waits for TSS04 and TSS05 are those that KumoMTA
//! and its community publish as their defaults.

use crate::reply_class::ReplyClass::{
    Authentication, BadAddress, Blocked, Content, Mailbox, Policy, RateLimited, System,
};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, code, rule, x};

pub(super) const RULES: &[Rule] = &[
    // The domain of MAIL or From has no SOA; also said with "temporarily deferred", which is else about rates.
    rule("yahoo-unresolvable-domain", Any, "unresolvable rfc.532", Authentication, SigningDomain),
    rule("yahoo-tss04", Temporary, "[tss04]", RateLimited, Source).wait(2 * 3_600),
    rule("yahoo-tss05", Temporary, "[tss05]", RateLimited, Source).wait(4 * 3_600),
    rule("yahoo-ipts04", Temporary, "[ipts04]", RateLimited, Source).wait(2 * 3_600),
    rule("yahoo-ipts05", Temporary, "[ipts05]", RateLimited, Source).wait(4 * 3_600),
    // TS03, TSS09, TSS11: retrying will not succeed, it says, even with a code that is temporary.
    rule("yahoo-permanently-deferred", Any, "permanently deferred", Blocked, Source),
    rule("yahoo-deferred", Temporary, "temporarily deferred", RateLimited, Source),
    // The end of each connection, about every twenty messages: nothing to slow down for.
    rule("yahoo-per-connection", code(421), "max message per connection", RateLimited, Message),
    rule("yahoo-unknown-recipients", code(451), "excessive unknown recipients", Blocked, Source),
    rule("yahoo-listed", Permanent, "[bl2", Blocked, Source),
    rule("yahoo-japan-vs98", code(553), "vs98-ip", Blocked, Source),
    rule("yahoo-unauthenticated", x(5, 7, 9), "unauthenticated", Authentication, SigningDomain),
    rule("yahoo-dmarc", x(5, 7, 9), "", Authentication, SigningDomain),
    rule("yahoo-content", Permanent, "[ph", Content, Message),
    rule("yahoo-policy", Permanent, "not accepted for policy reasons", Policy, Message),
    rule("yahoo-headers", Permanent, "not rfc compliant", Content, Message),
    rule("yahoo-mailbox-disabled", code(554), "mailbox is disabled", Mailbox, Recipient),
    rule("yahoo-no-account", Permanent, "this user doesn't have a", BadAddress, Recipient),
    rule("yahoo-no-longer-valid", Permanent, "is no longer valid", BadAddress, Recipient),
    rule("yahoo-busy", Temporary, "resources temporarily", System, Site),
];
