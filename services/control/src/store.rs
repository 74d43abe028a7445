//! The config bucket as typed objects: read, created, deleted by compare-and-set. A write is waited for until the living
//! members have it in force. Which writes make sense is decided by the callers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_model::{Credential, Route, Rule, SendingDomain, Tenant};
use postrider_nats::{BucketError, ConfigEntry, ConfigKey, ConfigStore, Expected, Members, Spool};
use postrider_proto::config::v1 as wire;
use postrider_proto::control::v1::Applied;
use prost::Message;
use tokio::sync::{Mutex, MutexGuard, watch};
use tonic::Status;

use crate::metrics::Metrics;

mod kind;
pub(crate) use kind::{Kind, key_name};

/// How long a write waits for the members.
const PATIENCE: Duration = Duration::from_secs(2);

/// An object with the revision that it was read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored<T> {
    pub(crate) value: T,
    pub(crate) revision: u64,
}

/// Everything in the bucket, in the order of names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Everything {
    pub(crate) tenants: Vec<Stored<Tenant>>,
    pub(crate) credentials: Vec<Stored<Credential>>,
    pub(crate) domains: Vec<Stored<SendingDomain>>,
    pub(crate) routes: Vec<Stored<Route>>,
    pub(crate) rules: Vec<Stored<Rule>>,
}

/// The bucket, and who follows it.
pub(crate) struct Store {
    config: ConfigStore,
    members: watch::Receiver<Arc<Members>>,
    metrics: Metrics,
    /// One write at a time in this process: checks that span several objects hold until the write is made.
    writing: Mutex<()>,
}

impl Store {
    pub(crate) fn new(spool: &Spool, metrics: Metrics) -> Self {
        let members = spool.lease_store().watch_members();
        Self { config: spool.config_store(), members, metrics, writing: Mutex::new(()) }
    }

    /// Waits for the turn to write.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// Living members as they are known now.
    pub(crate) fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.borrow())
    }

    /// An object by its key; NOT_FOUND names the nearest one there is.
    pub(crate) async fn get<W, T>(&self, key: &ConfigKey) -> Result<Stored<T>, Status>
    where
        W: Message + Default,
        T: TryFrom<W>,
    {
        match self.config.get(key).await.map_err(|error| unavailable(&error))? {
            Some(entry) => read::<W, T>(&entry),
            None => Err(self.not_found(key).await),
        }
    }

    /// Everything there is.
    pub(crate) async fn everything(&self) -> Result<Everything, Status> {
        let mut all = Everything::default();
        let mut entries = self.config.list().await.map_err(|error| unavailable(&error))?;
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        for entry in &entries {
            match &entry.key {
                ConfigKey::Layout => {}
                ConfigKey::Tenant(_) => all.tenants.push(read::<wire::Tenant, _>(entry)?),
                ConfigKey::Credential(_) => all.credentials.push(read::<wire::Credential, _>(entry)?),
                ConfigKey::Domain(_) => all.domains.push(read::<wire::SendingDomain, _>(entry)?),
                ConfigKey::Route(_) => all.routes.push(read::<wire::Route, _>(entry)?),
                ConfigKey::Rule(_) => all.rules.push(read::<wire::Rule, _>(entry)?),
            }
        }
        Ok(all)
    }

    /// Makes an object that is not there yet.
    pub(crate) async fn create(&self, key: &ConfigKey, value: &impl Message) -> Result<u64, Status> {
        match self.config.put(key, value.encode_to_vec().into(), Expected::Absent).await {
            Ok(revision) => {
                self.metrics.write(Kind::of(key).as_str(), "create");
                Ok(revision)
            }
            Err(BucketError::Conflict { .. }) => {
                Err(Status::already_exists(format!("{} {} exists already", Kind::of(key), key_name(key))))
            }
            Err(error @ BucketError::Unavailable { .. }) => Err(unavailable(&error)),
        }
    }

    /// Writes bytes over what was read at `expected`.
    pub(crate) async fn write(&self, key: &ConfigKey, value: Bytes, expected: Expected) -> Result<u64, Status> {
        let action = if expected == Expected::Absent { "create" } else { "update" };
        let revision = self.config.put(key, value, expected).await.map_err(|error| lost_race(key, &error))?;
        self.metrics.write(Kind::of(key).as_str(), action);
        Ok(revision)
    }

    /// Deletes what was read at `revision`.
    pub(crate) async fn delete(&self, key: &ConfigKey, revision: u64) -> Result<u64, Status> {
        let deleted = self.config.delete(key, Expected::Revision(revision)).await;
        let revision = deleted.map_err(|error| lost_race(key, &error))?;
        self.metrics.write(Kind::of(key).as_str(), "delete");
        Ok(revision)
    }

    /// Waits until every living member has reported `revision`, and says who has not.
    pub(crate) async fn applied(&self, revision: u64) -> Applied {
        let mut members = self.members.clone();
        let in_force = members.wait_for(|members| members.values().all(|member| member.config_revision >= revision));
        // Too long, or no watch any more: then the list below says who lags.
        let lagging_members: Vec<String> = match tokio::time::timeout(PATIENCE, in_force).await {
            Ok(Ok(_)) => Vec::new(),
            Ok(Err(_)) | Err(_) => {
                let members = self.members();
                let lagging = members.values().filter(|member| member.config_revision < revision);
                lagging.map(|member| member.id.to_string()).collect()
            }
        };
        self.metrics.lagging(lagging_members.len());
        if !lagging_members.is_empty() {
            tracing::warn!(revision, members = lagging_members.join(", "), "members lag behind the configuration");
        }
        Applied { revision, lagging_members }
    }

    async fn not_found(&self, key: &ConfigKey) -> Status {
        let (kind, name) = (Kind::of(key), key_name(key));
        let names: BTreeSet<String> = match self.config.list().await {
            Ok(entries) => {
                entries.iter().map(|entry| &entry.key).filter(|key| Kind::of(key) == kind).map(key_name).collect()
            }
            Err(_) => BTreeSet::new(),
        };
        match nearest(&name, names.iter().map(String::as_str)) {
            Some(near) => Status::not_found(format!("{kind} {name} not found; did you mean {near}?")),
            None => Status::not_found(format!("{kind} {name} not found")),
        }
    }
}

