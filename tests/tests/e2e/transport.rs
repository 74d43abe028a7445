//! How messages travel to the next hop: encrypted where it is offered, in clear text where it is not, and over LMTP where a
//! route says so.

use anyhow::Result;
use postrider_tests::cluster::Plan;
use postrider_tests::mail::{Mail, check_same};
use postrider_tests::peers::{self, Aiosmtpd, Peer};
use postrider_tests::provider::Provider;

#[test]
fn tls_is_used_where_it_is_offered() -> Result<()> {
    let (encrypted, plain) = (Provider::start(&["--starttls"])?, Provider::start(&[])?);
    let cluster = Plan::new()?.route("tls.example", encrypted.address).route("plain.example", plain.address).start()?;
    for (domain, provider, tls) in [("tls.example", &encrypted, true), ("plain.example", &plain, false)] {
        let to = format!("alice@{domain}");
        let id = cluster.submit(&Mail::new(&cluster.sender("news"), &[&to], domain))?;
        assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
        assert_eq!(provider.received(domain, 1)?[0].tls, tls, "{domain}");
        let shown = String::from_utf8(cluster.run(&["message", "show", &id])?.stdout)?;
        assert_eq!(shown.contains("TLSv1.3"), tls, "{shown}");
    }
    Ok(())
}

#[test]
fn a_route_may_be_lmtp() -> Result<()> {
    if !peers::all_here("a_route_may_be_lmtp", &[Peer::Aiosmtpd])? {
        return Ok(());
    }
    let store = Aiosmtpd::start_lmtp()?;
    let route = format!("*=lmtp:{}", store.address);
    let cluster = Plan::new()?.with(&["--no-receiver", "--route", &route]).start()?;
    let to = ["alice@lists.example", "bob@lists.example"];
    let mail = Mail::new(&cluster.sender("news"), &to, "lmtp");
    let id = cluster.submit(&mail)?;
    assert_eq!(cluster.end_of(&id)?.events(), ["delivered"]);
    let kept = store.received(1)?;
    assert_eq!(kept[0].rcpt_tos, to);
    check_same(&mail.message, &kept[0].message, &["Received"], &[])
}
