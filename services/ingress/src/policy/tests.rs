//! Who may submit what, case by case.

use std::collections::BTreeSet;

use postrider_message::AuthorError;
use postrider_model::{Class, Credential, Domain, Mailbox, SendingDomain, Snapshot, Tenant, TenantId, TenantWeight};
use postrider_runtime::ClusterKey;

use super::*;
use crate::config::NetworkConfig;
use crate::refusal::{Because, Refusal};

fn key() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

fn credential(name: &str, tenant: &str, password: &str) -> Credential {
    Credential {
        name: name.parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        secret_mac: key().mac("credential", &[name.as_bytes(), password.as_bytes()]).to_vec(),
        default_class: Class::Transactional,
        default_campaign: Some("welcome".parse().unwrap()),
        default_pool: None,
        allowed_classes: BTreeSet::new(),
        may_choose_campaign: false,
        allowed_pools: BTreeSet::new(),
    }
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (tenant, domain) in [("acme", "acme.example"), ("other", "other.example")] {
        let id: TenantId = tenant.parse().unwrap();
        let domain: Domain = domain.parse().unwrap();
        snapshot.tenants.insert(
            id.clone(),
            Tenant { id: id.clone(), display_name: tenant.to_owned(), weight: TenantWeight::default() },
        );
        snapshot.domains.insert(domain.clone(), SendingDomain { domain, tenant: id, dkim: None });
    }
    for credential in [credential("alice", "acme", "secret"), credential("ghost", "gone", "secret")] {
        snapshot.credentials.insert(credential.name.clone(), credential);
    }
    snapshot
}

fn alice() -> Principal {
    Principal::of_credential(&credential("alice", "acme", "secret"))
}

fn network(any_sender: bool) -> NetworkConfig {
    NetworkConfig {
        cidrs: vec!["127.0.0.0/8".parse().unwrap()],
        tenant: "acme".parse().unwrap(),
        any_sender,
        class: Class::Bulk,
    }
}

fn mailboxes(addresses: &[&str]) -> Vec<Mailbox> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(result: Result<T, Refusal>, because: Because, expected: &str) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.because, because);
    assert!(refusal.reply.to_string().starts_with(expected), "{}", refusal.reply);
}

#[test]
fn name_and_password_prove_a_credential() {
    let snapshot = snapshot();
    assert_eq!(authenticate(&snapshot, &key(), "alice", "secret").map(|c| c.tenant.as_str()), Some("acme"));
}

#[test]
fn anything_else_proves_nothing() {
    let snapshot = snapshot();
    for (name, password) in
        [("alice", "wrong"), ("alice", ""), ("bob", "secret"), ("", ""), ("Alice", "secret"), ("ghost", "secret")]
    {
        assert_eq!(authenticate(&snapshot, &key(), name, password), None, "{name} {password}");
    }
    assert_eq!(authenticate(&snapshot, &ClusterKey::from_bytes([8; 32]), "alice", "secret"), None);
}

#[test]
fn a_credential_without_a_mac_is_never_proved() {
    let mut snapshot = snapshot();
    for credential in snapshot.credentials.values_mut() {
        credential.secret_mac = Vec::new();
    }
    assert_eq!(authenticate(&snapshot, &key(), "alice", ""), None);
}

#[test]
fn a_network_submits_as_its_tenant() {
    let (snapshot, networks) = (snapshot(), [network(false)]);
    let of = |peer: &str| tenant_of_network(&snapshot, &networks, peer.parse().unwrap()).map(|p| p.tenant.to_string());
    assert_eq!(of("127.0.0.9"), Some("acme".to_owned()));
    assert_eq!(of("::ffff:127.0.0.9"), Some("acme".to_owned()));
    assert_eq!(of("128.0.0.1"), None);
    assert_eq!(of("::1"), None);
}

#[test]
fn a_network_of_a_tenant_that_is_gone_submits_nothing() {
    let networks = [network(true)];
    assert_eq!(tenant_of_network(&Snapshot::default(), &networks, "127.0.0.1".parse().unwrap()), None);
}

#[test]
fn a_stranger_is_told_to_authenticate_where_that_helps() {
    check_refused::<()>(Err(relay_refused(true)), Because::Relay, "530 5.7.0 ");
    check_refused::<()>(Err(relay_refused(false)), Because::Relay, "550 5.7.1 ");
}

#[test]
fn the_envelope_sender_must_be_the_tenants() {
    let snapshot = snapshot();
    let check = |path: &str| sender(&snapshot, &alice(), &path.parse().unwrap());
    assert_eq!(check("a@acme.example"), Ok(()));
    assert_eq!(check("a@bounce.acme.example"), Ok(()));
    assert_eq!(check(""), Ok(()));
    check_refused(
        check("a@other.example"),
        Because::Sender,
        "550 5.7.1 Envelope sender: other.example is no sending domain of tenant acme",
    );
    check_refused(check("a@notacme.example"), Because::Sender, "550 5.7.1 ");
}

