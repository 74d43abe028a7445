//! Credentials over gRPC. Secrets are made here, said once, and kept only as a MAC under the cluster key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_model::{Class, Credential, CredentialName, TenantId};
use postrider_nats::ConfigKey;
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::credential_service_server::CredentialService;
use postrider_runtime::random;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::store::{Stored, check_etag, page};
use crate::tenants;
use crate::wire::{optional, present, required};

/// The context of MACs of secrets. Ingress checks with the same.
const CONTEXT: &str = "credential";

#[tonic::async_trait]
impl CredentialService for Api {
    async fn create_credential(
        &self,
        request: Request<api::CreateCredentialRequest>,
    ) -> Result<Response<api::CreateCredentialResponse>, Status> {
        self.answer("CreateCredential", create(self, request.into_inner()).await)
    }

    async fn list_credentials(
        &self,
        request: Request<api::ListCredentialsRequest>,
    ) -> Result<Response<api::ListCredentialsResponse>, Status> {
        self.answer("ListCredentials", list(self, &request.into_inner()).await)
    }

    async fn get_credential(
        &self,
        request: Request<api::GetCredentialRequest>,
    ) -> Result<Response<api::Credential>, Status> {
        self.answer("GetCredential", get(self, &request.into_inner()).await)
    }

    async fn delete_credential(
        &self,
        request: Request<api::DeleteCredentialRequest>,
    ) -> Result<Response<api::DeleteCredentialResponse>, Status> {
        self.answer("DeleteCredential", delete(self, &request.into_inner()).await)
    }
}

async fn create(api: &Api, request: api::CreateCredentialRequest) -> Result<api::CreateCredentialResponse, Status> {
    let wanted = present("credential", request.credential)?;
    let secret = URL_SAFE_NO_PAD.encode(random::bytes::<32>());
    let mut credential = parse(&wanted)?;
    credential.secret_mac = api.key.mac(CONTEXT, &[credential.name.as_str().as_bytes(), secret.as_bytes()]).to_vec();
    let key = ConfigKey::Credential(credential.name.clone());
    let turn = api.store.turn().await;
    tenants::find(api, credential.tenant.clone()).await?;
    let revision = api.store.create(&key, &wire::Credential::from(&credential)).await?;
    // Another control process may have deleted the tenant meanwhile; it looks again too.
    if let Err(gone) = tenants::find(api, credential.tenant.clone()).await {
        api.store.delete(&key, revision).await?;
        return Err(gone);
    }
    drop(turn);
    let applied = api.store.applied(revision).await;
    let credential = Some(shown(Stored { value: credential, revision }));
    Ok(api::CreateCredentialResponse { credential, secret, applied: Some(applied) })
}

fn parse(wanted: &api::Credential) -> Result<Credential, Status> {
    let default_class = optional("credential.default_class", &wanted.default_class)?.unwrap_or(Class::Transactional);
    let mut allowed_classes = wanted
        .allowed_classes
        .iter()
        .map(|class| required("credential.allowed_classes", class))
        .collect::<Result<std::collections::BTreeSet<Class>, _>>()?;
    allowed_classes.insert(default_class);
    Ok(Credential {
        name: required("credential.name", &wanted.name)?,
        tenant: required("credential.tenant", &wanted.tenant)?,
        secret_mac: Vec::new(),
        default_class,
        default_campaign: optional("credential.default_campaign", &wanted.default_campaign)?,
        default_pool: optional("credential.default_pool", &wanted.default_pool)?,
        allowed_classes,
        may_choose_campaign: wanted.may_choose_campaign,
        allowed_pools: wanted
            .allowed_pools
            .iter()
            .map(|pool| required("credential.allowed_pools", pool))
            .collect::<Result<_, _>>()?,
    })
}

async fn list(api: &Api, request: &api::ListCredentialsRequest) -> Result<api::ListCredentialsResponse, Status> {
    let tenant: Option<TenantId> = optional("tenant", &request.tenant)?;
    let mut all = api.store.everything().await?.credentials;
    all.retain(|credential| tenant.as_ref().is_none_or(|tenant| credential.value.tenant == *tenant));
    let (found, next_page_token) =
        page(all, |credential| credential.value.name.to_string(), request.page_size, &request.page_token);
    Ok(api::ListCredentialsResponse { credentials: found.into_iter().map(shown).collect(), next_page_token })
}

async fn get(api: &Api, request: &api::GetCredentialRequest) -> Result<api::Credential, Status> {
    find(api, required("name", &request.name)?).await.map(shown)
}

async fn find(api: &Api, name: CredentialName) -> Result<Stored<Credential>, Status> {
    api.store.get::<wire::Credential, Credential>(&ConfigKey::Credential(name)).await
}

async fn delete(api: &Api, request: &api::DeleteCredentialRequest) -> Result<api::DeleteCredentialResponse, Status> {
    let name: CredentialName = required("name", &request.name)?;
    let key = ConfigKey::Credential(name.clone());
    let turn = api.store.turn().await;
    let credential = find(api, name).await?;
    check_etag(&key, &request.etag, credential.revision)?;
    let revision = api.store.delete(&key, credential.revision).await?;
    drop(turn);
    Ok(api::DeleteCredentialResponse { applied: Some(api.store.applied(revision).await) })
}

fn shown(credential: Stored<Credential>) -> api::Credential {
    let Stored { value, revision } = credential;
    api::Credential {
        name: value.name.to_string(),
        tenant: value.tenant.to_string(),
        default_class: value.default_class.to_string(),
        default_campaign: value.default_campaign.map(|campaign| campaign.to_string()).unwrap_or_default(),
        default_pool: value.default_pool.map(|pool| pool.to_string()).unwrap_or_default(),
        allowed_classes: value.allowed_classes.iter().map(ToString::to_string).collect(),
        may_choose_campaign: value.may_choose_campaign,
        allowed_pools: value.allowed_pools.iter().map(ToString::to_string).collect(),
        etag: revision.to_string(),
    }
}
