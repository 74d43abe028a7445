//! Sending domains over gRPC. A DKIM key is made here; its private half leaves only sealed.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider_message::dkim::Signer;
use postrider_model::{DkimKey, Domain, SendingDomain, TenantId};
use postrider_nats::ConfigKey;
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::domain_service_server::DomainService;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::store::{Stored, check_etag, page};
use crate::tenants;
use crate::wire::{optional, required};

/// The context of sealed keys. Delivery opens with the same.
pub(crate) const CONTEXT: &str = "dkim";

const SELECTOR: &str = "pr1";

#[tonic::async_trait]
impl DomainService for Api {
    async fn create_domain(
        &self,
        request: Request<api::CreateDomainRequest>,
    ) -> Result<Response<api::CreateDomainResponse>, Status> {
        self.answer("CreateDomain", create(self, request.into_inner()).await)
    }

    async fn list_domains(
        &self,
        request: Request<api::ListDomainsRequest>,
    ) -> Result<Response<api::ListDomainsResponse>, Status> {
        self.answer("ListDomains", list(self, &request.into_inner()).await)
    }

    async fn get_domain(&self, request: Request<api::GetDomainRequest>) -> Result<Response<api::Domain>, Status> {
        self.answer("GetDomain", get(self, &request.into_inner()).await)
    }

    async fn delete_domain(
        &self,
        request: Request<api::DeleteDomainRequest>,
    ) -> Result<Response<api::DeleteDomainResponse>, Status> {
        self.answer("DeleteDomain", delete(self, &request.into_inner()).await)
    }
}

async fn create(api: &Api, request: api::CreateDomainRequest) -> Result<api::CreateDomainResponse, Status> {
    let name = sending_domain("domain", &request.domain)?;
    let tenant: TenantId = required("tenant", &request.tenant)?;
    let key = ConfigKey::Domain(name.clone());
    tenants::find(api, tenant.clone()).await?;
    let selector = if request.dkim_selector.is_empty() { SELECTOR } else { &request.dkim_selector };
    let dkim = if request.no_dkim { None } else { Some(make_key(api, &name, selector).await?) };
    let domain = SendingDomain { domain: name, tenant, dkim };
    let turn = api.store.turn().await;
    tenants::find(api, domain.tenant.clone()).await?;
    let all = api.store.everything().await?.domains;
    if let Some(refusal) = taken(&domain, all.iter().map(|stored| &stored.value)) {
        return Err(Status::already_exists(refusal));
    }
    let revision = api.store.create(&key, &wire::SendingDomain::from(&domain)).await?;
    // Another control process may have deleted the tenant meanwhile; it looks again too.
    if let Err(gone) = tenants::find(api, domain.tenant.clone()).await {
        api.store.delete(&key, revision).await?;
        return Err(gone);
    }
    drop(turn);
    let applied = api.store.applied(revision).await;
    Ok(api::CreateDomainResponse { domain: Some(shown(Stored { value: domain, revision })), applied: Some(applied) })
}

/// A domain that mail can be sent as: a name, not an address literal.
pub(crate) fn sending_domain(field: &str, text: &str) -> Result<Domain, Status> {
    let domain: Domain = required(field, text)?;
    if domain.literal().is_some() || !domain.as_str().contains('.') {
        return Err(Status::invalid_argument(format!("{field}: {text} is no domain that mail can be sent as")));
    }
    Ok(domain)
}

/// What stands against a domain, in words: who owns a domain sends as its subdomains too, and the nearest owner counts.
pub(crate) fn taken<'a>(new: &SendingDomain, all: impl Iterator<Item = &'a SendingDomain>) -> Option<String> {
    let below = |lower: &Domain, upper: &Domain| {
        lower.as_str().strip_suffix(upper.as_str()).is_some_and(|rest| rest.ends_with('.'))
    };
    let others = all.filter(|other| other.tenant != new.tenant);
    let other =
        others.into_iter().find(|other| below(&new.domain, &other.domain) || below(&other.domain, &new.domain))?;
    let SendingDomain { domain, tenant, .. } = other;
    Some(format!(
        "domain {domain} belongs to tenant {tenant}, and a domain goes with its subdomains: {} cannot be of tenant {}",
        new.domain, new.tenant
    ))
}

