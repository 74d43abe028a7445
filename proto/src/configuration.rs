//! Conversions of what the `config` bucket holds.

use postrider_model::{Credential, DkimKey, Route, SendingDomain, ShardLayout, Tenant, TenantWeight};

use crate::config::v1 as wire;
use crate::convert::{self, ConvertError, optional, text};

impl From<&Tenant> for wire::Tenant {
    fn from(tenant: &Tenant) -> Self {
        Self { id: tenant.id.to_string(), display_name: tenant.display_name.clone(), weight: tenant.weight.get() }
    }
}

impl TryFrom<wire::Tenant> for Tenant {
    type Error = ConvertError;

    fn try_from(tenant: wire::Tenant) -> Result<Self, ConvertError> {
        // Writers before the weight leave it out; one that a newer build allows counts as the largest.
        let weight = tenant.weight.clamp(1, TenantWeight::MOST.into());
        let weight = TenantWeight::try_from(weight).map_err(|_| ConvertError::Impossible("weight"))?;
        Ok(Self { id: tenant.id.parse()?, display_name: tenant.display_name, weight })
    }
}

impl From<&Credential> for wire::Credential {
    fn from(credential: &Credential) -> Self {
        Self {
            name: credential.name.to_string(),
            tenant: credential.tenant.to_string(),
            secret_mac: credential.secret_mac.clone().into(),
            default_class: convert::wire_class(credential.default_class).into(),
            default_campaign: text(credential.default_campaign.as_ref()),
            default_pool: text(credential.default_pool.as_ref()),
            allowed_classes: credential.allowed_classes.iter().map(|&c| convert::wire_class(c).into()).collect(),
            may_choose_campaign: credential.may_choose_campaign,
            allowed_pools: credential.allowed_pools.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<wire::Credential> for Credential {
    type Error = ConvertError;

    fn try_from(credential: wire::Credential) -> Result<Self, ConvertError> {
        Ok(Self {
            name: credential.name.parse()?,
            tenant: credential.tenant.parse()?,
            secret_mac: credential.secret_mac.into(),
            default_class: convert::class(credential.default_class)?,
            default_campaign: optional(&credential.default_campaign)?,
            default_pool: optional(&credential.default_pool)?,
            allowed_classes: credential.allowed_classes.into_iter().map(convert::class).collect::<Result<_, _>>()?,
            may_choose_campaign: credential.may_choose_campaign,
            allowed_pools: credential.allowed_pools.iter().map(|p| p.parse()).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&SendingDomain> for wire::SendingDomain {
    fn from(domain: &SendingDomain) -> Self {
        let dkim = domain.dkim.as_ref().map(|key| wire::DkimKey {
            selector: key.selector.clone(),
            sealed_key: key.sealed_key.clone().into(),
            dns_record: key.dns_record.clone(),
        });
        Self { domain: domain.domain.to_string(), tenant: domain.tenant.to_string(), dkim }
    }
}

impl TryFrom<wire::SendingDomain> for SendingDomain {
    type Error = ConvertError;

    fn try_from(domain: wire::SendingDomain) -> Result<Self, ConvertError> {
        let dkim = domain.dkim.map(|key| DkimKey {
            selector: key.selector,
            sealed_key: key.sealed_key.into(),
            dns_record: key.dns_record,
        });
        Ok(Self { domain: domain.domain.parse()?, tenant: domain.tenant.parse()?, dkim })
    }
}

impl From<&Route> for wire::Route {
    fn from(route: &Route) -> Self {
        Self {
            domain: route.domain.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string),
            next_hops: route.next_hops.iter().map(ToString::to_string).collect(),
            origin: route.origin.clone(),
        }
    }
}

impl TryFrom<wire::Route> for Route {
    type Error = ConvertError;

    fn try_from(route: wire::Route) -> Result<Self, ConvertError> {
        let next_hops = route.next_hops.iter().map(|hop| hop.parse()).collect::<Result<Vec<_>, _>>()?;
        if next_hops.is_empty() {
            return Err(ConvertError::Missing("next_hops"));
        }
        let domain = if route.domain == "*" { None } else { Some(route.domain.parse()?) };
        Ok(Self { domain, next_hops, origin: route.origin })
    }
}

impl From<&ShardLayout> for wire::Layout {
    fn from(layout: &ShardLayout) -> Self {
        Self {
            bulk_shards: layout.bulk.into(),
            transactional_shards: layout.transactional.into(),
            bulk_streams: layout.bulk_streams.into(),
            side_streams: layout.side_streams.into(),
        }
    }
}

impl TryFrom<wire::Layout> for ShardLayout {
    type Error = ConvertError;

    fn try_from(layout: wire::Layout) -> Result<Self, ConvertError> {
        let count = |value: u32, field| {
            u8::try_from(value).ok().filter(|&n| (1..=100).contains(&n)).ok_or(ConvertError::Impossible(field))
        };
        Ok(Self {
            bulk: count(layout.bulk_shards, "bulk_shards")?,
            transactional: count(layout.transactional_shards, "transactional_shards")?,
            bulk_streams: count(layout.bulk_streams, "bulk_streams")?,
            side_streams: count(layout.side_streams, "side_streams")?,
        })
    }
}
