//! Documents against configurations.

use super::*;

fn tenant(id: &str, name: &str) -> Tenant {
    Tenant { id: id.parse().unwrap(), display_name: name.to_owned(), weight: postrider_model::TenantWeight::default() }
}

fn credential(name: &str, tenant: &str) -> Credential {
    Credential {
        name: name.parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        secret_mac: vec![7; 32],
        default_class: postrider_model::Class::Bulk,
        default_campaign: Some("spring".parse().unwrap()),
        default_pool: None,
        allowed_classes: [postrider_model::Class::Bulk].into(),
        may_choose_campaign: true,
        allowed_pools: ["main".parse().unwrap()].into(),
    }
}

fn domain(name: &str, tenant: &str) -> SendingDomain {
    let dkim = DkimKey { selector: "pr1".into(), sealed_key: vec![1, 2, 3], dns_record: "v=DKIM1".into() };
    SendingDomain { domain: name.parse().unwrap(), tenant: tenant.parse().unwrap(), dkim: Some(dkim) }
}

fn route(domain: Option<&str>, hop: &str, origin: &str) -> Route {
    Route {
        domain: domain.map(|domain| domain.parse().unwrap()),
        next_hops: vec![hop.parse().unwrap()],
        origin: origin.to_owned(),
    }
}

fn stored<T>(value: T) -> Stored<T> {
    Stored { value, revision: 5 }
}

fn everything() -> Everything {
    Everything {
        tenants: vec![stored(tenant("acme", "Acme")), stored(tenant("globex", ""))],
        credentials: vec![stored(credential("app", "acme"))],
        domains: vec![stored(domain("acme.example", "acme"))],
        routes: vec![stored(route(None, "127.0.0.1:25", "operator"))],
        rules: Vec::new(),
    }
}

fn steps(all: &Everything, document: api::ConfigDocument, prune: bool) -> Vec<String> {
    let steps = plan(all, &Wanted::parse(document).unwrap(), prune).unwrap();
    let change = |step: &Step| {
        let change = step.change();
        let action = format!("{:?} {} {} {}", step.action, change.kind, change.name, change.fields.join("; "));
        action.trim_end().to_owned()
    };
    steps.iter().map(change).collect()
}

#[test]
fn what_was_exported_changes_nothing_when_it_is_imported() {
    let all = everything();
    assert_eq!(steps(&all, document(&all, String::new()), true), [""; 0]);
}

#[test]
fn an_empty_configuration_gets_all_of_it_tenants_first() {
    let exported = document(&everything(), String::new());
    assert_eq!(
        steps(&Everything::default(), exported, false),
        [
            "Create tenant acme",
            "Create tenant globex",
            "Create credential app",
            "Create domain acme.example",
            "Create route *"
        ]
    );
}

#[test]
fn a_change_says_its_fields_and_hides_secrets() {
    let mut changed = document(&everything(), String::new());
    changed.tenants[0].display_name = "Acme Corporation".into();
    changed.tenants[0].weight = 4;
    changed.credentials[0].secret_mac = vec![8; 32].into();
    assert_eq!(
        steps(&everything(), changed, false),
        [
            "Update tenant acme display_name: \"Acme\" -> \"Acme Corporation\"; weight: \"1\" -> \"4\"",
            "Update credential app secret: another"
        ]
    );
}

#[test]
fn pruning_deletes_what_is_not_in_the_document_tenants_last() {
    let mut smaller = document(&everything(), String::new());
    smaller.tenants.retain(|tenant| tenant.id == "globex");
    smaller.credentials.clear();
    smaller.domains.clear();
    assert_eq!(steps(&everything(), smaller.clone(), false), [""; 0]);
    assert_eq!(
        steps(&everything(), smaller, true),
        ["Delete domain acme.example", "Delete credential app", "Delete tenant acme"]
    );
}

#[test]
fn routes_of_postrider_up_are_neither_exported_nor_pruned() {
    let mut all = everything();
    all.routes.push(stored(route(Some("demo.example"), "127.0.0.1:2026", "up")));
    let exported = document(&all, String::new());
    assert_eq!(exported.routes.len(), 1);
    assert_eq!(steps(&all, exported, true), [""; 0]);
}

#[test]
fn what_belongs_to_nobody_is_refused_by_name() {
    let mut orphaned = document(&everything(), String::new());
    orphaned.tenants.retain(|tenant| tenant.id != "acme");
    let wanted = Wanted::parse(orphaned).unwrap();
    assert!(plan(&everything(), &wanted, false).is_ok());
    let refusal = plan(&everything(), &wanted, true).unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition);
    assert!(refusal.message().starts_with("credential app is of tenant acme"), "{}", refusal.message());
}

#[test]
fn a_domain_below_that_of_another_tenant_is_refused_unless_it_is_there_already() {
    let mut all = everything();
    let mut below = document(&all, String::new());
    let (own, tenant) = (below.domains[0].domain.clone(), "globex");
    let sub = domain(&format!("sub.{own}"), tenant);
    below.domains.push(document_domain(&sub));
    let wanted = Wanted::parse(below).unwrap();
    let refusal = plan(&all, &wanted, false).unwrap_err();
    assert!(refusal.message().contains("belongs to tenant"), "{}", refusal.message());
    all.domains.push(stored(sub));
    assert!(plan(&all, &wanted, false).is_ok());
}

#[test]
fn an_object_that_stands_twice_is_refused() {
    let mut doubled = document(&everything(), String::new());
    doubled.tenants.push(doubled.tenants[0].clone());
    assert!(Wanted::parse(doubled).unwrap_err().message().contains("tenant acme stands in the document twice"));
}

#[test]
fn a_bad_field_is_refused_with_its_object() {
    let mut bad = document(&everything(), String::new());
    bad.credentials[0].default_class = "urgent".into();
    let refusal = Wanted::parse(bad).unwrap_err();
    assert!(refusal.message().starts_with("credential app: default_class"), "{}", refusal.message());
}
