//! What `postrider up` puts into the configuration at each start: the demo tenant with its domain and credential, and the
//! routes that its flags name. What an operator made is never touched.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use postrider_model::{Class, Credential, Route, SendingDomain, Tenant, TenantWeight};
use postrider_nats::{ConfigKey, ConfigStore, Expected, Spool};
use postrider_proto::config::v1 as wire;
use prost::Message;

use super::arguments::UpArgs;
use super::store::Secrets;

/// The demo tenant.
pub const TENANT: &str = "demo";

/// The user name of its credential.
pub const USERNAME: &str = "demo";

/// The domain it sends as.
pub const DOMAIN: &str = "demo.example";

/// The origin of routes that are made anew at each start.
const ORIGIN: &str = "up";

/// Brings the configuration to what this start wants.
///
/// # Errors
/// If the configuration cannot be written.
pub async fn prepare(
    spool: &Spool,
    secrets: &Secrets,
    args: &UpArgs,
    receiver: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let store = spool.config_store();
    let tenant = Tenant { id: TENANT.parse()?, display_name: "Demo".to_owned(), weight: TenantWeight::default() };
    let domain = SendingDomain { domain: DOMAIN.parse()?, tenant: tenant.id.clone(), dkim: None };
    let mac = secrets.cluster_key.mac("credential", &[USERNAME.as_bytes(), secrets.password.as_bytes()]);
    let credential = Credential {
        name: USERNAME.parse()?,
        tenant: tenant.id.clone(),
        secret_mac: mac.to_vec(),
        default_class: Class::Transactional,
        default_campaign: None,
        default_pool: None,
        allowed_classes: BTreeSet::from(Class::ALL),
        may_choose_campaign: true,
        allowed_pools: BTreeSet::new(),
    };
    let tenant_key = ConfigKey::Tenant(tenant.id.clone());
    if_absent(&store, &tenant_key, wire::Tenant::from(&tenant).encode_to_vec()).await?;
    let domain_key = ConfigKey::Domain(domain.domain.clone());
    if_absent(&store, &domain_key, wire::SendingDomain::from(&domain).encode_to_vec()).await?;
    let credential_key = ConfigKey::Credential(credential.name.clone());
    overwrite(&store, &credential_key, wire::Credential::from(&credential).encode_to_vec()).await?;
    routes(&store, args, receiver).await
}

async fn routes(store: &ConfigStore, args: &UpArgs, receiver: Option<SocketAddr>) -> anyhow::Result<()> {
    let mut wanted = args.routes.clone();
    if let Some(receiver) = receiver
        && !wanted.iter().any(|route| route.domain.is_none())
    {
        let next_hops = vec![receiver.to_string().parse()?];
        wanted.push(Route { domain: None, next_hops, origin: ORIGIN.to_owned() });
    }
    for entry in store.list().await.context("cannot read the configuration")? {
        let ConfigKey::Route(domain) = &entry.key else { continue };
        let ours = wire::Route::decode(entry.value.clone()).is_ok_and(|route| route.origin == ORIGIN);
        if ours && !wanted.iter().any(|route| route.domain == *domain) {
            store.delete(&entry.key, Expected::Revision(entry.revision)).await?;
        }
    }
    for route in wanted {
        let key = ConfigKey::Route(route.domain.clone());
        let value = wire::Route::from(&route).encode_to_vec();
        let found = store.get(&key).await?;
        let by_operator = found
            .as_ref()
            .is_some_and(|entry| wire::Route::decode(entry.value.clone()).is_ok_and(|known| known.origin != ORIGIN));
        let by_default = args.routes.iter().all(|named| named.domain != route.domain);
        // A route that an operator made goes before the default to the receiver, not before a flag.
        if !(by_operator && by_default) {
            overwrite(store, &key, value).await?;
        }
    }
    Ok(())
}

async fn if_absent(store: &ConfigStore, key: &ConfigKey, value: Vec<u8>) -> anyhow::Result<()> {
    if store.get(key).await?.is_none() {
        store.put(key, value.into(), Expected::Absent).await?;
    }
    Ok(())
}

async fn overwrite(store: &ConfigStore, key: &ConfigKey, value: Vec<u8>) -> anyhow::Result<()> {
    let value = Bytes::from(value);
    let expected = match store.get(key).await? {
        Some(entry) if entry.value == value => return Ok(()),
        Some(entry) => Expected::Revision(entry.revision),
        None => Expected::Absent,
    };
    store.put(key, value, expected).await?;
    Ok(())
}
