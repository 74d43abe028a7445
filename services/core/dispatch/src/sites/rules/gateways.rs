//! Gateways that stand in front of other people's mailboxes and refuse in their own words.

use super::{Host, Provider, provider};

pub(super) const PROVIDERS: &[Provider] = &[
    // 2026-11: mimecastsupport.zendesk.com, "Gateway: Mimecast Data Centers and URLs" (inbound hosts by region). KumoMTA
    // ships these numbers from Mimecast, for each region.
    provider(
        "mimecast",
        &[Host::Under("mimecast.com"), Host::Under("mimecast.co.za"), Host::Under("mimecast-offshore.com")],
    )
    .takes(10, 100),
    // 2026-11: MX of Proofpoint Protection Server customers in the public DNS (mx0a-/mx0b-<id>.pphosted.com).
    provider("proofpoint", &[Host::Under("pphosted.com"), Host::Under("gpphosted.com")]),
    // 2026-11: help.proofpoint.com, "Proofpoint Essentials: connection details" (mx1-<region>.ppe-hosted.com).
    provider("proofpoint-essentials", &[Host::Under("ppe-hosted.com")]),
    // 2026-11: campus.barracuda.com, Email Gateway Defense, "Adding MX records" (<id>.ess.barracudanetworks.com). KumoMTA
    // community.
    provider("barracuda", &[Host::Under("ess.barracudanetworks.com")]).takes(10, 15),
    // 2026-11: docs.ces.cisco.com, Secure Email Cloud Gateway (mx1.<id>.iphmx.com).
    provider("cisco", &[Host::Under("iphmx.com")]),
    // 2026-11: docs.trendmicro.com, Email Security, "Domain management" (<name>.in.tmes.trendmicro.com, .eu, and regions).
    provider("trend-micro", &[Host::Under("trendmicro.com"), Host::Under("trendmicro.eu")]),
    // 2026-11: docs.sophos.com, Sophos Email, "MX records" (mx-01-<region>.prod.hydra.sophos.com).
    provider("sophos", &[Host::Under("hydra.sophos.com")]),
    // 2026-11: knowledge.broadcom.com, Email Security.cloud (cluster<n>.<region>.messagelabs.com).
    provider("messagelabs", &[Host::Under("messagelabs.com")]),
    // 2026-11: help.forcepoint.com, Email Security Cloud (cust<id>-1.in.mailcontrol.com).
    provider("forcepoint", &[Host::Under("mailcontrol.com")]),
    // 2026-11: docs.fortinet.com, FortiMail Cloud (gw-<id>.fortimailcloud.com).
    provider("fortimail", &[Host::Under("fortimailcloud.com")]),
    // 2026-11: support.hornetsecurity.com, "MX records" (mx01..mx04.hornetsecurity.com).
    provider("hornetsecurity", &[Host::Under("hornetsecurity.com")]),
    // 2026-11: documentation.n-able.com, Mail Assure, "MX records" (mx1..mx4.antispamcloud.com).
    provider("mail-assure", &[Host::Under("antispamcloud.com")]),
];
