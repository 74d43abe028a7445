//! Tenants, credentials, domains and routes: made, listed, looked at, deleted.

use postrider_message::dkim::Signer;
use postrider_model::Timestamp;
use postrider_proto::control::v1 as api;
use tonic::{Code, Status};

use crate::cluster::{Cluster, key};

fn credential(name: &str, tenant: &str) -> api::CreateCredentialRequest {
    let credential = api::Credential { name: name.to_owned(), tenant: tenant.to_owned(), ..Default::default() };
    api::CreateCredentialRequest { credential: Some(credential) }
}

fn domain(name: &str, tenant: &str) -> api::CreateDomainRequest {
    api::CreateDomainRequest { domain: name.to_owned(), tenant: tenant.to_owned(), ..Default::default() }
}

fn route(domain: &str, next_hops: &[&str]) -> api::CreateRouteRequest {
    let next_hops = next_hops.iter().map(|hop| (*hop).to_owned()).collect();
    api::CreateRouteRequest { route: Some(api::Route { domain: domain.to_owned(), next_hops, ..Default::default() }) }
}

fn delete_tenant(id: &str, etag: &str) -> api::DeleteTenantRequest {
    api::DeleteTenantRequest { id: id.to_owned(), etag: etag.to_owned() }
}

#[track_caller]
fn check<T: std::fmt::Debug>(ended: Result<T, Status>, code: Code, text: &str) {
    let status = ended.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(text), "{status}");
}

#[tokio::test]
async fn a_tenant_is_made_shown_listed_and_deleted() {
    let cluster = Cluster::start().await;
    let mut tenants = cluster.tenants();
    let tenant = api::Tenant { id: "acme".into(), display_name: "Acme Corp".into(), ..Default::default() };
    let made = tenants.create_tenant(api::CreateTenantRequest { tenant: Some(tenant) }).await.unwrap().into_inner();
    let made = made.tenant.unwrap();
    let shown = tenants.get_tenant(api::GetTenantRequest { id: "acme".into() }).await.unwrap().into_inner();
    assert_eq!(shown, made);
    assert_eq!((shown.display_name.as_str(), shown.weight), ("Acme Corp", 1));
    let update = |weight| api::UpdateTenantRequest { id: "acme".into(), weight: Some(weight), ..Default::default() };
    check(tenants.update_tenant(update(101)).await, Code::InvalidArgument, "weight: a weight is 1 to 100, not 101");
    let made = tenants.update_tenant(update(7)).await.unwrap().into_inner().tenant.unwrap();
    assert_eq!((made.display_name.as_str(), made.weight), ("Acme Corp", 7));
    let stale = api::UpdateTenantRequest { etag: shown.etag, ..update(8) };
    check(tenants.update_tenant(stale).await, Code::Aborted, "tenant acme");
    let listed = tenants.list_tenants(api::ListTenantsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.tenants, std::slice::from_ref(&made));
    tenants.delete_tenant(delete_tenant("acme", &made.etag)).await.unwrap();
    check(tenants.get_tenant(api::GetTenantRequest { id: "acme".into() }).await, Code::NotFound, "tenant acme");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let cluster = Cluster::start().await;
    for id in ["c", "a", "e", "b", "d"] {
        cluster.tenant(id).await;
    }
    let mut ids = Vec::new();
    let mut request = api::ListTenantsRequest { page_size: 2, page_token: String::new() };
    for _ in 0..3 {
        let page = cluster.tenants().list_tenants(request.clone()).await.unwrap().into_inner();
        ids.extend(page.tenants.into_iter().map(|tenant| tenant.id));
        request.page_token = page.next_page_token;
    }
    assert_eq!(ids, ["a", "b", "c", "d", "e"]);
    assert_eq!(request.page_token, "");
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let again = api::Tenant { id: "acme".into(), ..Default::default() };
    let again = cluster.tenants().create_tenant(api::CreateTenantRequest { tenant: Some(again) }).await;
    check(again, Code::AlreadyExists, "tenant acme exists already");
}

#[tokio::test]
async fn a_typo_is_answered_with_the_nearest_name() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let ended = cluster.tenants().get_tenant(api::GetTenantRequest { id: "amce".into() }).await;
    check(ended, Code::NotFound, "did you mean acme?");
}

#[tokio::test]
async fn what_does_not_parse_is_refused_with_its_field() {
    let cluster = Cluster::start().await;
    let bad = api::Tenant { id: "A B".into(), ..Default::default() };
    let ended = cluster.tenants().create_tenant(api::CreateTenantRequest { tenant: Some(bad) }).await;
    check(ended, Code::InvalidArgument, "tenant.id");
    let ended = cluster.routes().create_route(route("example.net", &["nowhere"])).await;
    check(ended, Code::InvalidArgument, "route.next_hops");
    let ended = cluster.domains().create_domain(domain("[127.0.0.1]", "acme")).await;
    check(ended, Code::InvalidArgument, "domain");
}

#[tokio::test]
async fn a_tenant_that_has_something_is_not_deleted() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    cluster.credentials().create_credential(credential("app", "acme")).await.unwrap();
    let ended = cluster.tenants().delete_tenant(delete_tenant("acme", "")).await;
    check(ended, Code::FailedPrecondition, "credential app");
    let request = api::DeleteCredentialRequest { name: "app".into(), ..Default::default() };
    cluster.credentials().delete_credential(request).await.unwrap();
    cluster.tenants().delete_tenant(delete_tenant("acme", "")).await.unwrap();
}