async fn make_key(api: &Api, domain: &Domain, selector: &str) -> Result<DkimKey, Status> {
    let failed = |why: String| Status::internal(format!("a DKIM key could not be made: {why}"));
    // The search for primes takes a good part of a second: not on the threads that serve calls.
    let made = tokio::task::spawn_blocking(make_pair).await.map_err(|error| failed(error.to_string()))?;
    let (private, public) = made.map_err(|error| failed(error.to_string()))?;
    // The signer has the last word on the selector, so that no mail ever meets a key that cannot sign.
    Signer::from_pkcs8_or_pem(domain, selector, &private)
        .map_err(|why| Status::invalid_argument(format!("dkim_selector: {why}")))?;
    Ok(DkimKey {
        selector: selector.to_owned(),
        sealed_key: api.key.seal(CONTEXT, &private).map_err(|error| failed(error.to_string()))?,
        dns_record: format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(public)),
    })
}

/// RSA-2048: the private key in PKCS#8, the public one as SubjectPublicKeyInfo (RFC 6376 section 3.6.1).
fn make_pair() -> Result<(Vec<u8>, Vec<u8>), aws_lc_rs::error::Unspecified> {
    let pair = KeyPair::generate(KeySize::Rsa2048)?;
    let private: Pkcs8V1Der<'_> = pair.as_der()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((private.as_ref().to_vec(), public.as_ref().to_vec()))
}

async fn list(api: &Api, request: &api::ListDomainsRequest) -> Result<api::ListDomainsResponse, Status> {
    let tenant: Option<TenantId> = optional("tenant", &request.tenant)?;
    let mut all = api.store.everything().await?.domains;
    all.retain(|domain| tenant.as_ref().is_none_or(|tenant| domain.value.tenant == *tenant));
    let (found, next_page_token) =
        page(all, |domain| domain.value.domain.to_string(), request.page_size, &request.page_token);
    Ok(api::ListDomainsResponse { domains: found.into_iter().map(shown).collect(), next_page_token })
}

async fn get(api: &Api, request: &api::GetDomainRequest) -> Result<api::Domain, Status> {
    find(api, required("domain", &request.domain)?).await.map(shown)
}

async fn find(api: &Api, domain: Domain) -> Result<Stored<SendingDomain>, Status> {
    api.store.get::<wire::SendingDomain, SendingDomain>(&ConfigKey::Domain(domain)).await
}

async fn delete(api: &Api, request: &api::DeleteDomainRequest) -> Result<api::DeleteDomainResponse, Status> {
    let domain: Domain = required("domain", &request.domain)?;
    let key = ConfigKey::Domain(domain.clone());
    let turn = api.store.turn().await;
    let found = find(api, domain).await?;
    check_etag(&key, &request.etag, found.revision)?;
    let revision = api.store.delete(&key, found.revision).await?;
    drop(turn);
    Ok(api::DeleteDomainResponse { applied: Some(api.store.applied(revision).await) })
}

fn shown(domain: Stored<SendingDomain>) -> api::Domain {
    let Stored { value, revision } = domain;
    let name = value.domain.to_string();
    let dkim = value.dkim.map(|key| api::Dkim {
        record: Some(api::DnsRecord {
            name: format!("{}._domainkey.{name}", key.selector),
            r#type: "TXT".to_owned(),
            value: key.dns_record,
        }),
        selector: key.selector,
    });
    api::Domain { domain: name, tenant: value.tenant.to_string(), dkim, etag: revision.to_string() }
}
