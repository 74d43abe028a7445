//! Which site a domain belongs to, host by host.

use super::*;

#[track_caller]
fn check(domain: &str, exchangers: &[&str], expected: &str) {
    let site = site_of(&domain.parse().unwrap(), exchangers);
    assert_eq!(site.as_str(), expected);
    assert_eq!(site.as_str().parse(), Ok(site));
}

#[test]
fn providers_are_known_by_their_exchangers() {
    check("gmail.com", &["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"], "google");
    check("workspace.example", &["ASPMX.L.GOOGLE.COM."], "google");
    check("new-workspace.example", &["smtp.google.com"], "google");
    check("old-workspace.example", &["aspmx2.googlemail.com"], "google");
    check("contoso.example", &["contoso-example.mail.protection.outlook.com"], "microsoft-365");
    check("dane.example", &["dane-example.o-v1.mx.microsoft"], "microsoft-365");
    check("hotmail.com", &["hotmail-com.olc.protection.outlook.com"], "microsoft-consumer");
    check("yahoo.com", &["mta5.am0.yahoodns.net"], "yahoo");
    check("icloud.com", &["mx01.mail.icloud.com"], "apple");
    check("bank.example", &["mx0a-00012345.pphosted.com"], "proofpoint");
    check("law.example", &["eu-smtp-inbound-1.mimecast.com"], "mimecast");
    check("shop.example", &["d1.ess.barracudanetworks.com"], "barracuda");
    check("web.de", &["mx-ha02.web.de"], "gmx");
    check("bk.ru", &["mxs.mail.ru"], "mail-ru");
    check("comcast.net", &["mx1a1.comcast.net"], "comcast");
    check("wanadoo.fr", &["smtp-in.orange.fr"], "orange");
    check("foxmail.com", &["mx1.qq.com"], "qq");
    check("126.com", &["126mx01.mxmail.netease.com"], "netease");
}

#[test]
fn a_name_that_only_looks_like_a_provider_is_none() {
    check("a.example", &["mx.notgoogle.com"], "notgoogle.com");
    check("a.example", &["google.com.attacker.example"], "attacker.example");
    check("a.example", &["mail.protection.outlook.com.attacker.example"], "attacker.example");
}

#[test]
fn the_best_exchanger_decides() {
    check("filtered.example", &["mx.filter.example", "aspmx.l.google.com"], "filter.example");
}

#[test]
fn elsewhere_the_registrable_domain_of_the_best_exchanger_counts() {
    check("a.example", &["mx1.mail.hoster.co.uk", "mx2.other.example"], "hoster.co.uk");
    check("a.example", &["mx.customer.github.io"], "customer.github.io");
    check("a.example", &["_dc-mx.0123abcd.a.example"], "a.example");
    check("a.example", &["mx.bücher.example"], "xn--bcher-kva.example");
    check("a.example", &["mx.mail.xn--55qx5d.cn"], "mail.xn--55qx5d.cn");
}

#[test]
fn a_public_suffix_as_exchanger_stays_as_it_is() {
    check("a.example", &["co.uk"], "co.uk");
}

#[test]
fn without_exchangers_the_domain_is_its_own_site() {
    check("Quiet.Example", &[], "quiet.example");
    check("quiet.example", &["not a host"], "quiet.example");
}

#[test]
fn address_literals_are_sites() {
    check("[192.0.2.1]", &["aspmx.l.google.com"], "[192.0.2.1]");
    check("[IPv6:2001:db8::1]", &[], "[ipv6:2001:db8::1]");
    check("a.example", &["192.0.2.7"], "[192.0.2.7]");
}

#[test]
fn single_label_hosts_are_sites() {
    check("a.example", &["localhost"], "localhost");
}

#[test]
fn no_host_joins_a_provider_by_its_name() {
    check("a.example", &["google"], "[google]");
}

#[test]
fn giants_are_cut_in_slices() {
    for (site, slices) in [("google", 8), ("microsoft-365", 8), ("apple", 1), ("example.net", 1), ("[google]", 1)] {
        assert_eq!(slices_of(&site.parse().unwrap()), slices, "{site}");
    }
}

#[test]
fn the_names_of_providers_are_valid_and_hold_no_dot() {
    for provider in providers() {
        assert!(provider.site.parse::<SiteName>().is_ok(), "{}", provider.site);
        assert!(!provider.site.contains('.'), "{}", provider.site);
    }
}

