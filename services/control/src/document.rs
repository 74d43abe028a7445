//! The whole configuration as one document, and what must be done to make the configuration hold what a document says.
//! Pure: it compares, it writes nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_model::{Credential, DkimKey, Route, SendingDomain, Tenant, TenantId};
use postrider_nats::ConfigKey;
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::config_change::Action;
use prost::Message;
use tonic::Status;

use crate::store::{Everything, Kind, Stored, key_name};
use crate::wire::{optional, required};
use crate::{domains, routes, tenants};

mod difference;

/// The version of the document's format.
const VERSION: u32 = 1;

/// Routes of this origin are made anew at each start of `postrider up`: they are no part of a document.
const UP: &str = "up";

/// Bytes of a MAC.
const MAC_BYTES: usize = 32;

/// One write that an import makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) key: ConfigKey,
    pub(crate) action: Action,
    /// What to write; `None` deletes.
    pub(crate) value: Option<Bytes>,
    /// The revision that the step goes out from; `None`: the object must not exist.
    pub(crate) revision: Option<u64>,
    /// The fields that differ, in words.
    pub(crate) fields: Vec<String>,
}

impl Step {
    /// The step as the API tells it.
    pub(crate) fn change(&self) -> api::ConfigChange {
        api::ConfigChange {
            action: self.action.into(),
            kind: Kind::of(&self.key).to_string(),
            name: key_name(&self.key),
            fields: self.fields.clone(),
        }
    }
}

/// Everything as a document.
pub(crate) fn document(all: &Everything, cluster_key_id: String) -> api::ConfigDocument {
    api::ConfigDocument {
        version: VERSION,
        cluster_key_id,
        tenants: all.tenants.iter().map(|tenant| document_tenant(&tenant.value)).collect(),
        credentials: all.credentials.iter().map(|credential| document_credential(&credential.value)).collect(),
        domains: all.domains.iter().map(|domain| document_domain(&domain.value)).collect(),
        routes: all.routes.iter().map(|route| &route.value).filter(|r| r.origin != UP).map(document_route).collect(),
    }
}

fn document_tenant(tenant: &Tenant) -> api::DocumentTenant {
    api::DocumentTenant {
        id: tenant.id.to_string(),
        display_name: tenant.display_name.clone(),
        weight: tenant.weight.get(),
    }
}

fn document_credential(credential: &Credential) -> api::DocumentCredential {
    api::DocumentCredential {
        name: credential.name.to_string(),
        tenant: credential.tenant.to_string(),
        secret_mac: credential.secret_mac.clone().into(),
        default_class: credential.default_class.to_string(),
        default_campaign: credential.default_campaign.as_ref().map(ToString::to_string).unwrap_or_default(),
        default_pool: credential.default_pool.as_ref().map(ToString::to_string).unwrap_or_default(),
        allowed_classes: credential.allowed_classes.iter().map(ToString::to_string).collect(),
        may_choose_campaign: credential.may_choose_campaign,
        allowed_pools: credential.allowed_pools.iter().map(ToString::to_string).collect(),
    }
}

fn document_domain(domain: &SendingDomain) -> api::DocumentDomain {
    let dkim = domain.dkim.as_ref().map(|key| api::DocumentDkim {
        selector: key.selector.clone(),
        sealed_key: key.sealed_key.clone().into(),
        dns_record: key.dns_record.clone(),
    });
    api::DocumentDomain { domain: domain.domain.to_string(), tenant: domain.tenant.to_string(), dkim }
}

fn document_route(route: &Route) -> api::DocumentRoute {
    api::DocumentRoute {
        domain: routes::name(route),
        next_hops: route.next_hops.iter().map(ToString::to_string).collect(),
        origin: route.origin.clone(),
    }
}

/// A document that has been read and makes sense by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tenants: BTreeMap<ConfigKey, Tenant>,
    pub(crate) credentials: BTreeMap<ConfigKey, Credential>,
    pub(crate) domains: BTreeMap<ConfigKey, SendingDomain>,
    pub(crate) routes: BTreeMap<ConfigKey, Route>,
    pub(crate) cluster_key_id: String,
}

impl Wanted {
    /// Whether it holds anything that depends on the cluster key.
    pub(crate) fn holds_secrets(&self) -> bool {
        !self.credentials.is_empty() || self.domains.values().any(|domain| domain.dkim.is_some())
    }

