//! Gateways in front of other people's mailboxes: hosted ones by their site, and boxes that stand at the recipient's own door
//! and are known by their words only.

use crate::reply_class::ReplyClass::{Authentication, Blocked, Content, Greylisted, Policy, RateLimited, System};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, code, rule};

/// 2026-11: community.mimecast.com, "Mimecast SMTP error codes".
pub(super) const MIMECAST: &[Rule] = &[
    // Taken again from a minute on, for twelve hours.
    rule("mimecast-greylisted", code(451), "internal resources are temporarily unavailable", Greylisted, Message)
        .wait(60),
    rule("mimecast-greylisted-old", code(451), "internal resource temporarily unavailable", Greylisted, Message)
        .wait(60),
    // Too many connections of the customer's; the address is let in again after five minutes.
    rule("mimecast-connections", code(451), "account service is temporarily unavailable", RateLimited, Source)
        .wait(300),
    rule("mimecast-listed-for-now", code(451), "ip temporarily blacklisted", RateLimited, Source),
    rule("mimecast-invalid-connections", code(451), "recipient temporarily unavailable", Blocked, Source),
    rule("mimecast-reputation", code(550), "poor reputation sender", Blocked, Source),
    rule("mimecast-local-reputation", code(550), "local ct ip reputation", Blocked, Source),
    rule("mimecast-unauthenticated", code(550), "sender invalid - envelope rejected", Authentication, SigningDomain),
    rule("mimecast-anti-spoofing", code(550), "anti-spoofing policy", Policy, Message),
    rule("mimecast-prohibited", code(550), "administrative prohibition", Blocked, Recipient),
    rule("mimecast-user-entry", code(550), "envelope blocked - user", Blocked, Recipient),
    rule("mimecast-security", code(554), "rejected due to security policies", Content, Message),
    rule("mimecast-busy", code(451), "unable to process connection at this time", System, Site),
];

/// 2026-11: replies that senders have published; the recipient stands before the colon.
pub(super) const BARRACUDA: &[Rule] = &[rule("barracuda-blocked", code(550), ":blocked)", Blocked, Message)];

/// 2026-11: knowledge.broadcom.com, "Email error and bounce codes for Email Security.cloud".
pub(super) const MESSAGELABS: &[Rule] = &[
    rule("messagelabs-policy", Permanent, "connection rejected by policy", Blocked, Source),
    rule("messagelabs-address", Permanent, "your ip address has been bl", Blocked, Source),
    rule("messagelabs-authentication", Permanent, "domain authentication fail", Authentication, SigningDomain),
    rule("messagelabs-tls", Any, "tls/sslv3 connection required", Authentication, Message),
    rule("messagelabs-spam", Permanent, "message filtered", Content, Message),
];

/// 2026-11: Proofpoint's reputation list (used by Apple and many providers too), Cisco's reputation filter, Trend Micro's
/// reputation service, Cloudmark's sender list.
pub(super) const EVERYWHERE: &[Rule] = &[
    rule("proofpoint-lookup", Any, "proofpoint.com/dnsbl-lookup", Blocked, Source),
    rule("proofpoint-check", Any, "ipcheck.proofpoint.com", Blocked, Source),
    rule("proofpoint-reputation", Any, "proofpoint dynamic reputation", Blocked, Source),
    rule("cisco-reputation", Any, "sending mta's poor reputation", Blocked, Source),
    rule("cisco-domain-reputation", Any, "poor reputation of a domain", Blocked, SigningDomain),
    rule("cisco-rate", Temporary, "too many recipients received", RateLimited, Source),
    rule("trend-micro-reputation", Any, "trend micro email reputation", Blocked, Source),
    rule("cloudmark-list", Any, "csi.cloudmark.com", Blocked, Source),
    rule("barracuda-reputation", Any, "barracuda reputation", Blocked, Source),
];
