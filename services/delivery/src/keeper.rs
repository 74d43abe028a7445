//! What has to be done about operators' rules once for the whole cluster: mail that may leave HOLD is brought to READY, tiers are
//! scanned for rules that ask for it, and rules that have done their work are removed. One member does it, the first by name that
//! lives; should two believe to be it, they do the same twice, and ids show that. It settles nothing: what comes to READY meets
//! the rules there.

mod hold;
mod removal;
mod scan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use postrider_dispatch::rules::Rules;
use postrider_model::{MemberId, Rule, RuleId, Snapshot};
use postrider_nats::{Found, Members, Place, Spool};
use postrider_proto::control::v1::ScanProgress;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fence::SharedFence;

/// How often HOLD is looked at, and what is to be scanned.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Envelopes on their way to READY at a time.
const WINDOW: usize = 64;

/// What was read longer ago than this is read again: it may have left, and its id been forgotten.
const FRESH: Duration = Duration::from_secs(10);

/// From so many messages in READY on, no more than a chunk is brought there every [`PAUSE`].
const READY_IS_BUSY: u64 = 20_000;

const PAUSE: Duration = Duration::from_secs(1);

const DELIVERY: &str = "delivery";

/// What is under way here, for who asks.
pub type Scans = Arc<Mutex<Vec<ScanProgress>>>;

/// The keeper of one member.
#[derive(Clone)]
pub struct Keeper {
    /// The way to JetStream.
    pub spool: Spool,
    /// This member.
    pub me: MemberId,
    /// The configuration in force.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// May we act?
    pub fence: SharedFence,
    /// What is under way.
    pub scans: Scans,
}

impl Keeper {
    /// Keeps until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let members = self.spool.lease_store().watch_members();
        tokio::join!(
            self.clone().keep_hold(members.clone(), stop.clone()),
            self.clone().keep_scanning(members.clone(), stop.clone()),
            self.clone().keep_removing(members, stop),
        );
    }

    fn is_chosen(&self, members: &watch::Receiver<Arc<Members>>) -> bool {
        let members = members.borrow();
        let first = members.values().find(|member| member.has_role(DELIVERY));
        first.is_some_and(|first| first.id == self.me) && self.fence.may_act()
    }

    /// Waits for the next look, or for another configuration. Whether to go on.
    async fn wait(&mut self, stop: &CancellationToken, time: Duration) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            Ok(()) = self.snapshot.changed() => true,
            () = tokio::time::sleep(time) => true,
        }
    }

    fn rules(&self) -> BTreeMap<RuleId, Rule> {
        self.snapshot.borrow().rules.clone()
    }

    /// Brings what was found to READY, and says how many were. `read` is when it was looked at.
    async fn bring(&self, found: Vec<Found>, read: Instant, stop: &CancellationToken) -> Brought {
        let all = found.len();
        let done = stream::iter(found)
            .map(|found| async move {
                if stop.is_cancelled() || !self.fence.may_act() || read.elapsed() > FRESH {
                    return false;
                }
                match self.spool.bring_to_ready(&found).await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::warn!(id = %found.packet.id(), %error, "not brought to READY now");
                        false
                    }
                }
            })
            .buffer_unordered(WINDOW)
            .filter(|done| std::future::ready(*done))
            .count()
            .await;
        Brought { done, left: all - done }
    }

    /// Does not fill READY faster than it is emptied, nor beyond what is kept for moves.
    async fn until_ready_has_room(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() && self.spool.ready_fullness() >= Spool::FULL {
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
        if self.spool.place_state(Place::Ready).await.is_ok_and(|ready| ready.messages > READY_IS_BUSY) {
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    fn progress(&self) -> MutexGuard<'_, Vec<ScanProgress>> {
        self.scans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of what was found.
struct Brought {
    done: usize,
    left: usize,
}

fn compiled(rules: &BTreeMap<RuleId, Rule>) -> Rules {
    Rules::new(rules)
}