    /// Reads a document. Refusals name the object and the field.
    pub(crate) fn parse(document: api::ConfigDocument) -> Result<Self, Status> {
        if document.version != VERSION {
            return Err(Status::invalid_argument(format!(
                "version {}: this build reads documents of version {VERSION}",
                document.version
            )));
        }
        let mut wanted = Self { cluster_key_id: document.cluster_key_id, ..Self::default() };
        for tenant in document.tenants {
            let tenant = Tenant {
                id: required("tenants: id", &tenant.id)?,
                display_name: tenants::display_name(
                    &format!("tenant {}: display_name", tenant.id),
                    tenant.display_name,
                )?,
                weight: tenants::weight(&format!("tenant {}: weight", tenant.id), tenant.weight)?,
            };
            once(&mut wanted.tenants, ConfigKey::Tenant(tenant.id.clone()), tenant)?;
        }
        for credential in document.credentials {
            let credential = parse_credential(credential)?;
            once(&mut wanted.credentials, ConfigKey::Credential(credential.name.clone()), credential)?;
        }
        for domain in document.domains {
            let domain = parse_domain(domain)?;
            once(&mut wanted.domains, ConfigKey::Domain(domain.domain.clone()), domain)?;
        }
        for route in document.routes {
            let origin = if route.origin.is_empty() { routes::OPERATOR } else { &route.origin };
            let field = format!("route {}: ", route.domain);
            let route = routes::parse(&field, &route.domain, &route.next_hops, origin)?;
            once(&mut wanted.routes, ConfigKey::Route(route.domain.clone()), route)?;
        }
        Ok(wanted)
    }
}

fn once<T>(objects: &mut BTreeMap<ConfigKey, T>, key: ConfigKey, object: T) -> Result<(), Status> {
    let twice = format!("{} {} stands in the document twice", Kind::of(&key), key_name(&key));
    match objects.insert(key, object) {
        None => Ok(()),
        Some(_) => Err(Status::invalid_argument(twice)),
    }
}

fn parse_credential(credential: api::DocumentCredential) -> Result<Credential, Status> {
    let field = |name: &str| format!("credential {}: {name}", credential.name);
    if credential.secret_mac.len() != MAC_BYTES {
        return Err(Status::invalid_argument(format!("{}: expected {MAC_BYTES} bytes", field("secret_mac"))));
    }
    let classes = credential.allowed_classes.iter().map(|class| required(&field("allowed_classes"), class));
    let pools = credential.allowed_pools.iter().map(|pool| required(&field("allowed_pools"), pool));
    Ok(Credential {
        name: required("credentials: name", &credential.name)?,
        tenant: required(&field("tenant"), &credential.tenant)?,
        default_class: required(&field("default_class"), &credential.default_class)?,
        default_campaign: optional(&field("default_campaign"), &credential.default_campaign)?,
        default_pool: optional(&field("default_pool"), &credential.default_pool)?,
        allowed_classes: classes.collect::<Result<_, _>>()?,
        may_choose_campaign: credential.may_choose_campaign,
        allowed_pools: pools.collect::<Result<_, _>>()?,
        secret_mac: credential.secret_mac.to_vec(),
    })
}

fn parse_domain(domain: api::DocumentDomain) -> Result<SendingDomain, Status> {
    let name = domains::sending_domain("domains: domain", &domain.domain)?;
    let tenant = required(&format!("domain {name}: tenant"), &domain.tenant)?;
    let dkim = domain.dkim.map(|dkim| DkimKey {
        selector: dkim.selector,
        sealed_key: dkim.sealed_key.to_vec(),
        dns_record: dkim.dns_record,
    });
    Ok(SendingDomain { domain: name, tenant, dkim })
}

