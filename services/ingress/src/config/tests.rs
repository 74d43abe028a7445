//! What an `[ingress]` table means.

use super::*;

fn parse(text: &str) -> Result<IngressConfig, String> {
    postrider_runtime::parse_config(text, "p.toml", "POSTRIDER", []).map_err(|error| error.to_string())
}

const FULL: &str = "
host_name = 'mx.example'
certificate_file = 'cert.pem'
key_file = 'key.pem'
[[listeners]]
name = 'relay'
address = '127.0.0.1:0'
kind = 'relay'
[[listeners]]
name = 'submission'
address = '127.0.0.1:0'
kind = 'submission'
allow_auth_without_tls = true
[[listeners]]
name = 'submissions'
address = '127.0.0.1:0'
kind = 'submissions'
[[networks]]
cidrs = ['127.0.0.1', '10.0.0.0/8']
tenant = 'demo'
any_sender = true
";

#[test]
fn a_listener_has_the_defaults_of_its_kind() {
    let config = parse(FULL).unwrap();
    let [relay, submission, submissions] = &config.listeners[..] else { panic!() };
    assert_eq!(relay.tls(true), ListenerTls::StartTls);
    assert_eq!(relay.tls(false), ListenerTls::None);
    assert!(!relay.requires_auth());
    assert!(submission.requires_auth());
    assert_eq!(submissions.tls(true), ListenerTls::Implicit);
    assert!(submissions.requires_auth());
    assert!(!submissions.allow_auth_without_tls);
}

#[test]
fn nothing_may_submit_without_auth_by_default() {
    let config = parse("host_name = 'mx.example'").unwrap();
    assert!(config.networks.is_empty());
    assert_eq!(config.expiry_secs, 345_600);
    assert_eq!(config.bounds.message_bytes, 52_428_800);
}

#[test]
fn a_network_is_a_tenant() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.networks[0].tenant.as_str(), "demo");
    assert!(config.networks[0].cidrs[1].contains("10.2.3.4".parse().unwrap()));
    assert_eq!(config.networks[0].class, Class::Transactional);
}

#[test]
fn mistakes_are_named() {
    for (text, expected) in [
        ("", "p.toml: host_name: is required"),
        ("host_name = 'a b'", "p.toml: host_name: "),
        ("host_name = 'x'\nlistener = []", "p.toml: unknown key \"listener\"; did you mean \"listeners\"?"),
        ("host_name = 'x'\n[[networks]]\ncidrs = ['10.0.0.0/99']\ntenant = 't'", "p.toml: networks.0.cidrs.0: "),
        ("host_name = 'x'\n[[networks]]\ncidrs = []\ntenant = 'T T'", "p.toml: networks.0.tenant: "),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}
