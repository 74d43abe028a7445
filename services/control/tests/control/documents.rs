//! Export and import.

use postrider_proto::control::v1 as api;
use postrider_runtime::ClusterKey;
use tonic::Code;

use crate::cluster::Cluster;

async fn furnished() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let credential = api::Credential {
        name: "app".into(),
        tenant: "acme".into(),
        default_class: "bulk".into(),
        ..Default::default()
    };
    let request = api::CreateCredentialRequest { credential: Some(credential) };
    cluster.credentials().create_credential(request).await.unwrap();
    let request =
        api::CreateDomainRequest { domain: "acme.example".into(), tenant: "acme".into(), ..Default::default() };
    cluster.domains().create_domain(request).await.unwrap();
    let route = api::Route { domain: "*".into(), next_hops: vec!["127.0.0.1:2026".into()], ..Default::default() };
    cluster.routes().create_route(api::CreateRouteRequest { route: Some(route) }).await.unwrap();
    cluster
}

async fn export(cluster: &Cluster) -> api::ConfigDocument {
    cluster.config().export_config(api::ExportConfigRequest {}).await.unwrap().into_inner()
}

async fn import(
    cluster: &Cluster,
    document: api::ConfigDocument,
    dry_run: bool,
    prune: bool,
) -> Result<Vec<String>, tonic::Status> {
    let request = api::ImportConfigRequest { document: Some(document), dry_run, prune };
    let answer = cluster.config().import_config(request).await?.into_inner();
    Ok(answer.changes.iter().map(|c| format!("{} {} {}", c.action().as_str_name(), c.kind, c.name)).collect())
}

#[tokio::test]
async fn what_one_cluster_exports_another_with_the_same_key_imports_whole() {
    let one = furnished().await;
    let exported = export(&one).await;
    let other = Cluster::start().await;
    let made = import(&other, exported.clone(), false, false).await.unwrap();
    assert_eq!(
        made,
        [
            "ACTION_CREATE tenant acme",
            "ACTION_CREATE credential app",
            "ACTION_CREATE domain acme.example",
            "ACTION_CREATE route *"
        ]
    );
    assert_eq!(export(&other).await, exported);
    assert!(import(&other, exported, false, true).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let cluster = furnished().await;
    let before = export(&cluster).await;
    let mut changed = before.clone();
    changed.tenants[0].display_name = "Acme".into();
    changed.routes.clear();
    let said = import(&cluster, changed.clone(), true, true).await.unwrap();
    assert_eq!(said, ["ACTION_UPDATE tenant acme", "ACTION_DELETE route *"]);
    assert_eq!(export(&cluster).await, before);
    assert_eq!(import(&cluster, changed.clone(), false, true).await.unwrap(), said);
    assert_eq!(export(&cluster).await, changed);
}

#[tokio::test]
async fn secrets_of_another_cluster_key_are_refused() {
    let exported = export(&furnished().await).await;
    let other = Cluster::start_with(ClusterKey::from_bytes([8; 32])).await;
    let refusal = import(&other, exported.clone(), false, false).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains("secret.key"), "{}", refusal.message());
    let without = api::ConfigDocument { credentials: Vec::new(), domains: Vec::new(), ..exported };
    assert_eq!(import(&other, without, false, false).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_sealed_key_that_was_changed_is_refused_by_name() {
    let cluster = furnished().await;
    let mut changed = export(&cluster).await;
    let sealed = &mut changed.domains[0].dkim.as_mut().unwrap().sealed_key;
    let mut bytes = sealed.to_vec();
    bytes[40] ^= 1;
    *sealed = bytes.into();
    let refusal = import(&cluster, changed, false, false).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().starts_with("domain acme.example: dkim.sealed_key"), "{}", refusal.message());
}

#[tokio::test]
async fn a_document_of_a_later_version_is_refused() {
    let cluster = Cluster::start().await;
    let later = api::ConfigDocument { version: 2, ..Default::default() };
    let refusal = import(&cluster, later, false, false).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("version 2"), "{}", refusal.message());
}
