//! Mailboxes of access providers. Where customers' own machines have names below the provider's domain, its exchangers are
//! named one by one.

use super::{Host, Provider, provider};

pub(super) const PROVIDERS: &[Provider] = &[
    // 2026-11: postmaster.comcast.net (25 connections from an address); MX of comcast.net: mx1a1.comcast.net and others.
    // KumoMTA ships 25 connections with 1,000 messages, as Comcast asked.
    provider("comcast", &[Host::Under("comcast.net")]).takes(25, 1_000),
    // 2026-11: postmaster.orange.fr; MX of orange.fr and wanadoo.fr in the public DNS: smtp-in.orange.fr. Senders are told
    // two to three connections; the lower number.
    provider("orange", &[Host::Under("orange.fr"), Host::Under("wanadoo.fr")]).takes(2, 100),
    // 2026-11: MX of laposte.net in the public DNS: smtpz4.laposte.net.
    provider("laposte", &[Host::Under("laposte.net")]),
    // 2026-11: MX of free.fr in the public DNS.
    provider("free", &[Host::Is("mx1.free.fr"), Host::Is("mx2.free.fr")]),
    // 2026-11: MX of sfr.fr, neuf.fr and cegetel.net in the public DNS.
    provider("sfr", &[Host::Is("smtp-in.sfr.fr")]),
    // 2026-11: postmaster.t-online.de; MX of t-online.de and magenta.de in the public DNS: mx00..mx03.t-online.de.
    provider(
        "t-online",
        &[
            Host::Is("mx00.t-online.de"),
            Host::Is("mx01.t-online.de"),
            Host::Is("mx02.t-online.de"),
            Host::Is("mx03.t-online.de"),
        ],
    ),
    // 2026-11: MX of freenet.de in the public DNS.
    provider("freenet", &[Host::Is("mx.freenet.de")]),
    // 2026-11: MX of libero.it, iol.it, inwind.it and virgilio.it in the public DNS: one operator.
    provider("libero", &[Host::Is("smtp-in.libero.it"), Host::Is("smtp-in.virgilio.it")]),
    // 2026-11: MX of tiscali.it in the public DNS: etb-1.mail.tiscali.it.
    provider("tiscali", &[Host::Under("mail.tiscali.it")]),
    // 2026-11: MX of telenet.be in the public DNS: mx1 and mx2.telenet-ops.be.
    provider("telenet", &[Host::Under("telenet-ops.be")]),
    // 2026-11: MX of kpnmail.nl, planet.nl and home.nl in the public DNS. KumoMTA community.
    provider("kpn", &[Host::Under("kpnmail.nl")]).takes(10, 10),
    // 2026-11: MX of btinternet.com in the public DNS.
    provider("bt", &[Host::Is("mx.bt.prod.cloud.openwave.ai")]),
    // 2026-11: MX of bigpond.com in the public DNS.
    provider("telstra", &[Host::Is("extmail.bigpond.com")]),
    // 2026-11: hosts and numbers as the KumoMTA community shares them.
    provider("netvigator", &[Host::Under("netvigator.com")]).takes(5, 10),
];
