//! The `config` bucket compiled into an immutable snapshot, anew with each change. A value that cannot be read is skipped
//! and named, never printed: the rest of the configuration stays in force.

use std::sync::Arc;

use bytes::Bytes;
use postrider_model::{Credential, Route, Rule, SendingDomain, Snapshot, Tenant};
use postrider_proto::config::v1 as wire;
use prost::Message;
use tokio::sync::watch;

use crate::bucket::{Bucket, Seen};
use crate::key::ConfigKey;

pub(crate) async fn watch(bucket: Bucket) -> watch::Receiver<Arc<Snapshot>> {
    let (sender, mut receiver) = watch::channel(Arc::new(Snapshot::default()));
    let sender = Arc::new(sender);
    let gone = Arc::clone(&sender);
    tokio::spawn(async move {
        let mut compiler = Compiler::default();
        let watching = bucket.watch(">", |seen| {
            if let Some(snapshot) = compiler.see(seen) {
                sender.send_replace(Arc::new(snapshot));
            }
        });
        tokio::select! {
            () = watching => {}
            () = gone.closed() => {}
        }
    });
    // The bucket holds the layout, so the first complete snapshot has a revision.
    if receiver.wait_for(|snapshot| snapshot.revision > 0).await.is_err() {
        tracing::error!("the watch of the configuration ended");
    }
    receiver
}

/// Builds snapshots from what a watch sees.
#[derive(Default)]
struct Compiler {
    building: Snapshot,
    complete: bool,
}

impl Compiler {
    fn see(&mut self, seen: Seen) -> Option<Snapshot> {
        match seen {
            Seen::Restarted => *self = Self::default(),
            Seen::Put(entry) => {
                self.building.revision = self.building.revision.max(entry.revision);
                self.put(&entry.key, entry.value);
            }
            Seen::Gone { key, revision } => {
                self.building.revision = self.building.revision.max(revision);
                self.remove(&key);
            }
            Seen::Complete { revision } => {
                self.building.revision = self.building.revision.max(revision);
                self.complete = true;
            }
        }
        self.complete.then(|| self.building.clone())
    }

    fn put(&mut self, key: &str, value: Bytes) {
        let Ok(parsed) = key.parse::<ConfigKey>() else {
            tracing::debug!(key, "a key of a later build");
            return;
        };
        // What was there before is no longer in force, even if its successor cannot be read.
        self.remove(key);
        let name = key;
        let next = &mut self.building;
        match parsed {
            ConfigKey::Layout => {}
            ConfigKey::Tenant(id) => {
                if let Some(tenant) = read::<wire::Tenant, Tenant>(name, value) {
                    next.tenants.insert(id, tenant);
                }
            }
            ConfigKey::Credential(id) => {
                if let Some(credential) = read::<wire::Credential, Credential>(name, value) {
                    next.credentials.insert(id, credential);
                }
            }
            ConfigKey::Domain(id) => {
                if let Some(domain) = read::<wire::SendingDomain, SendingDomain>(name, value) {
                    next.domains.insert(id, domain);
                }
            }
            ConfigKey::Route(Some(id)) => {
                if let Some(route) = read::<wire::Route, Route>(name, value) {
                    next.routes.insert(id, route);
                }
            }
            ConfigKey::Route(None) => next.default_route = read::<wire::Route, Route>(name, value),
            ConfigKey::Rule(id) => {
                if let Some(rule) = read::<wire::Rule, Rule>(name, value) {
                    next.rules.insert(id, rule);
                }
            }
        }
    }

    fn remove(&mut self, key: &str) {
        let next = &mut self.building;
        match key.parse() {
            Ok(ConfigKey::Layout) | Err(_) => {}
            Ok(ConfigKey::Tenant(id)) => drop(next.tenants.remove(&id)),
            Ok(ConfigKey::Credential(id)) => drop(next.credentials.remove(&id)),
            Ok(ConfigKey::Domain(id)) => drop(next.domains.remove(&id)),
            Ok(ConfigKey::Route(Some(id))) => drop(next.routes.remove(&id)),
            Ok(ConfigKey::Route(None)) => next.default_route = None,
            Ok(ConfigKey::Rule(id)) => drop(next.rules.remove(&id)),
        }
    }
}

fn read<W: Message + Default, T: TryFrom<W>>(key: &str, value: Bytes) -> Option<T> {
    let parsed = W::decode(value).ok().and_then(|wire| T::try_from(wire).ok());
    if parsed.is_none() {
        tracing::error!(key, "a value of the config bucket cannot be read, and is not in force");
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Entry;

    fn tenant(id: &str, revision: u64) -> Seen {
        let value = wire::Tenant { id: id.to_owned(), display_name: String::new(), weight: 0 }.encode_to_vec().into();
        Seen::Put(Entry { key: format!("tenant.{id}"), value, revision })
    }

    #[test]
    fn nothing_is_said_before_the_list_is_complete() {
        let mut compiler = Compiler::default();
        assert!(compiler.see(tenant("a", 1)).is_none());
        let snapshot = compiler.see(Seen::Complete { revision: 3 }).unwrap();
        assert_eq!((snapshot.revision, snapshot.tenants.len()), (3, 1));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_not_in_force() {
        let mut compiler = Compiler::default();
        compiler.see(tenant("a", 1));
        compiler.see(Seen::Complete { revision: 1 });
        let broken = Entry { key: "tenant.a".to_owned(), value: Bytes::from_static(b"\xff"), revision: 2 };
        let snapshot = compiler.see(Seen::Put(broken)).unwrap();
        assert_eq!((snapshot.revision, snapshot.tenants.len()), (2, 0));
    }

    #[test]
    fn a_list_that_begins_anew_forgets() {
        let mut compiler = Compiler::default();
        compiler.see(tenant("a", 1));
        compiler.see(Seen::Complete { revision: 1 });
        assert!(compiler.see(Seen::Restarted).is_none());
        compiler.see(tenant("b", 2));
        let snapshot = compiler.see(Seen::Complete { revision: 2 }).unwrap();
        assert_eq!(snapshot.tenants.keys().map(ToString::to_string).collect::<Vec<_>>(), ["b"]);
    }
}
