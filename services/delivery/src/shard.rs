//! One shard of this process, from its claim to its release or loss: takes it over, pulls its mail, keeps its lease, lets go.
//! The machines say what comes next; nothing is decided here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postrider_dispatch::ownership::{Lease, is_overwritten};
use postrider_dispatch::settle::DoneSet;
use postrider_dispatch::takeover::{Release, ReleaseStep, Takeover, TakeoverFailure, TakeoverStep};
use postrider_model::ShardId;
use postrider_nats::{BucketError, Expected, Leased, Next, Puller, Replayed, ShardLease};
use postrider_runtime::clock;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::arrivals::{Arrivals, OnTheWay};
use crate::journal::Journal;
use crate::limits::{decode_question, encode_answer};
use crate::settlement::Settlements;
use crate::shard_states;
use crate::worker::{Input, ShardFloor, Tools};

/// Bytes asked for in one pull.
const PULL_BYTES: usize = 8 << 20;

/// Envelopes asked for in one pull.
const PULL_MESSAGES: usize = 1_000;

/// How often the lease is told how far the shard is settled.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// Mail that may be lost on its way is not asked for more often: all that is unacknowledged comes again each time.
const ASK_ANEW_EVERY: Duration = Duration::from_secs(10);

/// How long a step that failed is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// A shard's task.
pub struct ShardTask {
    /// The shard.
    pub shard: ShardId,
    /// What it works with.
    pub tools: Tools,
    /// The worker.
    pub inputs: mpsc::Sender<Input>,
    /// Looks exchangers up.
    pub arrivals: Arrivals,
    /// Asks for a release in good order.
    pub release: CancellationToken,
    /// Says that the shard is another's.
    pub lost: CancellationToken,
    /// Says that the lease may have been written over.
    pub look: Arc<Notify>,
    /// How long permits of the owner before may still be used by others.
    pub quiet: Duration,
}

struct Owned {
    lease: Lease,
    revision: u64,
    settlements: Settlements,
    room: watch::Receiver<usize>,
    arriving: Arc<AtomicUsize>,
    pending: u64,
}

impl ShardTask {
    /// Runs until the shard is released or lost. `seen` is the lease as it was last seen, with its revision.
    pub async fn run(self, takeover: Takeover, seen: Option<u64>) {
        let shard = self.shard;
        let ended = self.live(takeover, seen).await;
        self.tools.limits.drop_shard(shard);
        match ended {
            Ended::NotTaken => tracing::debug!(%shard, "shard not taken"),
            Ended::Released => tracing::info!(%shard, "shard released"),
            // We are on our way out: whoever comes next takes it over.
            Ended::Lost if self.release.is_cancelled() => tracing::info!(%shard, "shard lost"),
            Ended::Lost => tracing::warn!(%shard, "shard lost"),
        }
        self.lost.cancel();
        // The worker ends only with the process.
        drop(self.inputs.send(Input::Lost(shard)).await);
    }

