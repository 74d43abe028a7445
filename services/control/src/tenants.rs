//! Tenants over gRPC. A tenant goes only when nothing is left that is his.

use postrider_model::{Tenant, TenantId, TenantWeight, WeightError};
use postrider_nats::{ConfigKey, Expected};
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::tenant_service_server::TenantService;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::store::{Everything, Stored, check_etag, page};
use crate::wire::{present, required};

/// The longest display name, in bytes.
const LONGEST_NAME: usize = 200;

/// How many of the things in the way are named.
const NAMED: usize = 5;

#[tonic::async_trait]
impl TenantService for Api {
    async fn create_tenant(
        &self,
        request: Request<api::CreateTenantRequest>,
    ) -> Result<Response<api::CreateTenantResponse>, Status> {
        self.answer("CreateTenant", create(self, request.into_inner()).await)
    }

    async fn list_tenants(
        &self,
        request: Request<api::ListTenantsRequest>,
    ) -> Result<Response<api::ListTenantsResponse>, Status> {
        self.answer("ListTenants", list(self, &request.into_inner()).await)
    }

    async fn get_tenant(&self, request: Request<api::GetTenantRequest>) -> Result<Response<api::Tenant>, Status> {
        self.answer("GetTenant", get(self, &request.into_inner()).await)
    }

    async fn update_tenant(
        &self,
        request: Request<api::UpdateTenantRequest>,
    ) -> Result<Response<api::UpdateTenantResponse>, Status> {
        self.answer("UpdateTenant", update(self, request.into_inner()).await)
    }

    async fn delete_tenant(
        &self,
        request: Request<api::DeleteTenantRequest>,
    ) -> Result<Response<api::DeleteTenantResponse>, Status> {
        self.answer("DeleteTenant", delete(self, &request.into_inner()).await)
    }
}

async fn create(api: &Api, request: api::CreateTenantRequest) -> Result<api::CreateTenantResponse, Status> {
    let wanted = present("tenant", request.tenant)?;
    let tenant = Tenant {
        id: required("tenant.id", &wanted.id)?,
        display_name: display_name("tenant.display_name", wanted.display_name)?,
        weight: weight("tenant.weight", wanted.weight)?,
    };
    let turn = api.store.turn().await;
    let revision = api.store.create(&ConfigKey::Tenant(tenant.id.clone()), &wire::Tenant::from(&tenant)).await?;
    drop(turn);
    let applied = api.store.applied(revision).await;
    Ok(api::CreateTenantResponse { tenant: Some(shown(Stored { value: tenant, revision })), applied: Some(applied) })
}

async fn list(api: &Api, request: &api::ListTenantsRequest) -> Result<api::ListTenantsResponse, Status> {
    let all = api.store.everything().await?.tenants;
    let (found, next_page_token) =
        page(all, |tenant| tenant.value.id.to_string(), request.page_size, &request.page_token);
    Ok(api::ListTenantsResponse { tenants: found.into_iter().map(shown).collect(), next_page_token })
}

async fn get(api: &Api, request: &api::GetTenantRequest) -> Result<api::Tenant, Status> {
    find(api, required("id", &request.id)?).await.map(shown)
}

/// A tenant that must exist.
pub(crate) async fn find(api: &Api, id: TenantId) -> Result<Stored<Tenant>, Status> {
    api.store.get::<wire::Tenant, Tenant>(&ConfigKey::Tenant(id)).await
}

async fn update(api: &Api, request: api::UpdateTenantRequest) -> Result<api::UpdateTenantResponse, Status> {
    let key = ConfigKey::Tenant(required("id", &request.id)?);
    let turn = api.store.turn().await;
    let Stored { value: mut tenant, revision } = api.store.get::<wire::Tenant, Tenant>(&key).await?;
    check_etag(&key, &request.etag, revision)?;
    if let Some(name) = request.display_name {
        tenant.display_name = display_name("display_name", name)?;
    }
    if let Some(number) = request.weight {
        tenant.weight = TenantWeight::try_from(number).map_err(|why| refused("weight", why))?;
    }
    let value = wire::Tenant::from(&tenant).encode_to_vec();
    let revision = api.store.write(&key, value.into(), Expected::Revision(revision)).await?;
    drop(turn);
    let applied = api.store.applied(revision).await;
    Ok(api::UpdateTenantResponse { tenant: Some(shown(Stored { value: tenant, revision })), applied: Some(applied) })
}

async fn delete(api: &Api, request: &api::DeleteTenantRequest) -> Result<api::DeleteTenantResponse, Status> {
    let id: TenantId = required("id", &request.id)?;
    let key = ConfigKey::Tenant(id.clone());
    let turn = api.store.turn().await;
    let tenant = find(api, id.clone()).await?;
    check_etag(&key, &request.etag, tenant.revision)?;
    if let Some(refusal) = still_used(&id, &api.store.everything().await?) {
        return Err(Status::failed_precondition(refusal));
    }
    let revision = api.store.delete(&key, tenant.revision).await?;
    // Another control process may have given the tenant something between the look and the deletion. Whoever writes
    // looks again afterwards, so one of the two sees it.
    if let Some(refusal) = still_used(&id, &api.store.everything().await?) {
        let value = wire::Tenant::from(&tenant.value).encode_to_vec();
        api.store.write(&key, value.into(), Expected::Absent).await?;
        return Err(Status::aborted(refusal));
    }
    drop(turn);
    Ok(api::DeleteTenantResponse { applied: Some(api.store.applied(revision).await) })
}

/// What stands against deleting a tenant, in words.
pub(crate) fn still_used(id: &TenantId, all: &Everything) -> Option<String> {
    let credentials = all.credentials.iter().filter(|credential| credential.value.tenant == *id);
    let domains = all.domains.iter().filter(|domain| domain.value.tenant == *id);
    let things: Vec<String> = credentials
        .map(|credential| format!("credential {}", credential.value.name))
        .chain(domains.map(|domain| format!("domain {}", domain.value.domain)))
        .collect();
    if things.is_empty() {
        return None;
    }
    let named = things.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if things.len() > NAMED { format!(" and {} more", things.len() - NAMED) } else { String::new() };
    Some(format!("tenant {id} still has {named}{more}: delete them first"))
}

/// A display name that is fit to print.
pub(crate) fn display_name(field: &str, name: String) -> Result<String, Status> {
    if name.len() > LONGEST_NAME {
        return Err(Status::invalid_argument(format!("{field}: longer than {LONGEST_NAME} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!("{field}: must not hold control characters")));
    }
    Ok(name)
}

/// A weight; 0 is the usual one.
pub(crate) fn weight(field: &str, number: u32) -> Result<TenantWeight, Status> {
    match number {
        0 => Ok(TenantWeight::default()),
        number => TenantWeight::try_from(number).map_err(|why| refused(field, why)),
    }
}

fn refused(field: &str, why: WeightError) -> Status {
    Status::invalid_argument(format!("{field}: {why}"))
}

fn shown(tenant: Stored<Tenant>) -> api::Tenant {
    api::Tenant {
        id: tenant.value.id.to_string(),
        display_name: tenant.value.display_name,
        etag: tenant.revision.to_string(),
        weight: tenant.value.weight.get(),
    }
}
