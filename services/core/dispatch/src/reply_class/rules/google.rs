//! Gmail and Google Workspace.
//!
//! 2026-11: support.google.com/a/answer/3726730 (as of 2026-02-12), support.google.com/a/answer/81126 for what the 4.7.2x to
//! 4.7.4x codes ask for. Quotas are kept for the address, for its network, and for the DKIM and SPF domains, each on its own.

use crate::reply_class::ReplyClass::{
    Authentication, BadAddress, Blocked, Content, Mailbox, Network, Policy, Protocol, RateLimited, System,
};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, either, rule, x};

pub(super) const RULES: &[Rule] = &[
    // Too much, by whose count.
    rule("google-rate-dkim-domain", either(7, 28), "dkim domain", RateLimited, SigningDomain),
    rule("google-rate-spf-domain", either(7, 28), "spf domain", RateLimited, SigningDomain),
    rule("google-rate-url", either(7, 28), "url domain", RateLimited, Message),
    rule("google-rate-message-id", either(7, 28), "same message-id", RateLimited, Message),
    rule("google-blocked-address", x(5, 7, 28), "", Blocked, Source),
    rule("google-blocked-for-now", x(4, 7, 28), "temporarily blocked", Blocked, Source),
    rule("google-rate-network", x(4, 7, 28), "ip netblock", RateLimited, Source),
    rule("google-rate-address", x(4, 7, 28), "your ip address", RateLimited, Source),
    rule("google-rate", x(4, 7, 28), "", RateLimited, Source),
    rule("google-unusual-rate", x(4, 7, 0), "unusual rate of", RateLimited, Source),
    rule("google-rate-permanent", x(5, 7, 1), "has been rate limited", RateLimited, Source),
    rule("google-try-later", x(4, 7, 0), "try again later, closing connection", RateLimited, Source),
    // Reputation.
    rule("google-low-reputation-slow", Temporary, "very low reputation of the sending ip", RateLimited, Source),
    rule("google-low-reputation", Permanent, "very low reputation of the sending ip", Blocked, Source),
    rule("google-low-reputation-domain", Any, "very low reputation of the sending domain", Blocked, SigningDomain),
    rule("google-not-authorized", x(5, 7, 1), "not authorized to send", Blocked, Source),
    rule("google-allowlist", x(4, 7, 0), "ip not in whitelist", Blocked, Recipient),
    // Who sends it.
    rule("google-ptr-23", either(7, 23), "", Authentication, Source),
    rule("google-ptr-25", either(7, 25), "", Authentication, Source),
    rule("google-ptr-0", x(4, 7, 0), "ptr record", Authentication, Source),
    rule("google-ipv6", x(5, 7, 1), "ipv6 sending guidelines", Authentication, Source),
    rule("google-spf-suspicious", either(7, 24), "", Authentication, SigningDomain),
    rule("google-dmarc-policy", either(7, 26), "dmarc policy", Authentication, SigningDomain),
    rule("google-spf-hard-fail", either(7, 26), "hard fail policy", Authentication, SigningDomain),
    rule("google-unauthenticated", either(7, 26), "", Authentication, SigningDomain),
    rule("google-spf", either(7, 27), "", Authentication, SigningDomain),
    rule("google-dkim", either(7, 30), "", Authentication, SigningDomain),
    rule("google-dmarc-missing", either(7, 31), "", Authentication, SigningDomain),
    rule("google-dmarc-missing-40", either(7, 40), "dmarc", Authentication, SigningDomain),
    rule("google-alignment", either(7, 32), "", Authentication, SigningDomain),
    // 421 with 5.7.32: the classes differ, so the enhanced code does not count as one.
    rule("google-alignment-text", Any, "aligned with either the authenticated", Authentication, SigningDomain),
    // No TLS is our doing, or the route's: no address does better than another.
    rule("google-tls", either(7, 29), "", Authentication, Message),
    rule("google-tls-recipient", x(4, 7, 0), "tls required for rcpt domain", Authentication, Recipient),
    // What is in it.
    rule("google-unsolicited", x(5, 7, 1), "likely unsolicited", Content, Message),
    rule("google-suspicious-content", Any, "nature of the content", Content, Message),
    rule("google-attachment", x(5, 7, 0), "potential security issue", Content, Message),
    rule("google-not-rfc-5322", x(5, 7, 1), "not rfc 5322 compliant", Content, Message),
    rule("google-from-header", x(5, 7, 1), "are not accepted", Content, Message),
    rule("google-size", x(5, 3, 4), "", Content, Message),
    // Whom it is for.
    rule("google-no-such-user", x(5, 1, 1), "", BadAddress, Recipient),
    rule("google-recipient-rate", either(2, 1), "at a rate that", RateLimited, Recipient),
    rule("google-recipient-too-quickly", x(4, 2, 1), "too quickly", RateLimited, Recipient),
    rule("google-inactive", x(5, 2, 1), "", Mailbox, Recipient),
    rule("google-over-quota", either(2, 2), "", Mailbox, Recipient),
    rule("google-domain-policy", x(5, 7, 1), "has a policy that prohibit", Policy, Recipient),
    // Their own affairs.
    rule("google-several-domains", x(4, 3, 0), "multiple destination domains", Protocol, Message),
    rule("google-message-rejected-for-now", x(4, 3, 0), "temporarily rejected", System, Message),
    rule("google-system-problem", x(4, 3, 0), "", System, Site),
    rule("google-busy", x(4, 4, 5), "", System, Site),
    rule("google-connection-expired", x(4, 7, 0), "connection expired", Network, Message),
];
