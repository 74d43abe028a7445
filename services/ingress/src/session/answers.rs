//! Answers the questions of the machine: asks the policy, the spool and the room, and counts every refusal.

use std::sync::Arc;
use std::time::Duration;

use postrider_model::{Reply, ReversePath, Snapshot};
use postrider_nats::Spool;
use postrider_smtp::{Question, Secret, Verdict};
use tokio::time::Instant;

use super::Session;
use crate::accept::{Circumstances, accept};
use crate::policy::{self, Principal};
use crate::refusal::{Because, Refusal};

/// Room that is asked for where a client does not say how large its message is.
const UNDECLARED_BYTES: usize = 64 * 1024;

impl Session {
    pub(super) async fn answer(&mut self, question: Question) -> Verdict {
        match question {
            Question::Hello { .. } | Question::Recipient { .. } => Verdict::Accept,
            Question::Authenticate { username, password, .. } => self.authenticate(&username, &password).await,
            Question::Mail { sender, .. } => self.mail(&sender).await,
            Question::Data { declared_bytes, .. } => self.data(declared_bytes).await,
            Question::Message(submission) => self.message(submission).await,
        }
    }

    async fn authenticate(&mut self, username: &str, password: &Secret) -> Verdict {
        let (origin, began) = (self.peer.ip().into(), Instant::now());
        if self.shared.failures.too_many(origin, began.into_std()) {
            self.count(Because::TooManyFailures);
            let text = "Too many failed logins from your address, try again later";
            return Verdict::Close(Refusal::new(Because::TooManyFailures, 421, (4, 7, 0), text).reply);
        }
        let snapshot = self.snapshot();
        let proved = policy::authenticate(&snapshot, &self.shared.cluster_key, username, password.expose());
        if let Some(credential) = proved {
            self.credential = Some(credential.name.clone());
            return Verdict::Accept;
        }
        self.shared.failures.count(origin, began.into_std());
        tracing::debug!(listener = &*self.listener.name, peer = %self.peer, "wrong credentials");
        // The same time and text, whatever was wrong.
        tokio::time::sleep_until(began + self.shared.config.auth.failure_delay()).await;
        self.refuse(policy::wrong_credentials())
    }

    async fn mail(&self, sender: &ReversePath) -> Verdict {
        let snapshot = self.snapshot();
        let Some(principal) = self.principal(&snapshot) else {
            if self.credential.is_some() {
                let text = "This credential was withdrawn, authenticate again";
                let refusal = Refusal::new(Because::Relay, 421, (4, 7, 0), text);
                self.count(refusal.because);
                return Verdict::Close(refusal.reply);
            }
            return self.refuse(policy::relay_refused(self.listener.may_authenticate()));
        };
        let allowed = match policy::sender(&snapshot, &principal, sender) {
            Ok(()) => self.open().await,
            Err(refusal) => Err(refusal),
        };
        allowed.map_or_else(|refusal| self.refuse(refusal), |()| Verdict::Accept)
    }

    /// Whether messages can be made durable now. Under strain the client is let wait first: nothing more is read from it.
    async fn open(&self) -> Result<(), Refusal> {
        if !self.shared.spool.connected() {
            return Err(Refusal::new(
                Because::Unavailable,
                451,
                (4, 3, 0),
                "The queue is out of reach, try again later",
            ));
        }
        let patience = Duration::from_secs(self.shared.config.timeouts.room_secs);
        if self.shared.strain.is_strained() && !self.shared.strain.eases_within(patience).await {
            return Err(Refusal::new(Because::Strain, 452, (4, 3, 1), "The queue is slow, try again later"));
        }
        let life = Duration::from_secs(self.shared.config.expiry_secs);
        if self.shared.spool.fullness_for(life) >= Spool::FULL {
            return Err(Refusal::new(Because::Full, 452, (4, 3, 1), "The queue is full, try again later"));
        }
        Ok(())
    }

    async fn data(&mut self, declared_bytes: Option<u64>) -> Verdict {
        let most = self.shared.config.bounds.message_bytes;
        let declared =
            declared_bytes.map_or(UNDECLARED_BYTES, |bytes| usize::try_from(bytes).unwrap_or(most).min(most));
        match self.shared.room.cover(&mut self.held, declared).await {
            Ok(()) => Verdict::Accept,
            Err(_) => Verdict::Refuse(self.no_room(452).reply),
        }
    }

    async fn message(&mut self, submission: postrider_smtp::Submission) -> Verdict {
        let (began, snapshot) = (Instant::now(), self.snapshot());
        let Some(principal) = self.principal(&snapshot) else {
            return self.refuse(policy::relay_refused(self.listener.may_authenticate()));
        };
        let circumstances = Circumstances {
            listener: &self.listener.name,
            peer: self.peer.ip(),
            tls: self.tls.as_deref(),
            snapshot: &snapshot,
            principal: &principal,
        };
        let accepted = accept(&self.shared, &circumstances, submission).await;
        self.held.release();
        self.shared.metrics.answered(began.elapsed());
        match accepted {
            Ok(id) => {
                let text = format!("queued as {id}");
                Verdict::AcceptWith(Reply::new(250, Some(postrider_model::EnhancedCode(2, 0, 0)), &text))
            }
            Err(refusal) => {
                tracing::debug!(
                    listener = &*self.listener.name,
                    peer = %self.peer,
                    tenant = principal.tenant.as_str(),
                    reply = %refusal.reply,
                    "message refused"
                );
                self.refuse(refusal)
            }
        }
    }

    /// Whoever submits here: the credential if one was proved, else the network where that is enough. Looked up anew each
    /// time, so that what is withdrawn is withdrawn at once.
    fn principal(&self, snapshot: &Snapshot) -> Option<Principal> {
        match &self.credential {
            Some(name) => {
                let credential = snapshot.credentials.get(name)?;
                snapshot.tenants.contains_key(&credential.tenant).then(|| Principal::of_credential(credential))
            }
            None if self.listener.smtp.require_auth => None,
            None => policy::tenant_of_network(snapshot, &self.shared.config.networks, self.peer.ip()),
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.snapshot.borrow())
    }

    fn refuse(&self, refusal: Refusal) -> Verdict {
        self.count(refusal.because);
        Verdict::Refuse(refusal.reply)
    }
}