#[tokio::test]
async fn another_version_than_was_read_is_not_deleted() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let request = api::GetTenantRequest { id: "acme".into() };
    let read = cluster.tenants().get_tenant(request).await.unwrap().into_inner();
    cluster.tenants().delete_tenant(delete_tenant("acme", "")).await.unwrap();
    cluster.tenant("acme").await;
    let ended = cluster.tenants().delete_tenant(delete_tenant("acme", &read.etag)).await;
    check(ended, Code::Aborted, "read it again");
}

#[tokio::test]
async fn of_two_that_make_the_same_at_once_one_hears_that_it_exists() {
    let cluster = Cluster::start().await;
    let make = async |name: &str| {
        let tenant = api::Tenant { id: "acme".into(), display_name: name.to_owned(), ..Default::default() };
        cluster.tenants().create_tenant(api::CreateTenantRequest { tenant: Some(tenant) }).await
    };
    let (one, other) = tokio::join!(make("one"), make("other"));
    let refused = [one, other].into_iter().filter_map(Result::err).map(|status| status.code()).collect::<Vec<_>>();
    assert_eq!(refused, [Code::AlreadyExists]);
}

#[tokio::test]
async fn a_secret_is_said_once_and_kept_as_a_mac() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let made = cluster.credentials().create_credential(credential("app@acme", "acme")).await.unwrap().into_inner();
    assert_eq!(made.secret.len(), 43);
    let snapshot = cluster.spool.watch_snapshot().await.borrow().clone();
    let kept = &snapshot.credentials[&"app@acme".parse().unwrap()];
    assert!(key().verify("credential", &[b"app@acme", made.secret.as_bytes()], &kept.secret_mac));
    assert!(kept.allowed_classes.contains(&kept.default_class));
    let request = api::GetCredentialRequest { name: "app@acme".into() };
    let shown = cluster.credentials().get_credential(request).await.unwrap().into_inner();
    assert!(!format!("{shown:?}").contains(&made.secret));
}

#[tokio::test]
async fn a_credential_of_nobody_is_refused() {
    let cluster = Cluster::start().await;
    let ended = cluster.credentials().create_credential(credential("app", "acme")).await;
    check(ended, Code::NotFound, "tenant acme");
}

#[tokio::test]
async fn a_domain_gets_a_sealed_key_that_signs_and_the_record_to_publish() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let made = cluster.domains().create_domain(domain("acme.example", "acme")).await.unwrap().into_inner();
    let record = made.domain.unwrap().dkim.unwrap().record.unwrap();
    assert_eq!((record.name.as_str(), record.r#type.as_str()), ("pr1._domainkey.acme.example", "TXT"));
    assert!(record.value.starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhki"), "{}", record.value);

    let snapshot = cluster.spool.watch_snapshot().await.borrow().clone();
    let kept = snapshot.domains[&"acme.example".parse().unwrap()].dkim.clone().unwrap();
    assert_eq!(kept.dns_record, record.value);
    let private = key().open("dkim", &kept.sealed_key).unwrap();
    let signer = Signer::from_pkcs8_or_pem(&"acme.example".parse().unwrap(), &kept.selector, &private).unwrap();
    let field = signer.sign(b"From: a@acme.example\r\n\r\nhello\r\n", Timestamp::from_millis(1_000_000)).unwrap();
    assert!(field.contains("s=pr1"), "{field}");
}

#[tokio::test]
async fn a_domain_without_dkim_has_no_key() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let request = api::CreateDomainRequest { no_dkim: true, ..domain("acme.example", "acme") };
    let made = cluster.domains().create_domain(request).await.unwrap().into_inner();
    assert_eq!(made.domain.unwrap().dkim, None);
}

#[tokio::test]
async fn a_domain_goes_with_its_subdomains() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    cluster.tenant("demo").await;
    let make = |name: &str, tenant: &str| {
        let request = api::CreateDomainRequest { no_dkim: true, ..domain(name, tenant) };
        let mut domains = cluster.domains();
        async move { domains.create_domain(request).await }
    };
    make("acme.example", "acme").await.unwrap();
    make("sub.acme.example", "acme").await.unwrap();
    make("otheracme.example", "demo").await.unwrap();
    check(make("news.acme.example", "demo").await, Code::AlreadyExists, "acme.example belongs to tenant acme");
    make("mail.demo.example", "demo").await.unwrap();
    check(make("demo.example", "acme").await, Code::AlreadyExists, "mail.demo.example belongs to tenant demo");
}

#[tokio::test]
async fn a_bad_selector_is_refused() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let request = api::CreateDomainRequest { dkim_selector: "a b".into(), ..domain("acme.example", "acme") };
    check(cluster.domains().create_domain(request).await, Code::InvalidArgument, "dkim_selector");
}

#[tokio::test]
async fn routes_are_made_for_a_domain_and_for_everything_else() {
    let cluster = Cluster::start().await;
    let mut routes = cluster.routes();
    routes.create_route(route("Example.NET", &["127.0.0.1:2026", "lmtp:127.0.0.1:24"])).await.unwrap();
    routes.create_route(route("*", &["[::1]:25"])).await.unwrap();
    let listed = routes.list_routes(api::ListRoutesRequest::default()).await.unwrap().into_inner().routes;
    let told: Vec<_> = listed.iter().map(|r| format!("{} {} {}", r.domain, r.next_hops.join(","), r.origin)).collect();
    assert_eq!(told, ["* [::1]:25 operator", "example.net 127.0.0.1:2026,lmtp:127.0.0.1:24 operator"]);
    routes.delete_route(api::DeleteRouteRequest { domain: "*".into(), ..Default::default() }).await.unwrap();
    check(routes.get_route(api::GetRouteRequest { domain: "*".into() }).await, Code::NotFound, "route *");
}