    async fn live(&self, takeover: Takeover, seen: Option<u64>) -> Ended {
        let taken = self.lost.run_until_cancelled(self.take_over(takeover, seen)).await;
        let Some((mut owned, mut puller)) = taken.flatten() else { return Ended::NotTaken };
        self.tools.limits.take(self.shard, owned.lease.epoch, self.quiet);
        let _answering = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(answer_limits(
            self.shard,
            self.tools.clone(),
            self.lost.clone(),
        )));
        let credits =
            shard_states::answer_credit(self.shard, self.tools.spool.clone(), self.inputs.clone(), self.lost.clone());
        let _crediting = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(credits));
        let pulled = self.lost.run_until_cancelled(self.pull(&mut owned, &mut puller)).await;
        if pulled != Some(Pulled::Release) {
            // What arrives from now on is the next owner's.
            tokio::spawn(puller.stop());
            return Ended::Lost;
        }
        self.lost.run_until_cancelled(self.let_go(owned, puller)).await.unwrap_or(Ended::Lost)
    }

    async fn take_over(&self, mut takeover: Takeover, seen: Option<u64>) -> Option<(Owned, Puller)> {
        let mut puller = self.tools.spool.puller(self.shard);
        let store = self.tools.spool.lease_store();
        let done = Arc::new(Mutex::new(DoneSet::new()));
        let mut revision = 0;
        let mut journal = None;
        loop {
            if !self.tools.fence.may_act() {
                takeover.failed(TakeoverFailure::Fenced);
            }
            let result = match takeover.step() {
                TakeoverStep::Claim(lease) => {
                    let expected = seen.map_or(Expected::Absent, Expected::Revision);
                    let claimed = store.put_shard(self.shard, &wire(&lease), expected).await;
                    claimed.map(|written| revision = written).map_err(|error| match error {
                        BucketError::Conflict { .. } => TakeoverFailure::LeaseLost,
                        _ => TakeoverFailure::Unavailable,
                    })
                }
                TakeoverStep::Reset => puller.reset().await.map_err(|error| {
                    tracing::warn!(%error, "takeover waits");
                    TakeoverFailure::Unavailable
                }),
                TakeoverStep::Replay { from } => {
                    let begun = self.begin_journal(from.saturating_sub(1));
                    let replayed = self.replay(&begun, &done, from.saturating_sub(1)).await;
                    journal = Some(begun);
                    replayed
                }
                TakeoverStep::Pull => break,
                TakeoverStep::GiveUp => return None,
            };
            match result {
                Ok(()) => takeover.done(),
                Err(failure) => {
                    takeover.failed(failure);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let journal = journal?;
        let settlements = Settlements {
            shard: self.shard,
            spool: self.tools.spool.clone(),
            journal,
            done,
            fence: self.tools.fence.clone(),
            complaints: Arc::clone(&self.tools.complaints),
            releasing: CancellationToken::new(),
            lost: self.lost.clone(),
        };
        let (room, room_receiver) = watch::channel(0);
        let arriving = Arc::new(AtomicUsize::new(0));
        let floor = ShardFloor { settlements: settlements.clone(), room, arriving: Arc::clone(&arriving) };
        self.inputs.send(Input::Taken(self.shard, floor)).await.ok()?;
        tracing::info!(shard = %self.shard, epoch = takeover.lease().epoch, "shard taken");
        let lease = takeover.lease().clone();
        Some((Owned { lease, revision, settlements, room: room_receiver, arriving, pending: 0 }, puller))
    }

    fn begin_journal(&self, settled_through: u64) -> Journal {
        Journal::begin(
            self.tools.spool.clone(),
            self.shard,
            settled_through,
            self.tools.fence.clone(),
            self.tools.metrics.publish.clone(),
            self.lost.clone(),
        )
    }

    async fn replay(&self, journal: &Journal, done: &Mutex<DoneSet>, after: u64) -> Result<(), TakeoverFailure> {
        let see = |sequence, record: Replayed| {
            let mut tracker = journal.tracker();
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match record.next {
                Next::Move(next) => {
                    tracker.replayed(sequence, record.hop);
                    done.replayed(record.hop, next);
                }
                Next::ForNewer => {
                    // Not finished until a newer build has finished it.
                    tracker.replayed(sequence, record.hop);
                    tracker.resumed(&record.hop);
                    done.leave_to_newer(record.hop);
                }
                Next::Nowhere => tracker.replayed_batch(sequence),
            }
        };
        match self.tools.spool.replay_events(self.shard, after, see).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "takeover waits");
                Err(TakeoverFailure::Unavailable)
            }
        }
    }

    async fn pull(&self, owned: &mut Owned, puller: &mut Puller) -> Pulled {
        let mut keep = tokio::time::interval(KEEP_EVERY);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut caught_up, mut has_all) = (false, false);
        let taken_at = self.tools.spool.server_now();
        let mut reconnects = self.tools.spool.reconnects();
        reconnects.mark_unchanged();
        let mut missed = false;
        let mut asked_anew: Option<Instant> = None;
        loop {
            missed |= puller.take_missed();
            let may_ask = asked_anew.is_none_or(|at| at.elapsed() > ASK_ANEW_EVERY);
            if missed && may_ask && self.tools.fence.may_act() && ask_anew(puller).await {
                (missed, has_all) = (false, false);
                asked_anew = Some(Instant::now());
            }
            // What was pulled and has not reached the index has its place there, whether or not the worker has heard of it.
            let free = *owned.room.borrow_and_update();
            let room = free.saturating_sub(owned.arriving.load(Ordering::Relaxed)).min(PULL_MESSAGES);
            // Once others may have the shard, a pull would take mail that is theirs.
            let open = self.tools.fence.may_act();
            tokio::select! {
                () = self.release.cancelled() => return Pulled::Release,
                _ = keep.tick() => {
                    owned.settlements.done_set().sweep(clock::now());
                    if self.keep(owned).await == Kept::Lost {
                        return Pulled::Lost;
                    }
                }
                () = self.look.notified() => {
                    if self.is_overwritten(owned).await {
                        return Pulled::Lost;
                    }
                }
                batch = puller.pull(room, PULL_BYTES), if room > 0 && open => {
                    let pending = puller.pending();
                    if std::mem::replace(&mut owned.pending, pending) != pending {
                        // The worker ends only with the process.
                        drop(self.inputs.send(Input::Pending(self.shard, pending)).await);
                    }
                    let younger = batch.iter().flatten().any(|leased: &Leased| leased.stored > taken_at);
                    let batch: Vec<_> =
                        batch.into_iter().map(|pulled| (pulled, OnTheWay::new(&owned.arriving, &self.lost))).collect();
                    for (pulled, on_the_way) in batch {
                        self.arrivals.arrive(pulled, self.shard, &owned.settlements, on_the_way, &self.inputs).await;
                    }
                    // Not before what came just now has met its record.
                    if !has_all && has_caught_up(puller, younger).await {
                        has_all = true;
                        if !std::mem::replace(&mut caught_up, true) {
                            owned.settlements.done_set().caught_up(clock::now());
                            owned.settlements.journal.tracker().caught_up();
                        }
                    }
                }
                changed = owned.room.changed(), if room == 0 => {
                    if changed.is_err() {
                        return Pulled::Lost;
                    }
                }
                // What was on its way over the connection that was lost counts as handed out, as does what a server handed out
                // that died: without a RESET it would come again after the ack wait alone. What we hold is known when it
                // comes again.
                Ok(()) = reconnects.changed() => missed = true,
                () = tokio::time::sleep(PAUSE), if !open || missed => {}
            }
        }
    }

    /// Tells the lease how far the shard is settled, if that has changed.
    async fn keep(&self, owned: &mut Owned) -> Kept {
        let through = owned.settlements.journal.tracker().through();
        if through <= owned.lease.settled_through || !self.tools.fence.may_act() {
            return Kept::Ours;
        }
        let lease = Lease { settled_through: through, ..owned.lease.clone() };
        match self.write(owned, lease).await {
            Ok(()) => Kept::Ours,
            Err(TakeoverFailure::LeaseLost) => Kept::Lost,
            Err(_) => {
                tracing::debug!(shard = %self.shard, "the lease could not be kept up to date");
                Kept::Ours
            }
        }
    }

    /// Whether somebody has written over the lease since we did, or deleted it.
    async fn is_overwritten(&self, owned: &Owned) -> bool {
        let Ok(found) = self.tools.spool.lease_store().shard(self.shard).await else { return false };
        let (lease, revision) = found.map(|(lease, revision)| (machine(&lease), revision)).unzip();
        let later = revision.is_none_or(|revision| revision > owned.revision);
        later && is_overwritten(&owned.lease.owner, owned.lease.epoch, lease.as_ref())
    }

    /// Writes our lease over itself.
    async fn write(&self, owned: &mut Owned, lease: Lease) -> Result<(), TakeoverFailure> {
        let store = self.tools.spool.lease_store();
        match store.put_shard(self.shard, &wire(&lease), Expected::Revision(owned.revision)).await {
            Ok(revision) => {
                owned.revision = revision;
                owned.lease = lease;
                Ok(())
            }
            // An answer that was lost looks like a conflict: the lease itself tells.
            Err(BucketError::Conflict { .. }) => match store.shard(self.shard).await {
                Ok(Some((found, revision))) if found.epoch == lease.epoch && found.owner == lease.owner => {
                    owned.revision = revision;
                    Err(TakeoverFailure::Unavailable)
                }
                Ok(_) => Err(TakeoverFailure::LeaseLost),
                Err(_) => Err(TakeoverFailure::Unavailable),
            },
            Err(_) => Err(TakeoverFailure::Unavailable),
        }
    }

    async fn let_go(&self, mut owned: Owned, puller: Puller) -> Ended {
        let mut release = Release::new(self.shard, owned.lease.clone());
        let mut puller = Some(puller);
        let mut drained = None;
        loop {
            if !self.tools.fence.may_act() {
                release.failed(TakeoverFailure::Fenced);
            }
            let done = match release.step() {
                ReleaseStep::StopPulling => {
                    if let Some(puller) = puller.take() {
                        puller.stop().await;
                    }
                    true
                }
                ReleaseStep::HandBack => {
                    owned.settlements.releasing.cancel();
                    let (sender, receiver) = oneshot::channel();
                    drained = Some(receiver);
                    self.inputs.send(Input::Release(self.shard, sender)).await.is_ok()
                }
                ReleaseStep::Drain => {
                    if let Some(drained) = drained.take() {
                        // A worker that is gone has nothing to drain.
                        drop(drained.await);
                    }
                    release.settled_through(owned.settlements.journal.tracker().through());
                    true
                }
                ReleaseStep::WriteReleased(lease) => {
                    self.tools.limits.drop_shard(self.shard);
                    match self.write(&mut owned, lease).await {
                        Ok(()) => true,
                        Err(failure) => {
                            release.failed(failure);
                            tokio::time::sleep(PAUSE).await;
                            false
                        }
                    }
                }
                ReleaseStep::Released => return Ended::Released,
                ReleaseStep::GiveUp => return Ended::Lost,
            };
            if done {
                release.done();
            }
        }
    }
}