/// A host of each provider as customers' MX records name it, at least one for each rule.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("google", &["gmail-smtp-in.l.google.com", "smtp.google.com", "aspmx3.googlemail.com"]),
    ("microsoft-consumer", &["outlook-com.olc.protection.outlook.com"]),
    (
        "microsoft-365",
        &[
            "contoso-com.mail.protection.outlook.com",
            "contoso-com.k-v1.mx.microsoft",
            "agency.mail.protection.office365.us",
        ],
    ),
    ("yahoo", &["mta7.am0.yahoodns.net", "mx-aol.mail.gm0.yahoodns.net", "mx-att.mail.am0.yahoodns.net"]),
    ("apple", &["mx02.mail.icloud.com"]),
    ("gmx", &["mx00.gmx.net", "mx01.emig.gmx.net", "mx-ha03.web.de", "mx00.mail.com", "mx01.mail.com"]),
    (
        "ionos",
        &[
            "mx00.ionos.com",
            "mx00.ionos.de",
            "mx01.ionos.co.uk",
            "mx00.ionos.fr",
            "mx00.ionos.es",
            "mx00.ionos.it",
            "mx00.kundenserver.de",
            "mxint01.1and1.com",
            "mx00.perfora.net",
            "mx00.schlund.de",
        ],
    ),
    ("mail-ru", &["mxs.mail.ru", "emx.mail.ru"]),
    ("yandex", &["mx.yandex.net", "mx.yandex.ru", "mx.yandex.com"]),
    ("rambler", &["inmx.rambler.ru"]),
    ("qq", &["mx3.qq.com", "mxbiz1.qq.com"]),
    ("netease", &["163mx02.mxmail.netease.com", "mx.ym.163.com"]),
    ("yahoo-japan", &["mx3.mail.yahoo.co.jp"]),
    ("naver", &["mx1.naver.com"]),
    (
        "zoho",
        &[
            "mx2.zoho.com",
            "smtpin.zoho.com",
            "mx.zohomail.com",
            "mx.zoho.eu",
            "mx.zoho.in",
            "mx.zoho.com.au",
            "mx.zoho.jp",
        ],
    ),
    ("proton", &["mail.protonmail.ch", "mailsec.protonmail.ch"]),
    ("fastmail", &["in2-smtp.messagingengine.com"]),
    ("tuta", &["mail.tutanota.de"]),
    (
        "amazon",
        &[
            "inbound-smtp.us-east-1.amazonaws.com",
            "inbound-smtp.us-west-2.amazonaws.com",
            "inbound-smtp.eu-west-1.amazonaws.com",
        ],
    ),
    ("ovh", &["mx0.mail.ovh.net", "mx1.ovh.net", "mx2.ovh.net", "mx3.ovh.net", "mx4.ovh.net", "redirect.ovh.net"]),
    ("rackspace", &["mx2.emailsrvr.com"]),
    (
        "godaddy",
        &[
            "smtp.secureserver.net",
            "mailstore1.secureserver.net",
            "smtp.europe.secureserver.net",
            "mailstore1.europe.secureserver.net",
            "smtp.asia.secureserver.net",
            "mailstore1.asia.secureserver.net",
        ],
    ),
    ("hostinger", &["mx1.hostinger.com", "mx2.hostinger.com"]),
    ("one-com", &["mx2.pub.mailpod12-cph3.one.com"]),
    ("gandi", &["spool.mail.gandi.net"]),
    ("cloudflare", &["route2.mx.cloudflare.net"]),
    ("seznam", &["mx1.seznam.cz"]),
    ("wp", &["mx.wp.pl"]),
    ("onet", &["mx.poczta.onet.pl"]),
    ("comcast", &["mx2h1.comcast.net"]),
    ("orange", &["smtp-in.orange.fr", "smtp-in.wanadoo.fr"]),
    ("laposte", &["smtpz4.laposte.net"]),
    ("free", &["mx1.free.fr", "mx2.free.fr"]),
    ("sfr", &["smtp-in.sfr.fr"]),
    ("t-online", &["mx00.t-online.de", "mx01.t-online.de", "mx02.t-online.de", "mx03.t-online.de"]),
    ("freenet", &["mx.freenet.de"]),
    ("libero", &["smtp-in.libero.it", "smtp-in.virgilio.it"]),
    ("tiscali", &["etb-1.mail.tiscali.it"]),
    ("telenet", &["mx2.telenet-ops.be"]),
    ("kpn", &["mx.kpnmail.nl"]),
    ("bt", &["mx.bt.prod.cloud.openwave.ai"]),
    ("telstra", &["extmail.bigpond.com"]),
    ("netvigator", &["mx.netvigator.com"]),
    (
        "mimecast",
        &["us-smtp-inbound-2.mimecast.com", "za-smtp-inbound-1.mimecast.co.za", "je-smtp.mimecast-offshore.com"],
    ),
    ("proofpoint", &["mx0b-00360101.gslb.pphosted.com", "mxa-0012.gpphosted.com"]),
    ("proofpoint-essentials", &["mx1-us1.ppe-hosted.com"]),
    ("barracuda", &["d241253a.ess.barracudanetworks.com"]),
    ("cisco", &["mx1.hc1234-56.iphmx.com"]),
    ("trend-micro", &["contoso.in.tmes.trendmicro.com", "contoso.in.tmes.trendmicro.eu"]),
    ("sophos", &["mx-01-eu-west-1.prod.hydra.sophos.com"]),
    ("messagelabs", &["cluster8.eu.messagelabs.com"]),
    ("forcepoint", &["cust12345-1.in.mailcontrol.com"]),
    ("fortimail", &["gw1234.fortimailcloud.com"]),
    ("hornetsecurity", &["mx01.hornetsecurity.com"]),
    ("mail-assure", &["mx3.antispamcloud.com"]),
];

