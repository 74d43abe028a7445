//! Who is submitting: a credential that was proved, or a network that the operator trusts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use postrider_model::{Campaign, Class, Credential, CredentialName, PoolName, Snapshot, TenantId};
use postrider_runtime::ClusterKey;

use crate::config::NetworkConfig;

/// How a message is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its class.
    pub class: Class,
    /// Its campaign.
    pub campaign: Option<Campaign>,
    /// The pool it must leave from.
    pub pool: Option<PoolName>,
}

/// Whoever submits, with what is allowed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// As whom.
    pub tenant: TenantId,
    /// Whether sender and header From may be of any domain.
    pub any_sender: bool,
    /// What holds unless a header says otherwise.
    pub defaults: Choice,
    /// The classes a header may choose.
    pub classes: BTreeSet<Class>,
    /// Whether a header may choose the campaign.
    pub may_choose_campaign: bool,
    /// The pools a header may choose.
    pub pools: BTreeSet<PoolName>,
}

impl Principal {
    /// Who proved a credential.
    pub fn of_credential(credential: &Credential) -> Self {
        Self {
            tenant: credential.tenant.clone(),
            any_sender: false,
            defaults: Choice {
                class: credential.default_class,
                campaign: credential.default_campaign.clone(),
                pool: credential.default_pool.clone(),
            },
            classes: credential.allowed_classes.clone(),
            may_choose_campaign: credential.may_choose_campaign,
            pools: credential.allowed_pools.clone(),
        }
    }

    /// Who comes from a network that needs no AUTH: either class, any campaign, no pool.
    pub fn of_network(network: &NetworkConfig) -> Self {
        Self {
            tenant: network.tenant.clone(),
            any_sender: network.any_sender,
            defaults: Choice { class: network.class, campaign: None, pool: None },
            classes: Class::ALL.into(),
            may_choose_campaign: true,
            pools: BTreeSet::new(),
        }
    }
}

/// The credential that `username` and `password` prove, if they do and its tenant exists. Costs the same whether the name
/// is unknown or the password wrong: one HMAC, compared in constant time.
pub fn authenticate<'a>(
    snapshot: &'a Snapshot,
    key: &ClusterKey,
    username: &str,
    password: &str,
) -> Option<&'a Credential> {
    let found = username.parse::<CredentialName>().ok().and_then(|name| snapshot.credentials.get(&name));
    let nobody = [0; 32];
    let expected = found.map_or(&nobody[..], |credential| &credential.secret_mac);
    let proved = key.verify("credential", &[username.as_bytes(), password.as_bytes()], expected);
    found.filter(|credential| proved && snapshot.tenants.contains_key(&credential.tenant))
}

/// The first configured network that `peer` lies in, if its tenant exists.
pub fn tenant_of_network(snapshot: &Snapshot, networks: &[NetworkConfig], peer: IpAddr) -> Option<Principal> {
    let peer = peer.to_canonical();
    let network = networks.iter().find(|network| network.cidrs.iter().any(|cidr| cidr.contains(peer)))?;
    snapshot.tenants.contains_key(&network.tenant).then(|| Principal::of_network(network))
}
