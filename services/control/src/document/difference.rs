//! In what two versions of an object differ, in words for people. Secrets and keys are only said to differ.

use std::fmt::Display;

use postrider_model::{Credential, Route, SendingDomain, Tenant};

#[derive(Default)]
struct Fields(Vec<String>);

impl Fields {
    fn field(&mut self, name: &str, old: &str, new: &str) {
        if old != new {
            self.0.push(format!("{name}: {old:?} -> {new:?}"));
        }
    }

    fn hidden(&mut self, name: &str, differs: bool) {
        if differs {
            self.0.push(format!("{name}: another"));
        }
    }
}

fn text<T: Display>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn tenant(old: &Tenant, new: &Tenant) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("display_name", &old.display_name, &new.display_name);
    fields.field("weight", &old.weight.to_string(), &new.weight.to_string());
    fields.0
}

pub(super) fn credential(old: &Credential, new: &Credential) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("tenant", old.tenant.as_str(), new.tenant.as_str());
    fields.hidden("secret", old.secret_mac != new.secret_mac);
    fields.field("default_class", old.default_class.as_str(), new.default_class.as_str());
    fields.field("default_campaign", &text(old.default_campaign.as_ref()), &text(new.default_campaign.as_ref()));
    fields.field("default_pool", &text(old.default_pool.as_ref()), &text(new.default_pool.as_ref()));
    fields.field("allowed_classes", &list(&old.allowed_classes), &list(&new.allowed_classes));
    fields.field("may_choose_campaign", &old.may_choose_campaign.to_string(), &new.may_choose_campaign.to_string());
    fields.field("allowed_pools", &list(&old.allowed_pools), &list(&new.allowed_pools));
    fields.0
}

pub(super) fn domain(old: &SendingDomain, new: &SendingDomain) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("tenant", old.tenant.as_str(), new.tenant.as_str());
    let selector = |domain: &SendingDomain| text(domain.dkim.as_ref().map(|key| &key.selector));
    fields.field("dkim.selector", &selector(old), &selector(new));
    let keys = (old.dkim.as_ref(), new.dkim.as_ref());
    fields.hidden("dkim.key", keys.0.map(|key| &key.sealed_key) != keys.1.map(|key| &key.sealed_key));
    let record = |domain: &SendingDomain| text(domain.dkim.as_ref().map(|key| &key.dns_record));
    fields.hidden("dkim.dns_record", record(old) != record(new));
    fields.0
}

pub(super) fn route(old: &Route, new: &Route) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("next_hops", &list(&old.next_hops), &list(&new.next_hops));
    fields.field("origin", &old.origin, &new.origin);
    fields.0
}
