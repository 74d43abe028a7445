//! Microsoft: Exchange Online and the consumer service. Both speak the same codes; which says which has changed before.
//!
//! 2026-11: learn.microsoft.com, "Email nondelivery reports and SMTP errors in Exchange Online"; for RP, SC, DY and OU
//! sendersupport.olc.protection.outlook.com/pm/troubleshooting; for 5.7.515 the announcement of 2025-04 about high-volume
//! senders (enforced since 2025-05-05); for 4.7.650 to 652, S3140 and S3150 what senders have published.

use crate::reply_class::ReplyClass::{
    Authentication, BadAddress, Blocked, Content, Mailbox, Policy, RateLimited, System,
};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, code, either, range, rule, x};

pub(super) const RULES: &[Rule] = &[
    // Too much.
    rule("microsoft-rate-reputation", range(4, 7, 650, 651), "", RateLimited, Source),
    rule("microsoft-connections", x(4, 7, 652), "", RateLimited, Source),
    rule("microsoft-concurrent", Any, "exceed max concurrent connections", RateLimited, Source),
    // About this conversation; the next one carries the next messages.
    rule("microsoft-per-connection", Temporary, "maximum number of messages per connection", RateLimited, Message),
    rule("microsoft-rp-001", code(421), "rp-001", RateLimited, Source),
    rule("microsoft-rp-002", code(421), "rp-002", RateLimited, Source),
    rule("microsoft-rp-003", code(421), "rp-003", RateLimited, Source),
    rule("microsoft-busy", x(4, 7, 500), "server busy", RateLimited, Source),
    rule("microsoft-ipv6-range", x(5, 7, 508), "", RateLimited, Source),
    // Blocked.
    rule("microsoft-suspicious", range(4, 7, 500, 699), "access denied", Blocked, Source),
    rule("microsoft-restricted", range(4, 7, 850, 899), "", Blocked, Source),
    rule("microsoft-block-list", Permanent, "on our block list", Blocked, Source),
    rule("microsoft-banned-address", range(5, 7, 606, 649), "", Blocked, Source),
    rule("microsoft-banned-sender", x(5, 7, 511), "", Blocked, Source),
    rule("microsoft-spam-abuse", range(5, 7, 501, 503), "", Blocked, SigningDomain),
    rule("microsoft-customer-list", x(5, 7, 513), "", Blocked, Recipient),
    rule("microsoft-recipient-list", x(5, 7, 507), "", Blocked, Recipient),
    rule("microsoft-sc-001", Permanent, "sc-001", Blocked, Source),
    rule("microsoft-sc-002", Permanent, "sc-002", Blocked, Source),
    rule("microsoft-sc-003", Permanent, "sc-003", Blocked, Source),
    rule("microsoft-sc-004", Permanent, "sc-004", Blocked, Source),
    rule("microsoft-dy-001", Permanent, "dy-001", Blocked, Source),
    rule("microsoft-dy-002", Permanent, "dy-002", Blocked, Source),
    rule("microsoft-ou-001", Permanent, "ou-001", Blocked, Source),
    rule("microsoft-ou-002", Permanent, "ou-002", Blocked, Source),
    // Who sends it.
    rule("microsoft-bulk-sender", x(5, 7, 515), "", Authentication, SigningDomain),
    rule("microsoft-dmarc", x(5, 7, 509), "", Authentication, SigningDomain),
    rule("microsoft-spf", x(5, 7, 23), "", Authentication, SigningDomain),
    rule("microsoft-ipv6-unsigned", either(7, 26), "", Authentication, SigningDomain),
    rule("microsoft-ipv6-ptr", x(5, 7, 25), "", Authentication, Source),
    rule("microsoft-helo", x(5, 7, 506), "", Policy, Source),
    rule("microsoft-from-header", x(5, 7, 512), "", Content, Message),
    // Whom it is for.
    rule("microsoft-no-such-recipient", x(5, 1, 10), "", BadAddress, Recipient),
    rule("microsoft-not-in-directory", x(5, 4, 1), "access denied", BadAddress, Recipient),
    rule("microsoft-bad-recipient", range(5, 7, 504, 505), "", BadAddress, Recipient),
    rule("microsoft-mailbox-unavailable", x(5, 5, 0), "mailbox unavailable", BadAddress, Recipient),
    rule("microsoft-no-mail-here", x(4, 4, 4), "no mail-enabled subscriptions", BadAddress, Recipient),
    rule("microsoft-mailbox-full", x(5, 2, 2), "mailbox full", Mailbox, Recipient),
    rule("microsoft-recipient-rate", range(5, 2, 121, 122), "", RateLimited, Recipient),
    rule("microsoft-recipient-threads", x(4, 3, 2), "recipient thread limit", RateLimited, Recipient),
    rule("microsoft-members-only", range(5, 7, 133, 136), "", Policy, Recipient),
    rule("microsoft-not-allowed-to-group", x(5, 7, 124), "", Policy, Recipient),
    rule("microsoft-no-ipv6", x(5, 7, 510), "", Policy, Recipient),
    rule("microsoft-mail-flow-rule", range(5, 7, 900, 999), "", Policy, Recipient),
    // Their own affairs.
    rule("microsoft-filter-busy", x(4, 7, 700), "", System, Site),
    rule("microsoft-temporary-error", Temporary, "temporary server error", System, Site),
    rule("microsoft-replication", range(4, 4, 22, 28), "", System, Site),
];
