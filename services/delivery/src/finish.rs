//! The last touch to a message before it is sent: its body made whole and signed. Signing costs a third of a millisecond of
//! a core, so it runs where it does not hold up the sockets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use postrider_message::dkim::Signer;
use postrider_model::{DkimKey, Domain, Envelope, Snapshot};
use postrider_runtime::{ClusterKey, clock};
use tokio::sync::watch;

/// Signs messages for domains that have a key. Cheap to clone.
#[derive(Clone)]
pub struct Finisher {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    cluster_key: Arc<ClusterKey>,
    signers: Arc<Mutex<HashMap<Domain, Made>>>,
}

/// A signer, and the key it was made from.
struct Made {
    key: DkimKey,
    signer: Arc<Signer>,
}

impl Finisher {
    /// A finisher that finds keys in the configuration.
    pub fn new(snapshot: watch::Receiver<Arc<Snapshot>>, cluster_key: Arc<ClusterKey>) -> Self {
        Self { snapshot, cluster_key, signers: Arc::default() }
    }

    /// The message as it goes out.
    ///
    /// # Errors
    /// If a key cannot be opened or used: our own fault, the message waits.
    pub async fn finish(&self, envelope: &Envelope, message: Bytes) -> anyhow::Result<Bytes> {
        let Some((domain, key)) = self.key_for(envelope) else { return Ok(message) };
        let signer = self.signer(&domain, &key).with_context(|| format!("DKIM key of {domain}"))?;
        let now = clock::now();
        let signed = tokio::task::spawn_blocking(move || -> anyhow::Result<Bytes> {
            let header = signer.sign(&message, now)?;
            let mut signed = BytesMut::with_capacity(header.len() + message.len());
            signed.extend_from_slice(header.as_bytes());
            signed.extend_from_slice(&message);
            Ok(signed.freeze())
        });
        signed.await?
    }

    fn key_for(&self, envelope: &Envelope) -> Option<(Domain, DkimKey)> {
        let snapshot = self.snapshot.borrow();
        let found = snapshot.sending_domain(envelope.from_domain.as_ref()?)?;
        // Another tenant's key never signs, whoever the domain belonged to when the mail was accepted.
        if found.tenant != envelope.tenant {
            return None;
        }
        Some((found.domain.clone(), found.dkim.clone()?))
    }

    fn signer(&self, domain: &Domain, key: &DkimKey) -> anyhow::Result<Arc<Signer>> {
        let mut signers = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = signers.get(domain)
            && made.key == *key
        {
            return Ok(Arc::clone(&made.signer));
        }
        let private = self.cluster_key.open("dkim", &key.sealed_key)?;
        let signer = Arc::new(Signer::from_pkcs8_or_pem(domain, &key.selector, &private)?);
        signers.insert(domain.clone(), Made { key: key.clone(), signer: Arc::clone(&signer) });
        Ok(signer)
    }
}
