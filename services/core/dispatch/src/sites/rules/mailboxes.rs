//! Mailboxes for everybody, and for domains of one's own.

use super::{Host, Provider, provider};
use crate::limits::Rate;

pub(super) const PROVIDERS: &[Provider] = &[
    // 2026-11: postmaster.gmx.net; MX of gmx.net, gmx.de, web.de and mail.com in the public DNS: one operator, one set of
    // limits. KumoMTA community.
    provider(
        "gmx",
        &[Host::Under("gmx.net"), Host::Under("web.de"), Host::Is("mx00.mail.com"), Host::Is("mx01.mail.com")],
    )
    .takes(4, 20),
    // 2026-11: ionos.com/help, "MX records"; kundenserver.de, perfora.net, 1and1.com and schlund.de from its earlier names.
    provider(
        "ionos",
        &[
            Host::Under("ionos.com"),
            Host::Under("ionos.de"),
            Host::Under("ionos.co.uk"),
            Host::Under("ionos.fr"),
            Host::Under("ionos.es"),
            Host::Under("ionos.it"),
            Host::Under("kundenserver.de"),
            Host::Under("1and1.com"),
            Host::Under("perfora.net"),
            Host::Under("schlund.de"),
        ],
    ),
    // 2026-11: help.mail.ru/biz (custom domains: emx.mail.ru); MX of mail.ru, bk.ru, inbox.ru: mxs.mail.ru.
    provider("mail-ru", &[Host::Under("mail.ru")]),
    // 2026-11: yandex.com/support/yandex-360 (custom domains: mx.yandex.net); MX of yandex.ru: mx.yandex.ru.
    provider("yandex", &[Host::Under("yandex.net"), Host::Under("yandex.ru"), Host::Under("yandex.com")]),
    // 2026-11: MX of rambler.ru, lenta.ru and autorambler.ru in the public DNS: inmx.rambler.ru.
    provider("rambler", &[Host::Is("inmx.rambler.ru")]),
    // 2026-11: service.exmail.qq.com (custom domains: mxbiz1 and mxbiz2.qq.com); MX of qq.com: mx1..mx3.qq.com. KumoMTA
    // community.
    provider("qq", &[Host::Under("qq.com")]).takes(4, 8),
    // 2026-11: MX of 163.com, 126.com and yeah.net in the public DNS: 163mx01.mxmail.netease.com; qiye.163.com, help on
    // custom domains. KumoMTA community.
    provider("netease", &[Host::Under("mxmail.netease.com"), Host::Is("mx.ym.163.com")]).takes(4, 7),
    // 2026-11: MX of yahoo.co.jp and ymail.ne.jp in the public DNS; not the Yahoo of elsewhere. KumoMTA community.
    provider("yahoo-japan", &[Host::Under("mail.yahoo.co.jp")]).takes(2, 20).at_most(Rate::per_second(10)),
    // 2026-11: MX of naver.com in the public DNS: mx1..mx6.naver.com.
    provider("naver", &[Host::Under("naver.com")]),
    // 2026-11: zoho.com/mail/help/adminconsole/configure-email-delivery (by data centre).
    provider(
        "zoho",
        &[
            Host::Under("zoho.com"),
            Host::Under("zohomail.com"),
            Host::Under("zoho.eu"),
            Host::Under("zoho.in"),
            Host::Under("zoho.com.au"),
            Host::Under("zoho.jp"),
        ],
    ),
    // 2026-11: proton.me/support/custom-domain (mail.protonmail.ch and mailsec.protonmail.ch).
    provider("proton", &[Host::Under("protonmail.ch")]),
    // 2026-11: fastmail.help, "Manual DNS configuration" (in1-smtp and in2-smtp.messagingengine.com).
    provider("fastmail", &[Host::Under("messagingengine.com")]),
    // 2026-11: tuta.com/support (custom domains: mail.tutanota.de).
    provider("tuta", &[Host::Is("mail.tutanota.de")]),
    // 2026-11: docs.aws.amazon.com/workmail/latest/adminguide/add_domain (by region). The hosts also receive for SES.
    provider(
        "amazon",
        &[
            Host::Is("inbound-smtp.us-east-1.amazonaws.com"),
            Host::Is("inbound-smtp.us-west-2.amazonaws.com"),
            Host::Is("inbound-smtp.eu-west-1.amazonaws.com"),
        ],
    ),
    // 2026-11: help.ovhcloud.com, "Creating an MX record" (mx1..mx4 and mx0..mx4.mail); names elsewhere below ovh.net are
    // customers' machines.
    provider(
        "ovh",
        &[
            Host::Under("mail.ovh.net"),
            Host::Is("mx1.ovh.net"),
            Host::Is("mx2.ovh.net"),
            Host::Is("mx3.ovh.net"),
            Host::Is("mx4.ovh.net"),
            Host::Is("redirect.ovh.net"),
        ],
    ),
    // 2026-11: docs.rackspace.com, "Set up DNS records for Cloud Office email" (mx1 and mx2.emailsrvr.com).
    provider("rackspace", &[Host::Under("emailsrvr.com")]),
    // 2026-11: godaddy.com/help, "MX records" (by region); other names below secureserver.net are customers' machines.
    provider(
        "godaddy",
        &[
            Host::Is("smtp.secureserver.net"),
            Host::Is("mailstore1.secureserver.net"),
            Host::Is("smtp.europe.secureserver.net"),
            Host::Is("mailstore1.europe.secureserver.net"),
            Host::Is("smtp.asia.secureserver.net"),
            Host::Is("mailstore1.asia.secureserver.net"),
        ],
    ),
    // 2026-11: hostinger.com/support/4407237 (mx1 and mx2.hostinger.com).
    provider("hostinger", &[Host::Is("mx1.hostinger.com"), Host::Is("mx2.hostinger.com")]),
    // 2026-11: MX of one.com in the public DNS (mx1..mx4.pub.mailpod<x>.one.com).
    provider("one-com", &[Host::Under("one.com")]),
    // 2026-11: gandi.net documentation, "Gandi mail DNS records" (spool.mail and fb.mail.gandi.net).
    provider("gandi", &[Host::Under("mail.gandi.net")]),
    // 2026-11: developers.cloudflare.com/email-routing (route1..route3.mx.cloudflare.net).
    provider("cloudflare", &[Host::Under("mx.cloudflare.net")]),
    // 2026-11: napoveda.seznam.cz; MX of seznam.cz in the public DNS: mx1 and mx2.seznam.cz.
    provider("seznam", &[Host::Under("seznam.cz")]),
    // 2026-11: MX of wp.pl in the public DNS: mx.wp.pl.
    provider("wp", &[Host::Under("wp.pl")]),
    // 2026-11: MX of onet.pl and op.pl in the public DNS: mx.poczta.onet.pl.
    provider("onet", &[Host::Under("onet.pl")]),
];
