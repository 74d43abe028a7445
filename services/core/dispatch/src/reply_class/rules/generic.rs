//! What servers of all kinds say in nearly the same words: Postfix, Exim, Sendmail, Exchange, qmail, and what is built on
//! them. Narrow before wide; what could be about the sender's address stands before what is about content, since texts of
//! both kinds speak of spam.
//!
//! 2026-11: postfix.org (postconf(5), access(5)), exim.org (specification, default configuration), RFC 7372 for 7.20 to 7.26,
//! RFC 7505 for 7.27, RFC 5248 and its registry (iana.org/assignments/smtp-enhanced-status-codes) for the other numbers.

use crate::reply_class::ReplyClass::{
    Authentication, BadAddress, Blocked, Content, Greylisted, Mailbox, Network, Policy, Protocol, RateLimited, System,
};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Site, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, either, range, rule};

/// About who sends, and how much.
pub(super) const SENDER: &[Rule] = &[
    // Whoever asks a blocklist in the wrong way is told that everybody is listed.
    rule("list-misused", Any, "open resolver", System, Site),
    rule("list-misused-link", Any, "spamhaus.org/returnc/", System, Site),
    rule("greylisted", Temporary, "greylist", Greylisted, Message),
    rule("graylisted", Temporary, "graylist", Greylisted, Message),
    // Who it says it is.
    rule("dmarc", Any, "dmarc", Authentication, SigningDomain),
    rule("dkim", Any, "dkim", Authentication, SigningDomain),
    rule("spf", Any, " spf ", Authentication, SigningDomain),
    rule("spf-link", Any, "openspf.", Authentication, SigningDomain),
    rule("spf-in-full", Any, "sender policy framework", Authentication, SigningDomain),
    rule("ptr", Any, "cannot find your reverse hostname", Authentication, Source),
    rule("ptr-forward", Any, "cannot find your hostname", Authentication, Source),
    rule("ptr-record", Any, "ptr record", Authentication, Source),
    rule("ptr-reverse-dns", Any, "reverse dns", Authentication, Source),
    rule("ptr-7-25", either(7, 25), "", Authentication, Source),
    rule("authentication-7-20", range(5, 7, 20, 24), "", Authentication, SigningDomain),
    rule("authentication-7-20-for-now", range(4, 7, 20, 24), "", Authentication, SigningDomain),
    rule("authentication-7-26", either(7, 26), "", Authentication, SigningDomain),
    rule("starttls-first", Permanent, "must issue a starttls command first", Authentication, Message),
    rule("encryption-needed", either(7, 10), "", Authentication, Message),
    rule("null-mx-sender", either(7, 27), "", Policy, SigningDomain),
    rule("sender-rejected", Any, "sender address rejected", Policy, SigningDomain),
    rule("sender-verify", Any, "sender verify failed", Policy, SigningDomain),
    rule("sender-address", either(1, 7), "", Policy, SigningDomain),
    rule("sender-domain", either(1, 8), "", Policy, SigningDomain),
    rule("helo", Any, "helo command rejected", Policy, Source),
    // Too much.
    rule("recipient-too-quickly", Any, "receiving mail too quickly", RateLimited, Recipient),
    rule("too-many-connections", Any, "too many connections", RateLimited, Source),
    rule("too-many-concurrent", Any, "too many concurrent", RateLimited, Source),
    rule("concurrent-connections", Temporary, "concurrent server connections has exceeded", RateLimited, Source),
    rule("too-many-sessions", Any, "too many sessions", RateLimited, Source),
    rule("too-much-mail", Temporary, "too much mail", RateLimited, Source),
    rule("session-messages", Temporary, "too many messages for this session", RateLimited, Message),
    // As `postrider receiver` says it.
    rule("connection-messages", Temporary, "too many messages on this connection", RateLimited, Message),
    rule("too-many-messages", Temporary, "too many messages", RateLimited, Source),
    rule("rate-limit", Any, "rate limit", RateLimited, Source),
    rule("ratelimit", Any, "ratelimit", RateLimited, Source),
    rule("slow-down", Temporary, "slow down", RateLimited, Source),
    rule("throttled", Temporary, "throttl", RateLimited, Source),
    // Listed. A name on a list of names is the domain's trouble or the message's, never the address's.
    rule("listed-domain", Any, "dbl.spamhaus", Blocked, SigningDomain),
    rule("listed-surbl", Any, "surbl", Content, Message),
    rule("listed-uribl", Any, "uribl", Content, Message),
    rule("listed", Any, "blocked using", Blocked, Source),
    rule("listed-spamhaus", Any, "spamhaus", Blocked, Source),
    rule("listed-spamcop", Any, "spamcop", Blocked, Source),
    rule("listed-barracuda", Any, "barracudacentral", Blocked, Source),
    rule("listed-rbl", Any, " rbl ", Blocked, Source),
    rule("listed-dnsbl", Any, "dnsbl", Blocked, Source),
    rule("poor-reputation", Any, "poor reputation", Blocked, Source),
    rule("bad-reputation", Any, "has a bad reputation", Blocked, Source),
    rule("address-blocked", Any, "your ip address has been bl", Blocked, Source),
];

