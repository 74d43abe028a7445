//! Mailboxes of access providers: Comcast, Orange with La Poste, GMX with WEB.DE and IONOS, T-Online.

use crate::reply_class::ReplyClass::{
    Authentication, BadAddress, Blocked, Content, Mailbox, Policy, RateLimited, System,
};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, code, rule};

/// 2026-11: postmaster.comcast.net/mail-error-codes, xfinity.com/support/articles/email-errors. The mailboxes are moving to
/// Yahoo; a domain's exchangers say which of the two it is.
pub(super) const COMCAST: &[Rule] = &[
    rule("comcast-rate", Any, "rl0000", RateLimited, Source),
    rule("comcast-sessions", code(421), "too many sessions opened", RateLimited, Source),
    rule("comcast-listed", Permanent, "#bl000", Blocked, Source),
    rule("comcast-spam", Permanent, "comcast block for spam", Blocked, Source),
    rule("comcast-dynamic", Permanent, "#es0000", Blocked, Source),
    rule("comcast-ptr", Any, "reverse dns failure", Authentication, Source),
    rule("comcast-no-customer", Permanent, "not our customer", BadAddress, Recipient),
    rule("comcast-closed", Permanent, "account closed", Mailbox, Recipient),
];

/// 2026-11: postmastery.com/orange-postmaster-smtp-error-codes-ofr; the number after OFR or LPN is the reason.
pub(super) const ORANGE: &[Rule] = &[
    rule("orange-connections", Any, "_104", RateLimited, Source),
    rule("orange-service-refused-for-now", Temporary, "_105", RateLimited, Source),
    rule("orange-refused-for-now", Temporary, "_999", RateLimited, Source),
    rule("orange-listed", Permanent, "_101", Blocked, Source),
    rule("orange-spam-source", Permanent, "_102", Blocked, Source),
    rule("orange-service-refused", Permanent, "_103", Blocked, Source),
    rule("orange-content-source", Permanent, "_510", Blocked, Source),
    rule("orange-spf", Any, "_401", Authentication, SigningDomain),
    rule("orange-spf-dns", Any, "spf check failed", Authentication, SigningDomain),
    rule("orange-sender", Any, "_405", Policy, SigningDomain),
    rule("orange-dmarc", Permanent, "_517", Authentication, SigningDomain),
    rule("orange-no-recipient", Permanent, "_416", BadAddress, Recipient),
    rule("orange-over-quota", Permanent, "_417", Mailbox, Recipient),
    rule("orange-archived", Permanent, "_420", Mailbox, Recipient),
    rule("orange-mailbox-blocked", Permanent, "_426", Mailbox, Recipient),
    rule("orange-spam", Permanent, "_506", Content, Message),
    rule("orange-size", Permanent, "_514", Content, Message),
    rule("orange-system", Temporary, "_505", System, Site),
];

/// 2026-11: postmaster.gmx.net, postmaster.web.de/de/fehlermeldungen, smtp.codes/unitedinternet. No enhanced codes; the last
/// line but one says what it is about.
pub(super) const GMX: &[Rule] = &[
    rule("gmx-rate", code(421), "rate limit reached", RateLimited, Source),
    // Too many addresses that do not exist, or a HELO that keeps changing.
    rule("gmx-policy-violations", Temporary, "reject due to policy violations", Blocked, Source),
    rule("gmx-listed", code(554), "ip address is block listed", Blocked, Source),
    rule("gmx-listed-old", code(554), "ip address is black listed", Blocked, Source),
    rule("gmx-ptr", code(554), "bad dns ptr", Authentication, Source),
    rule("gmx-spf", Permanent, "reject due to spf policy", Authentication, SigningDomain),
    rule("gmx-policy", Permanent, "reject due to policy restrictions", Policy, Message),
];

/// 2026-11: postmaster.t-online.de; addresses without a reputation are refused until their operator has asked.
pub(super) const T_ONLINE: &[Rule] = &[
    rule("t-online-reputation", code(554), "bad reputation", Blocked, Source),
    rule("t-online-problem", code(554), "a problem occurred", Blocked, Source),
    rule("t-online-spam", Permanent, "spam or virus classification", Content, Message),
];
