//! Which shards this process has, takes and gives back: watches members and leases, asks the machine, starts and stops the
//! tasks of shards. When the fence closes, all of them are lost at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_dispatch::ownership::{Lease, OwnershipStep, Renewal, decide, is_overwritten, quiet_after};
use postrider_dispatch::takeover::Takeover;
use postrider_model::{MemberId, ShardId};
use postrider_nats::{Members, ShardLeases, Standing};
use postrider_runtime::ReadinessFlag;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::arrivals::Arrivals;
use crate::shard::{ShardTask, machine};
use crate::worker::{Input, Tools};

/// How often everything is looked at, changed or not: the fence closes without an event.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The owner of shards.
pub struct Ownership {
    me: MemberId,
    tools: Tools,
    arrivals: Arrivals,
    inputs: mpsc::Sender<Input>,
    ready: ReadinessFlag,
    holding: BTreeMap<ShardId, Holding>,
    tasks: JoinSet<()>,
    /// When what is still held is let go by force; `None` before a stop was asked for.
    give_up_at: Option<Instant>,
}

struct Holding {
    task: task::Id,
    epoch: u64,
    release: CancellationToken,
    lost: CancellationToken,
    look: Arc<Notify>,
}

impl Ownership {
    /// Owns nothing yet.
    pub fn new(
        me: MemberId,
        tools: Tools,
        arrivals: Arrivals,
        inputs: mpsc::Sender<Input>,
        ready: ReadinessFlag,
    ) -> Self {
        Self { me, tools, arrivals, inputs, ready, holding: BTreeMap::new(), tasks: JoinSet::new(), give_up_at: None }
    }

    /// Runs until `stop`, then gives everything back, within `drain`. Renewals, lost shards and the fence count to the end.
    ///
    /// # Errors
    /// If another process has taken this member's name.
    pub async fn run(
        mut self,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
        drain: Duration,
    ) -> anyhow::Result<()> {
        let store = self.tools.spool.lease_store();
        let (mut members, mut leases) = (store.watch_members(), store.watch_shards());
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled(), if self.give_up_at.is_none() => self.begin_giving_back(drain),
                _ = look.tick() => {}
                Ok(()) = members.changed() => {}
                Ok(()) = leases.changed() => {}
                Ok(()) = standing.changed() => {
                    let now = *standing.borrow_and_update();
                    if now.replaced {
                        self.lose_all();
                        anyhow::bail!(
                            "another process has joined as member {:?}: give each delivery process a name of its own \
                             (cluster.member)",
                            self.me.as_str()
                        );
                    }
                    if let Some(sent) = now.renewed
                        && self.tools.fence.renewed_at(sent) == Renewal::New
                    {
                        self.lose_all();
                    }
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended).await;
                }
            }
            if self.give_up_at.is_some_and(|at| at <= Instant::now()) {
                tracing::warn!(
                    conversations = self.tools.metrics.conversations.get(),
                    "conversations that did not end in time are broken off; their messages stay in the queue"
                );
                self.lose_all();
                while self.tasks.join_next().await.is_some() {}
            }
            if self.give_up_at.is_some() && self.tasks.is_empty() {
                return Ok(());
            }
            if !self.tools.fence.may_act() {
                self.lose_all();
            } else {
                let (members, leases) = (Arc::clone(&members.borrow()), Arc::clone(&leases.borrow()));
                self.follow(&members, &leases);
            }
            self.show();
        }
    }

    fn follow(&mut self, members: &Members, leases: &ShardLeases) {
        let living: BTreeSet<MemberId> =
            members.values().filter(|member| member.has_role("delivery")).map(|member| member.id.clone()).collect();
        let seen: BTreeMap<ShardId, Lease> =
            leases.iter().map(|(shard, (lease, _))| (*shard, machine(lease))).collect();
        for (shard, held) in &self.holding {
            if is_overwritten(&self.me, held.epoch, seen.get(shard)) {
                // Maybe it is only seen late: its task looks at the lease itself.
                held.look.notify_one();
            }
        }
        let holding = self.holding.iter().map(|(shard, held)| (*shard, held.epoch)).collect();
        for step in decide(&self.me, &living, &seen, &holding, &self.tools.spool.layout()) {
            match step {
                OwnershipStep::Claim(_) if self.give_up_at.is_some() => {}
                OwnershipStep::Claim(shard) => {
                    let revision = leases.get(&shard).map(|(_, revision)| *revision);
                    self.claim(shard, seen.get(&shard), revision, living.len() > 1);
                }
                OwnershipStep::Release(shard) => {
                    if let Some(held) = self.holding.get(&shard) {
                        held.release.cancel();
                    }
                }
                OwnershipStep::Lost(shard) => {
                    if let Some(held) = self.holding.get(&shard) {
                        held.lost.cancel();
                    }
                }
            }
        }
    }

    fn claim(&mut self, shard: ShardId, previous: Option<&Lease>, revision: Option<u64>, others: bool) {
        let takeover = Takeover::new(shard, previous, &self.me);
        let quiet = quiet_after(previous, &self.me, others, self.tools.limits.has_owned(shard));
        let (release, lost) = (CancellationToken::new(), CancellationToken::new());
        let (epoch, look) = (takeover.lease().epoch, Arc::new(Notify::new()));
        let task = ShardTask {
            shard,
            tools: self.tools.clone(),
            inputs: self.inputs.clone(),
            arrivals: self.arrivals.clone(),
            release: release.clone(),
            lost: lost.clone(),
            look: Arc::clone(&look),
            quiet,
        };
        let task = self.tasks.spawn(task.run(takeover, revision)).id();
        self.holding.insert(shard, Holding { task, epoch, release, lost, look });
    }

    fn lose_all(&mut self) {
        for held in self.holding.values() {
            held.lost.cancel();
        }
    }

    fn show(&self) {
        let owned = self.holding.values().filter(|held| !held.lost.is_cancelled()).count();
        self.tools.metrics.shards.set(i64::try_from(owned).unwrap_or(i64::MAX));
        if self.tools.fence.may_act() {
            self.ready.met();
        } else {
            self.ready.unmet("not a member of the cluster now (no renewal came through)");
        }
    }

    /// A shard's task is over; one that broke could not say so to the worker.
    async fn ended(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let shard = self.holding.iter().find(|(_, held)| held.task == id).map(|(shard, _)| *shard);
        if let Some(shard) = shard
            && let Some(held) = self.holding.remove(&shard)
            && let Err(error) = ended
        {
            tracing::error!(%shard, %error, "the task of a shard broke");
            held.lost.cancel();
            // The worker ends only with the process.
            drop(self.inputs.send(Input::Lost(shard)).await);
        }
    }

    fn begin_giving_back(&mut self, drain: Duration) {
        self.give_up_at = Some(Instant::now() + drain);
        for held in self.holding.values() {
            held.release.cancel();
        }
    }
}