#[test]
fn a_network_of_any_sender_may_use_any_domain() {
    let snapshot = snapshot();
    let anyone = Principal::of_network(&network(true));
    assert_eq!(sender(&snapshot, &anyone, &"a@x.example".parse().unwrap()), Ok(()));
    let from = mailboxes(&["a@y.example"]);
    let found = header_from(&snapshot, &anyone, Ok(&from));
    assert_eq!(found, Ok(Some("y.example".parse().unwrap())));
    assert_eq!(header_from(&snapshot, &anyone, Err(AuthorError::Missing)), Ok(None));
    check_refused(header_from(&snapshot, &anyone, Err(AuthorError::Repeated)), Because::FromHeader, "550 5.7.1 ");
}

#[test]
fn a_network_without_that_right_has_the_tenants_domains_only() {
    let principal = Principal::of_network(&network(false));
    check_refused(sender(&snapshot(), &principal, &"a@x.example".parse().unwrap()), Because::Sender, "550 5.7.1 ");
}

#[track_caller]
fn check_from(addresses: &[&str], expected: Result<&str, &str>) {
    let from = mailboxes(addresses);
    let found = header_from(&snapshot(), &alice(), Ok(&from));
    match expected {
        Ok(domain) => assert_eq!(found, Ok(Some(domain.parse().unwrap()))),
        Err(text) => check_refused(found, Because::FromDomain, text),
    }
}

#[test]
fn the_header_from_must_be_the_tenants() {
    check_from(&["a@acme.example"], Ok("acme.example"));
    check_from(&["a@news.acme.example"], Ok("news.acme.example"));
    check_from(&["a@other.example"], Err("550 5.7.1 Header From: other.example is no sending domain of tenant acme"));
}

#[test]
fn all_mailboxes_of_a_header_from_must_be_the_tenants() {
    check_from(&["a@acme.example", "b@acme.example"], Ok("acme.example"));
    check_from(&["a@acme.example", "b@other.example"], Err("550 5.7.1 Header From: other.example"));
}

#[test]
fn a_message_without_an_author_that_can_be_checked_is_refused() {
    for error in [AuthorError::Missing, AuthorError::Repeated, AuthorError::Unreadable] {
        check_refused(
            header_from(&snapshot(), &alice(), Err(error)),
            Because::FromHeader,
            "550 5.7.1 Header From: the ",
        );
    }
}

#[test]
fn a_message_has_its_credentials_defaults() {
    assert_eq!(choose(&alice(), None, None, None), Ok(alice().defaults));
    assert_eq!(choose(&alice(), Some(" "), Some(""), None), Ok(alice().defaults));
}

#[test]
fn headers_choose_within_what_is_allowed() {
    let mut principal = alice();
    principal.classes.insert(Class::Bulk);
    principal.may_choose_campaign = true;
    principal.pools.insert("pool-1".parse().unwrap());
    let choice = choose(&principal, Some("bulk"), Some("May newsletter"), Some("pool-1")).unwrap();
    assert_eq!(choice.class, Class::Bulk);
    assert_eq!(choice.campaign.unwrap().as_str(), "May newsletter");
    assert_eq!(choice.pool.unwrap().as_str(), "pool-1");
}

#[test]
fn what_a_credential_may_not_choose_is_refused() {
    let refused = "550 5.7.1 X-Postrider-";
    check_refused(choose(&alice(), Some("bulk"), None, None), Because::Directive, refused);
    check_refused(choose(&alice(), None, Some("x"), None), Because::Directive, refused);
    check_refused(choose(&alice(), None, None, Some("pool-1")), Because::Directive, refused);
}

#[test]
fn choosing_the_default_is_always_allowed() {
    assert_eq!(choose(&alice(), Some("transactional"), Some("welcome"), None), Ok(alice().defaults));
}

#[test]
fn a_malformed_choice_is_refused_with_what_is_wrong() {
    check_refused(
        choose(&alice(), Some("urgent"), None, None),
        Because::Directive,
        "550 5.6.0 X-Postrider-Class: class \"urgent\"",
    );
    check_refused(choose(&alice(), None, None, Some("Pool 1")), Because::Directive, "550 5.6.0 X-Postrider-Pool: pool");
}

#[test]
fn a_message_that_goes_in_circles_is_refused() {
    assert_eq!(circles(49, 50), Ok(()));
    check_refused(circles(50, 50), Because::Loop, "554 5.4.6 ");
}
