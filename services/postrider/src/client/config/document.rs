//! The document of `config export` and `import` as people keep it: YAML or JSON. Unknown keys are refused; bytes are in
//! base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postrider_proto::control::v1 as api;
use serde::{Deserialize, Serialize};

use crate::client::Failure;

/// All configuration.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    version: u32,
    #[serde(default)]
    cluster_key_id: String,
    #[serde(default)]
    tenants: Vec<Tenant>,
    #[serde(default)]
    credentials: Vec<Credential>,
    #[serde(default)]
    domains: Vec<Domain>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    id: String,
    #[serde(default)]
    display_name: String,
    #[serde(default = "usual_weight")]
    weight: u32,
}

fn usual_weight() -> u32 {
    1
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    name: String,
    tenant: String,
    secret_mac: String,
    default_class: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    default_campaign: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    default_pool: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allowed_classes: Vec<String>,
    #[serde(default)]
    may_choose_campaign: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allowed_pools: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Domain {
    domain: String,
    tenant: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dkim: Option<Dkim>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dkim {
    selector: String,
    sealed_key: String,
    dns_record: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    domain: String,
    next_hops: Vec<String>,
    #[serde(default = "operator")]
    origin: String,
}

fn operator() -> String {
    "operator".to_owned()
}

impl Document {
    /// Reads YAML; JSON is YAML too.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())
    }

    pub(super) fn to_yaml(&self) -> Result<String, Failure> {
        serde_yaml_ng::to_string(self).map_err(|error| Failure::Other(format!("as YAML: {error}")))
    }

    pub(super) fn to_json(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Failure::Other(format!("as JSON: {error}")))?;
        Ok(text + "\n")
    }
}

impl From<api::ConfigDocument> for Document {
    fn from(document: api::ConfigDocument) -> Self {
        Self {
            version: document.version,
            cluster_key_id: document.cluster_key_id,
            tenants: document
                .tenants
                .into_iter()
                .map(|t| Tenant { id: t.id, display_name: t.display_name, weight: t.weight.max(1) })
                .collect(),
            credentials: document.credentials.into_iter().map(Credential::from).collect(),
            domains: document.domains.into_iter().map(Domain::from).collect(),
            routes: document
                .routes
                .into_iter()
                .map(|route| Route { domain: route.domain, next_hops: route.next_hops, origin: route.origin })
                .collect(),
        }
    }
}

impl From<api::DocumentCredential> for Credential {
    fn from(credential: api::DocumentCredential) -> Self {
        Self {
            name: credential.name,
            tenant: credential.tenant,
            secret_mac: STANDARD.encode(&credential.secret_mac),
            default_class: credential.default_class,
            default_campaign: credential.default_campaign,
            default_pool: credential.default_pool,
            allowed_classes: credential.allowed_classes,
            may_choose_campaign: credential.may_choose_campaign,
            allowed_pools: credential.allowed_pools,
        }
    }
}

impl From<api::DocumentDomain> for Domain {
    fn from(domain: api::DocumentDomain) -> Self {
        let dkim = domain.dkim.map(|dkim| Dkim {
            selector: dkim.selector,
            sealed_key: STANDARD.encode(&dkim.sealed_key),
            dns_record: dkim.dns_record,
        });
        Self { domain: domain.domain, tenant: domain.tenant, dkim }
    }
}

impl TryFrom<Document> for api::ConfigDocument {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        Ok(Self {
            version: document.version,
            cluster_key_id: document.cluster_key_id,
            tenants: document
                .tenants
                .into_iter()
                .map(|t| api::DocumentTenant { id: t.id, display_name: t.display_name, weight: t.weight })
                .collect(),
            credentials: document.credentials.into_iter().map(wire_credential).collect::<Result<_, _>>()?,
            domains: document.domains.into_iter().map(wire_domain).collect::<Result<_, _>>()?,
            routes: document
                .routes
                .into_iter()
                .map(|r| api::DocumentRoute { domain: r.domain, next_hops: r.next_hops, origin: r.origin })
                .collect(),
        })
    }
}

fn wire_credential(credential: Credential) -> Result<api::DocumentCredential, String> {
    let secret_mac = STANDARD
        .decode(&credential.secret_mac)
        .map_err(|why| format!("credential {}: secret_mac: {why}", credential.name))?;
    Ok(api::DocumentCredential {
        name: credential.name,
        tenant: credential.tenant,
        secret_mac: secret_mac.into(),
        default_class: credential.default_class,
        default_campaign: credential.default_campaign,
        default_pool: credential.default_pool,
        allowed_classes: credential.allowed_classes,
        may_choose_campaign: credential.may_choose_campaign,
        allowed_pools: credential.allowed_pools,
    })
}

fn wire_domain(domain: Domain) -> Result<api::DocumentDomain, String> {
    let dkim = domain.dkim.map(|dkim| {
        let sealed_key =
            STANDARD.decode(&dkim.sealed_key).map_err(|why| format!("domain {}: sealed_key: {why}", domain.domain))?;
        Ok::<_, String>(api::DocumentDkim {
            selector: dkim.selector,
            sealed_key: sealed_key.into(),
            dns_record: dkim.dns_record,
        })
    });
    Ok(api::DocumentDomain { domain: domain.domain, tenant: domain.tenant, dkim: dkim.transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> api::ConfigDocument {
        api::ConfigDocument {
            version: 1,
            cluster_key_id: "abcd".into(),
            tenants: vec![api::DocumentTenant {
                id: "acme".into(),
                display_name: "Acme: \"the\" one".into(),
                weight: 3,
            }],
            credentials: vec![api::DocumentCredential {
                name: "app".into(),
                tenant: "acme".into(),
                secret_mac: vec![0, 1, 254, 255].into(),
                default_class: "bulk".into(),
                allowed_classes: vec!["bulk".into()],
                may_choose_campaign: true,
                ..Default::default()
            }],
            domains: vec![api::DocumentDomain {
                domain: "acme.example".into(),
                tenant: "acme".into(),
                dkim: Some(api::DocumentDkim {
                    selector: "pr1".into(),
                    sealed_key: vec![9; 40].into(),
                    dns_record: "v=DKIM1; k=rsa; p=AAAA".into(),
                }),
            }],
            routes: vec![api::DocumentRoute {
                domain: "*".into(),
                next_hops: vec!["lmtp:127.0.0.1:24".into()],
                origin: "operator".into(),
            }],
        }
    }

    #[test]
    fn a_document_comes_back_from_yaml_and_json_as_it_was() {
        let document = Document::from(sample());
        for text in [document.to_yaml().unwrap(), document.to_json().unwrap()] {
            assert_eq!(Document::parse(&text).unwrap(), document);
            assert_eq!(api::ConfigDocument::try_from(Document::parse(&text).unwrap()).unwrap(), sample());
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let why = Document::parse("version: 1\ntenats: []\n").unwrap_err();
        assert!(why.contains("tenats") && why.contains("tenants"), "{why}");
    }

    #[test]
    fn bytes_that_are_no_base64_are_refused_with_their_place() {
        let text = "version: 1\ncredentials:\n- {name: app, tenant: acme, secret_mac: '!', default_class: bulk}\n";
        let why = api::ConfigDocument::try_from(Document::parse(text).unwrap()).unwrap_err();
        assert!(why.starts_with("credential app: secret_mac"), "{why}");
    }
}