enum Ended {
    NotTaken,
    Released,
    Lost,
}

#[derive(PartialEq, Eq)]
enum Pulled {
    Release,
    Lost,
}

#[derive(PartialEq, Eq)]
enum Kept {
    Ours,
    Lost,
}

/// Lets all unacknowledged mail come again. Whether that is done.
async fn ask_anew(puller: &mut Puller) -> bool {
    match puller.reset().await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%error, "what went elsewhere comes later");
            false
        }
    }
}

/// Whether all that was there at the takeover has come: there is no more, or something `younger` has come, and nothing of it went to
/// an owner before, whose last request reached the server late.
async fn has_caught_up(puller: &mut Puller, younger: bool) -> bool {
    if younger && puller.has_no_gap() {
        return true;
    }
    match puller.is_exhausted() {
        true => puller.has_all().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "not certain to have all mail yet");
            false
        }),
        false => false,
    }
}

/// Answers questions about limits of a shard that is ours.
async fn answer_limits(shard: ShardId, tools: Tools, lost: CancellationToken) {
    loop {
        match tools.spool.limit_questions(shard).await {
            Ok(mut questions) => {
                while let Some(Some(question)) = lost.run_until_cancelled(questions.next()).await {
                    let asked = match decode_question(question.payload.clone()) {
                        Ok(asked) => asked,
                        Err(error) => {
                            tracing::warn!(%shard, %error, "a question about a limit cannot be read");
                            continue;
                        }
                    };
                    let now = clock::now();
                    if tools.limits.owns(shard) {
                        let grant = tools.limits.answer(shard, &asked, now);
                        question.answer(encode_answer(grant.as_ref(), now)).await;
                    }
                }
            }
            Err(error) => tracing::debug!(%shard, %error, "cannot listen to questions about limits"),
        }
        if lost.is_cancelled() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A lease as it lies in the bucket, for the machines.
pub fn machine(lease: &ShardLease) -> Lease {
    Lease {
        owner: lease.owner.clone(),
        epoch: lease.epoch,
        released: lease.released,
        settled_through: lease.settled_through,
    }
}

fn wire(lease: &Lease) -> ShardLease {
    ShardLease {
        owner: lease.owner.clone(),
        epoch: lease.epoch,
        released: lease.released,
        settled_through: lease.settled_through,
    }
}