/// What must be written, in an order in which nothing ever refers to what is not there: tenants before what is theirs,
/// deletions the other way round and last.
pub(crate) fn plan(all: &Everything, wanted: &Wanted, prune: bool) -> Result<Vec<Step>, Status> {
    check_references(all, wanted, prune)?;
    let mut plan = Plan { prune, ..Plan::default() };
    plan.kind(
        keyed(&all.tenants, |tenant| ConfigKey::Tenant(tenant.id.clone())),
        &wanted.tenants,
        |tenant| wire::Tenant::from(tenant).encode_to_vec(),
        difference::tenant,
    );
    plan.kind(
        keyed(&all.credentials, |credential| ConfigKey::Credential(credential.name.clone())),
        &wanted.credentials,
        |credential| wire::Credential::from(credential).encode_to_vec(),
        difference::credential,
    );
    plan.kind(
        keyed(&all.domains, |domain| ConfigKey::Domain(domain.domain.clone())),
        &wanted.domains,
        |domain| wire::SendingDomain::from(domain).encode_to_vec(),
        difference::domain,
    );
    let mut current = keyed(&all.routes, |route| ConfigKey::Route(route.domain.clone()));
    // A route of `postrider up` stays unless the document has one of its own for the same domain.
    current.retain(|key, (route, _)| route.origin != UP || wanted.routes.contains_key(key));
    plan.kind(current, &wanted.routes, |route| wire::Route::from(route).encode_to_vec(), difference::route);
    plan.deletions.reverse();
    plan.steps.append(&mut plan.deletions);
    Ok(plan.steps)
}

type Keyed<'a, T> = BTreeMap<ConfigKey, (&'a T, u64)>;

fn keyed<T>(objects: &[Stored<T>], key: impl Fn(&T) -> ConfigKey) -> Keyed<'_, T> {
    objects.iter().map(|object| (key(&object.value), (&object.value, object.revision))).collect()
}

fn check_references(all: &Everything, wanted: &Wanted, prune: bool) -> Result<(), Status> {
    let has = |tenant: &TenantId| {
        wanted.tenants.contains_key(&ConfigKey::Tenant(tenant.clone()))
            || (!prune && all.tenants.iter().any(|found| found.value.id == *tenant))
    };
    let credentials = wanted.credentials.iter().map(|(key, credential)| (key, &credential.tenant));
    let domains = wanted.domains.iter().map(|(key, domain)| (key, &domain.tenant));
    match credentials.chain(domains).find(|(_, tenant)| !has(tenant)) {
        None => check_domains(all, wanted, prune),
        Some((key, tenant)) => Err(Status::failed_precondition(format!(
            "{} {} is of tenant {tenant}, which is neither in the document nor {}",
            Kind::of(key),
            key_name(key),
            if prune { "kept (--prune)" } else { "in the configuration" }
        ))),
    }
}

/// No tenant gets a domain above or below another's.
fn check_domains(all: &Everything, wanted: &Wanted, prune: bool) -> Result<(), Status> {
    let kept = all
        .domains
        .iter()
        .map(|stored| &stored.value)
        .filter(|kept| !prune && !wanted.domains.contains_key(&ConfigKey::Domain(kept.domain.clone())));
    let after: Vec<&SendingDomain> = wanted.domains.values().chain(kept).collect();
    let is_new = |domain: &&SendingDomain| {
        !all.domains.iter().any(|known| known.value.domain == domain.domain && known.value.tenant == domain.tenant)
    };
    let refusal =
        wanted.domains.values().filter(is_new).find_map(|domain| domains::taken(domain, after.iter().copied()));
    refusal.map_or(Ok(()), |refusal| Err(Status::failed_precondition(refusal)))
}

#[derive(Default)]
struct Plan {
    prune: bool,
    steps: Vec<Step>,
    deletions: Vec<Step>,
}

impl Plan {
    fn kind<T: PartialEq>(
        &mut self,
        current: Keyed<'_, T>,
        wanted: &BTreeMap<ConfigKey, T>,
        encode: impl Fn(&T) -> Vec<u8>,
        fields: impl Fn(&T, &T) -> Vec<String>,
    ) {
        for (key, object) in wanted {
            let (action, revision, fields) = match current.get(key) {
                None => (Action::Create, None, Vec::new()),
                Some((found, _)) if *found == object => continue,
                Some((found, revision)) => (Action::Update, Some(*revision), fields(found, object)),
            };
            self.steps.push(Step { key: key.clone(), action, value: Some(encode(object).into()), revision, fields });
        }
        for (key, (_, revision)) in current.into_iter().filter(|(key, _)| self.prune && !wanted.contains_key(key)) {
            let revision = Some(revision);
            self.deletions.push(Step { key, action: Action::Delete, value: None, revision, fields: Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests;
