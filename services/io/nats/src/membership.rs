//! The life of one process among the members: joined, renewed, left. Whoever acts in the name of shards watches the renewals
//! and fences itself by them; nothing here knows of shards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use postrider_dispatch::ownership::{FENCE, MEMBER_TTL, RENEW_EVERY};
use postrider_model::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::bucket::BucketError;
use crate::lease::{LeaseStore, Member};
use crate::spool::Spool;

/// How long an answer is waited for before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How a membership stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// When the last renewal that succeeded was sent.
    pub renewed: Option<Instant>,
    /// Another process has taken this name: this one must end.
    pub replaced: bool,
}

/// A membership that renews itself until it is dropped or left.
pub struct Membership {
    standing: watch::Receiver<Standing>,
    leave: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Spool {
    /// Joins the members and stays one. The revision of the configuration in force is reported as soon as it changes.
    pub fn join(&self, member: Member, snapshot: watch::Receiver<Arc<Snapshot>>) -> Membership {
        let (sender, standing) = watch::channel(Standing::default());
        let leave = CancellationToken::new();
        let store = self.lease_store();
        let life = Life { store, member, snapshot, sender, revision: None, ends_by_itself_until: None };
        let task = AbortOnDropHandle::new(tokio::spawn(life.run(leave.clone())));
        Membership { standing, leave, task }
    }
}

impl Membership {
    /// How it stands, and every change.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Ends it in good order: others see it at once.
    pub async fn leave(self) {
        self.leave.cancel();
        if let Err(error) = self.task.await {
            tracing::debug!(%error, "the membership ended by itself");
        }
    }
}

/// What a try to renew came to.
enum Beat {
    Renewed,
    /// The revision to renew is known again.
    Adopted,
    /// Another process has the name now.
    Replaced,
}

struct Life {
    store: LeaseStore,
    member: Member,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    sender: watch::Sender<Standing>,
    revision: Option<u64>,
    /// Who missed the fence has lost its shards in the middle of things, and permits that it gave out may live until then:
    /// leaving before would tell the next owner that there are none.
    ends_by_itself_until: Option<Instant>,
}

impl Life {
    async fn run(mut self, leave: CancellationToken) {
        while !leave.is_cancelled() {
            let pause = match self.beat().await {
                Ok(Beat::Renewed) => RENEW_EVERY,
                // An answer of ours was lost, or the life has ended: nothing tells how long ago, so once more at once.
                Ok(Beat::Adopted) => continue,
                Ok(Beat::Replaced) => return,
                Err(error) => {
                    tracing::warn!(member = %self.member.id, %error, "membership not renewed; trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = leave.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.snapshot.changed() => {}
            }
        }
        let renewed = self.sender.borrow().renewed;
        let fenced = renewed.is_some_and(|sent| sent.elapsed() >= FENCE)
            || self.ends_by_itself_until.is_some_and(|until| Instant::now() < until);
        if fenced {
            return tracing::info!(member = %self.member.id, "the fence has closed; the membership is let run out");
        }
        if let Some(revision) = self.revision
            && let Err(error) = self.store.leave(&self.member.id, revision).await
        {
            tracing::debug!(%error, "left without a word; the membership ends by itself");
        }
    }

    /// One renewal.
    async fn beat(&mut self) -> Result<Beat, BucketError> {
        self.member.config_revision = self.snapshot.borrow_and_update().revision;
        let (sent, renewed) = match self.revision {
            Some(revision) => match self.renew(revision).await {
                (_, Err(BucketError::Conflict { .. })) => return self.conflict().await,
                (sent, renewed) => (sent, renewed?),
            },
            None => (Instant::now(), self.store.join(&self.member).await?),
        };
        self.revision = Some(renewed);
        let before = self.sender.borrow().renewed;
        // Shards are lost if the answer comes after the fence has closed, whenever it was asked for.
        if let Some(before) = before.filter(|before| before.elapsed() >= FENCE) {
            self.ends_by_itself_until = Some(before + MEMBER_TTL);
        }
        self.sender.send_replace(Standing { renewed: Some(sent), replaced: false });
        Ok(Beat::Renewed)
    }

    /// Renews, and asks again while there is no answer: who is not heard for long is heard at once when the server goes on. With
    /// the answer comes the time at which it was asked for.
    async fn renew(&self, revision: u64) -> (Instant, Result<u64, BucketError>) {
        let ask = || async {
            let sent = Instant::now();
            (sent, self.store.renew(&self.member, revision).await)
        };
        let mut asked: FuturesUnordered<_> = [ask()].into_iter().collect();
        loop {
            tokio::select! {
                Some((sent, answer)) = asked.next() => match answer {
                    Err(BucketError::Conflict { .. }) => {
                        // The one that was in its way may be ours: then its answer is here too.
                        while let Some(Some((sent, answer))) = asked.next().now_or_never() {
                            if answer.is_ok() {
                                return (sent, answer);
                            }
                        }
                        return (sent, answer);
                    }
                    Err(_) if !asked.is_empty() => {}
                    answer => return (sent, answer),
                },
                () = tokio::time::sleep(ASK_AGAIN) => asked.push(ask()),
            }
        }
    }

    /// The entry is not as we left it: it ran out, an answer of ours was lost, or another process wrote it.
    async fn conflict(&mut self) -> Result<Beat, BucketError> {
        self.revision = None;
        match self.store.member(&self.member.id).await? {
            Some((found, revision)) if found.started == self.member.started => {
                self.revision = Some(revision);
                Ok(Beat::Adopted)
            }
            Some(_) => {
                tracing::error!(member = %self.member.id, "another process has taken this member's name; ending");
                self.sender.send_modify(|standing| standing.replaced = true);
                Ok(Beat::Replaced)
            }
            None => Ok(Beat::Adopted),
        }
    }
}
