//! Mail.ru, Yandex, QQ with Tencent's Exmail, and NetEase (163.com, 126.com, yeah.net).

use crate::reply_class::ReplyClass::{Authentication, BadAddress, Blocked, Content, Mailbox, Policy, RateLimited};
use crate::reply_class::Scope::{Message, Recipient, SigningDomain, Source};
use crate::reply_class::rule::{Any, Permanent, Rule, Temporary, code, rule};

/// 2026-11: help.mail.ru (postmaster), and replies that senders have published.
pub(super) const MAIL_RU: &[Rule] = &[
    rule("mail-ru-spam", code(550), "spam message rejected", Content, Message),
    rule("mail-ru-disabled", code(550), "is unavailable: account is disabled", Mailbox, Recipient),
    rule("mail-ru-no-mailbox", code(550), "invalid mailbox", BadAddress, Recipient),
    rule("mail-ru-dmarc", Permanent, "due to domain owner dmarc policy", Authentication, SigningDomain),
];

/// 2026-11: yandex.com/support/mail/bounces.
pub(super) const YANDEX: &[Rule] = &[
    rule("yandex-spam", Permanent, "under suspicion of spam", Content, Message),
    rule("yandex-spam-statistics", Any, "blocked by spam statistics", Blocked, Source),
];

/// 2026-11: service.mail.qq.com/detail/122, one page for each reply. The misspelling is theirs.
pub(super) const QQ: &[Rule] = &[
    rule("qq-address-rate", Any, "ip frequency limited", RateLimited, Source),
    rule("qq-connection-rate", Any, "connection frequency limited", RateLimited, Source),
    rule("qq-domain-rate", Any, "domain frequency limited", RateLimited, SigningDomain),
    rule("qq-sender-rate", Any, "sender frequency limited", RateLimited, SigningDomain),
    rule("qq-recipient-rate", Any, "frequency of receiving messages is limited", RateLimited, Recipient),
    rule("qq-access", Any, "mailbox unavailable or access denined", RateLimited, Recipient),
    rule("qq-spam-address", Any, "suspected spam ip", Blocked, Source),
    rule("qq-connection-denied", Any, "connection denied", Blocked, Source),
    rule("qq-bounce-attack", Any, "suspected bounce attacks", Policy, Message),
    rule("qq-spf", Any, "spf check failed", Authentication, SigningDomain),
    rule("qq-dmarc", Any, "dmarc check failed", Authentication, SigningDomain),
    rule("qq-content", Any, "mail content denied", Content, Message),
    rule("qq-embedded", Any, "spam is embedded in the email", Content, Message),
    rule("qq-suspected-spam", Any, "suspected spam", Content, Message),
    rule("qq-deactivated", Any, "deactivated mailbox", Mailbox, Recipient),
    rule("qq-recipient-list", Any, "rejected by recipients", Policy, Recipient),
];

/// 2026-11: help.mail.163.com, the table of bounce codes. Two letters for the module, three for the reason.
pub(super) const NETEASE: &[Rule] = &[
    rule("netease-connections", Any, "hl:icc", RateLimited, Source),
    rule("netease-frequency", Any, "hl:ifc", RateLimited, Source),
    rule("netease-frequency-old", Any, "hl:ifq", RateLimited, Source),
    rule("netease-daily", Any, "hl:itc", RateLimited, Source),
    rule("netease-sender-rate", Any, "mi:sfq", RateLimited, SigningDomain),
    // Of this connection: the next one carries on.
    rule("netease-per-connection", Temporary, "mi:dmc", RateLimited, Message),
    rule("netease-recipients-per-connection", Temporary, "rp:drc", RateLimited, Message),
    rule("netease-unknown-recipients", Any, "hl:rep", Blocked, Source),
    rule("netease-forged-senders", Any, "hl:mep", Blocked, Source),
    rule("netease-suspended", Any, "hl:ihu", Blocked, Source),
    rule("netease-not-allowed", Any, "hl:ipb", Blocked, Source),
    rule("netease-listed", Any, "dt:rbl", Blocked, Source),
    rule("netease-spf", Any, "mi:spf", Authentication, SigningDomain),
    // "Keep it queued and send it again after two minutes."
    rule("netease-spam-for-now", Temporary, "dt:spm", Content, Message).wait(120),
    rule("netease-spam", Permanent, "dt:spm", Content, Message),
];
