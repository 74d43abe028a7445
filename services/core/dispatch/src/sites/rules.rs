//! Which exchangers belong to which mailbox provider: data, read by [`super::site_of`]. Each rule says when it was written
//! and which public source to check it against. Names never hold a dot, so that no domain can pass for a provider.

/// How an exchanger's name is recognised.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    /// This very name.
    Is(&'static str),
    /// Any name below this one.
    Under(&'static str),
}

/// A mailbox provider.
#[derive(Debug)]
pub(super) struct Provider {
    /// The name of its site.
    pub(super) site: &'static str,
    /// Into how many slices its mail is cut, so that several workers can serve it.
    pub(super) slices: u16,
    /// Its exchangers.
    pub(super) hosts: &'static [Host],
}

/// Slices of the giants, each of which takes a large share of all mail.
const GIANT: u16 = 8;

/// All providers; the first that matches counts.
pub(super) const PROVIDERS: &[Provider] = &[
    Provider {
        site: "google",
        slices: GIANT,
        hosts: &[
            // 2026-11: support.google.com/a/answer/174125 (Workspace: smtp.google.com, before 2023 aspmx.l.google.com with
            // alt1..alt4 and aspmx2..5.googlemail.com); MX of gmail.com: gmail-smtp-in.l.google.com.
            Host::Under("google.com"),
            Host::Under("googlemail.com"),
        ],
    },
    Provider {
        site: "microsoft-consumer",
        slices: GIANT,
        hosts: &[
            // 2026-11: MX of outlook.com, hotmail.com, live.com and msn.com in the public DNS.
            Host::Under("olc.protection.outlook.com"),
        ],
    },
    Provider {
        site: "microsoft-365",
        slices: GIANT,
        hosts: &[
            // 2026-11: learn.microsoft.com/microsoft-365/enterprise/external-domain-name-system-records.
            Host::Under("mail.protection.outlook.com"),
            // 2026-11: learn.microsoft.com/purview/how-smtp-dane-works (domains with DNSSEC: <domain>.<x>-v1.mx.microsoft).
            Host::Under("mx.microsoft"),
        ],
    },
    Provider {
        site: "yahoo",
        slices: GIANT,
        hosts: &[
            // 2026-11: senders.yahooinc.com; MX of yahoo.com, aol.com and att.net in the public DNS.
            Host::Under("yahoodns.net"),
        ],
    },
    Provider {
        site: "apple",
        slices: 1,
        hosts: &[
            // 2026-11: support.apple.com/102374 (custom domains at iCloud Mail: mx01 and mx02.mail.icloud.com).
            Host::Under("mail.icloud.com"),
        ],
    },
    Provider {
        site: "mimecast",
        slices: 1,
        hosts: &[
            // 2026-11: mimecastsupport.zendesk.com, "Gateway: Mimecast Data Centers and URLs" (inbound hosts by region).
            Host::Under("mimecast.com"),
            Host::Under("mimecast.co.za"),
            Host::Under("mimecast-offshore.com"),
        ],
    },
    Provider {
        site: "proofpoint",
        slices: 1,
        hosts: &[
            // 2026-11: MX of Proofpoint Protection Server customers in the public DNS (mx0a-/mx0b-<id>.pphosted.com).
            Host::Under("pphosted.com"),
            Host::Under("gpphosted.com"),
        ],
    },
    Provider {
        site: "proofpoint-essentials",
        slices: 1,
        hosts: &[
            // 2026-11: help.proofpoint.com, "Proofpoint Essentials: connection details" (mx1-<region>.ppe-hosted.com).
            Host::Under("ppe-hosted.com"),
        ],
    },
    Provider {
        site: "barracuda",
        slices: 1,
        hosts: &[
            // 2026-11: campus.barracuda.com, Email Gateway Defense, "Adding MX records" (<id>.ess.barracudanetworks.com).
            Host::Under("ess.barracudanetworks.com"),
        ],
    },
    Provider {
        site: "gmx",
        slices: 1,
        hosts: &[
            // 2026-11: postmaster.gmx.net; MX of gmx.net, gmx.de and web.de in the public DNS: one operator, one set of limits.
            Host::Under("gmx.net"),
            Host::Under("web.de"),
        ],
    },
    Provider {
        site: "mail-ru",
        slices: 1,
        hosts: &[
            // 2026-11: help.mail.ru/biz (custom domains: emx.mail.ru); MX of mail.ru, bk.ru, inbox.ru: mxs.mail.ru.
            Host::Under("mail.ru"),
        ],
    },
    Provider {
        site: "comcast",
        slices: 1,
        hosts: &[
            // 2026-11: postmaster.comcast.net; MX of comcast.net: mx1a1.comcast.net and others.
            Host::Under("comcast.net"),
        ],
    },
    Provider {
        site: "orange",
        slices: 1,
        hosts: &[
            // 2026-11: postmaster.orange.fr; MX of orange.fr and wanadoo.fr in the public DNS: smtp-in.orange.fr.
            Host::Under("orange.fr"),
            Host::Under("wanadoo.fr"),
        ],
    },
    Provider {
        site: "qq",
        slices: 1,
        hosts: &[
            // 2026-11: service.exmail.qq.com (custom domains: mxbiz1 and mxbiz2.qq.com); MX of qq.com: mx1..mx3.qq.com.
            Host::Under("qq.com"),
        ],
    },
    Provider {
        site: "netease",
        slices: 1,
        hosts: &[
            // 2026-11: MX of 163.com, 126.com and yeah.net in the public DNS: 163mx01.mxmail.netease.com.
            Host::Under("mxmail.netease.com"),
            // 2026-11: qiye.163.com, help on custom domains.
            Host::Is("mx.ym.163.com"),
        ],
    },
];