/// Refuses if the caller meant another version than `revision`.
pub(crate) fn check_etag(key: &ConfigKey, etag: &str, revision: u64) -> Result<(), Status> {
    if etag.is_empty() || etag == revision.to_string() {
        return Ok(());
    }
    Err(Status::aborted(format!(
        "{} {} has been changed meanwhile (etag {revision}, not {etag}): read it again",
        Kind::of(key),
        key_name(key)
    )))
}

/// The page of `all` that a caller asked for, and the token of the next one: the name that it begins behind.
pub(crate) fn page<T>(all: Vec<T>, name: impl Fn(&T) -> String, page_size: u32, page_token: &str) -> (Vec<T>, String) {
    const LARGEST: usize = 1000;
    let size = usize::try_from(page_size).unwrap_or(LARGEST);
    let size = if size == 0 { LARGEST } else { size.min(LARGEST) };
    let mut rest = all.into_iter().filter(|item| page_token.is_empty() || name(item).as_str() > page_token).peekable();
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let next = match (rest.peek(), page.last()) {
        (Some(_), Some(last)) => name(last),
        _ => String::new(),
    };
    (page, next)
}

fn read<W, T>(entry: &ConfigEntry) -> Result<Stored<T>, Status>
where
    W: Message + Default,
    T: TryFrom<W>,
{
    let value = W::decode(entry.value.clone()).ok().and_then(|wire| T::try_from(wire).ok());
    match value {
        Some(value) => Ok(Stored { value, revision: entry.revision }),
        None => Err(Status::internal(format!("the value of {} in the config bucket cannot be read", entry.key))),
    }
}

fn unavailable(error: &BucketError) -> Status {
    Status::unavailable(format!("the queue (NATS) does not answer: {error}; try again"))
}

fn lost_race(key: &ConfigKey, error: &BucketError) -> Status {
    match error {
        BucketError::Conflict { .. } => Status::aborted(format!(
            "{} {} has been changed by somebody else meanwhile: look at it and try again",
            Kind::of(key),
            key_name(key)
        )),
        BucketError::Unavailable { .. } => unavailable(error),
    }
}

/// The name that `wanted` was probably meant to be.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let all: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let (found, next) = page(all.clone(), Clone::clone, 2, &token);
            seen.extend(found);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn the_nearest_name_is_found_if_one_is_near() {
        let names = ["acme", "globex", "initech"];
        assert_eq!(nearest("amce", names.into_iter()), Some("acme"));
        assert_eq!(nearest("zzz", names.into_iter()), None);
    }

    #[test]
    fn another_version_than_meant_is_not_touched() {
        let key = ConfigKey::Tenant("acme".parse().unwrap());
        assert!(check_etag(&key, "", 7).is_ok());
        assert!(check_etag(&key, "7", 7).is_ok());
        assert_eq!(check_etag(&key, "6", 7).unwrap_err().code(), tonic::Code::Aborted);
    }
}