/// About whom it is for.
pub(super) const RECIPIENT: &[Rule] = &[
    rule("over-quota", Any, "over quota", Mailbox, Recipient),
    rule("overquota", Any, "overquota", Mailbox, Recipient),
    rule("quota-exceeded", Any, "quota exceeded", Mailbox, Recipient),
    rule("mailbox-full", Any, "mailbox full", Mailbox, Recipient),
    rule("mailbox-is-full", Any, "mailbox is full", Mailbox, Recipient),
    rule("mailbox-disabled", Permanent, "mailbox disabled", Mailbox, Recipient),
    rule("account-disabled", Permanent, "account is disabled", Mailbox, Recipient),
    rule("account-inactive", Permanent, "account is not active", Mailbox, Recipient),
    rule("user-unknown", Permanent, "user unknown", BadAddress, Recipient),
    rule("unknown-user", Permanent, "unknown user", BadAddress, Recipient),
    rule("no-such-user", Permanent, "no such user", BadAddress, Recipient),
    rule("no-such-recipient", Permanent, "no such recipient", BadAddress, Recipient),
    rule("no-such-mailbox", Permanent, "no such mailbox", BadAddress, Recipient),
    rule("no-mailbox-here", Permanent, "no mailbox here by that name", BadAddress, Recipient),
    rule("user-not-found", Permanent, "user not found", BadAddress, Recipient),
    rule("mailbox-not-found", Permanent, "mailbox not found", BadAddress, Recipient),
    rule("invalid-recipient", Permanent, "invalid recipient", BadAddress, Recipient),
    rule("does-not-exist", Permanent, "does not exist", BadAddress, Recipient),
    rule("mailbox-unavailable", Permanent, "mailbox unavailable", BadAddress, Recipient),
    rule("unrouteable", Permanent, "unrouteable address", BadAddress, Recipient),
    // This server takes no mail for that domain: its exchangers name the wrong one.
    rule("relay-access-denied", Permanent, "relay access denied", BadAddress, Recipient),
    rule("relay-denied", Permanent, "relaying denied", BadAddress, Recipient),
    rule("relay-not-permitted", Permanent, "relay not permitted", BadAddress, Recipient),
    rule("unable-to-relay", Permanent, "unable to relay", BadAddress, Recipient),
];

/// About the message and the system.
pub(super) const REST: &[Rule] = &[
    rule("virus", Permanent, "virus", Content, Message),
    rule("phishing", Permanent, "phishing", Content, Message),
    rule("size-2-3", either(2, 3), "", Content, Message),
    rule("size-3-4", either(3, 4), "", Content, Message),
    rule("too-large", Permanent, "message too large", Content, Message),
    rule("too-big", Permanent, "message too big", Content, Message),
    rule("message-size", Permanent, "message size exceeds", Content, Message),
    rule("spam", Any, "spam", Content, Message),
    rule("content-rejected", Permanent, "content rejected", Content, Message),
    rule("too-many-recipients", Any, "too many recipients", Protocol, Message),
    rule("too-many-errors", Temporary, "too many errors", Protocol, Message),
    rule("mail-loop", either(4, 6), "", Network, Message),
    rule("too-many-hops", Permanent, "too many hops", Network, Message),
    rule("server-busy", Temporary, "server busy", System, Site),
];
