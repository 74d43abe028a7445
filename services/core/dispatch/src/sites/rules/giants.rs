//! The few that take most of all mail.

use super::{Host, Provider, provider};

pub(super) const PROVIDERS: &[Provider] = &[
    provider(
        "google",
        &[
            // 2026-11: support.google.com/a/answer/174125 (Workspace: smtp.google.com, before 2023 aspmx.l.google.com with
            // alt1..alt4 and aspmx2..5.googlemail.com); MX of gmail.com: gmail-smtp-in.l.google.com.
            Host::Under("google.com"),
            Host::Under("googlemail.com"),
        ],
    )
    .giant()
    // 2026-11: KumoMTA.
    .takes(5, 50),
    provider(
        "microsoft-consumer",
        &[
            // 2026-11: MX of outlook.com, hotmail.com, live.com and msn.com in the public DNS.
            Host::Under("olc.protection.outlook.com"),
        ],
    )
    .giant()
    // 2026-11: KumoMTA. Microsoft's policy page names 500 connections as what no sender may pass without an agreement.
    .takes(5, 50),
    provider(
        "microsoft-365",
        &[
            // 2026-11: learn.microsoft.com/microsoft-365/enterprise/external-domain-name-system-records.
            Host::Under("mail.protection.outlook.com"),
            // 2026-11: learn.microsoft.com/purview/how-smtp-dane-works (domains with DNSSEC: <domain>.<x>-v1.mx.microsoft).
            Host::Under("mx.microsoft"),
            // 2026-11: the same page for the clouds of the US government.
            Host::Under("mail.protection.office365.us"),
        ],
    )
    .giant()
    // 2026-11: KumoMTA.
    .takes(5, 50),
    provider(
        "yahoo",
        &[
            // 2026-11: senders.yahooinc.com; MX of yahoo.com, aol.com, of att.net, sbcglobal.net, bellsouth.net and their
            // sisters (moved 2025-06), of cox.net (2024), sky.com and verizon.net in the public DNS.
            Host::Under("yahoodns.net"),
        ],
    )
    .giant()
    // 2026-11: senders.yahooinc.com/best-practices (20 messages over a connection); it names no number of connections.
    .takes(10, 20),
    provider(
        "apple",
        &[
            // 2026-11: support.apple.com/102374 (custom domains at iCloud Mail: mx01 and mx02.mail.icloud.com).
            Host::Under("mail.icloud.com"),
        ],
    )
    // 2026-11: KumoMTA.
    .takes(10, 5),
];