#[test]
fn every_rule_resolves_a_host_and_no_host_has_two_providers() {
    for (site, hosts) in EXAMPLES {
        for host in *hosts {
            check("a.example", &[host], site);
            let owners: Vec<&str> = providers().filter(|p| p.has(host)).map(|p| p.site).collect();
            assert_eq!(owners, [*site], "{host}");
        }
    }
    for provider in providers() {
        let examples = EXAMPLES.iter().find(|(site, _)| *site == provider.site).map_or(&[][..], |(_, hosts)| *hosts);
        for rule in provider.hosts {
            let alone = Provider { hosts: std::slice::from_ref(rule), ..*provider };
            assert!(examples.iter().any(|host| alone.has(host)), "{}: no example for {rule:?}", provider.site);
        }
    }
}

#[test]
fn no_rule_reaches_into_another() {
    let rules: Vec<(&Provider, &Host)> = providers().flat_map(|p| p.hosts.iter().map(move |host| (p, host))).collect();
    let name = |host: &Host| match host {
        Host::Is(name) | Host::Under(name) => *name,
    };
    for (at, (provider, host)) in rules.iter().enumerate() {
        assert_eq!(name(host), name(host).to_ascii_lowercase());
        let alone = Provider { hosts: std::slice::from_ref(host), ..**provider };
        for (other, other_host) in rules.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, rule)| rule) {
            let reaches = alone.has(name(other_host)) || name(host) == name(other_host);
            assert!(!reaches, "{} {host:?} takes {} {other_host:?}", provider.site, other.site);
        }
    }
}

#[test]
fn no_provider_is_there_twice() {
    let mut sites: Vec<&str> = configured_sites().collect();
    sites.sort_unstable();
    let before = sites.len();
    sites.dedup();
    assert_eq!(sites.len(), before);
}

#[test]
fn machines_of_a_hosters_customers_are_not_the_hosters() {
    check("a.example", &["vps-1234.vps.ovh.net"], "ovh.net");
    check("a.example", &["ip-192-0-2-1.ip.secureserver.net"], "secureserver.net");
    check("a.example", &["mail.shop.free.fr"], "free.fr");
}

#[test]
fn providers_that_say_what_they_take_have_limits() {
    let limits = |site: &str| default_limits(&site.parse().unwrap());
    let google = limits("google").unwrap();
    assert_eq!((google.connections, google.messages_per_connection, google.message_rate), (5, 50, None));
    let japan = limits("yahoo-japan").unwrap();
    assert_eq!(japan.message_rate.map(|rate| rate.to_string()).as_deref(), Some("10/s"));
    assert_eq!(limits("proton"), None);
    assert_eq!(limits("example.net"), None);
    for limits in providers().filter_map(|provider| provider.limits) {
        assert!(limits.connections > 0 && limits.messages_per_connection > 0);
    }
}
