//! One delivery process: its membership, its fence, the shards it owns, and the movers. The machines decide; what stands here only
//! performs, in the shape of `services/delivery`.

mod conversation;

mod limits;

mod movers;

mod rules;

mod settlement;

mod shard;

mod worker;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::dispatcher::DispatcherConfig;
use postrider_dispatch::limits::Shaping;
use postrider_dispatch::ownership::{
    FENCE, Fence, Lease, MEMBER_TTL, MonotonicMillis, OwnershipStep, RENEW_EVERY, Renewal, decide, is_overwritten,
    quiet_after,
};
use postrider_dispatch::retry::FullTiers;
use postrider_dispatch::rules::Rules;
use postrider_dispatch::takeover::Takeover;
use postrider_model::{MemberId, ShardId, SiteName, Timestamp};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub use limits::LimitBus;
use limits::OwnedLimits;
use worker::Input;

use crate::exchangers::Exchangers;
use crate::exec::{BEGIN, Life, Sim};
use crate::judge::Judge;
use crate::nats::{Nats, Payload};
use crate::spool::{BucketError, LAYOUT, Leases, Spool};

/// How long a step that failed is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How old a view of members and leases may be.
const DEAF: Duration = Duration::from_secs(16);

/// What processes share: the world.
#[derive(Clone)]
pub struct World {
    pub sim: Sim,
    pub nats: Nats,
    pub judge: Judge,
    pub exchangers: Exchangers,
    pub bus: LimitBus,
    pub shaping: Shaping,
    pub config: DispatcherConfig,
    /// Which site a domain belongs to by now.
    pub sites: Rc<RefCell<BTreeMap<String, SiteName>>>,
}

/// The fence of a process, with its monotonic clock.
#[derive(Clone)]
pub struct SharedFence {
    sim: Sim,
    fence: Rc<RefCell<Fence>>,
}

impl SharedFence {
    fn clock(&self) -> MonotonicMillis {
        MonotonicMillis::new(u64::try_from(self.sim.now().since(BEGIN).as_millis()).unwrap())
    }

    pub fn may_act(&self) -> bool {
        self.fence.borrow().may_act(self.clock())
    }

    /// Does a step as long as anything may be done.
    pub async fn guard<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(step);
        while self.may_act() {
            tokio::select! {
                biased;
                () = self.sim.sleep(LOOK_EVERY) => {}
                done = &mut step => return Some(done),
            }
        }
        None
    }

    pub fn permits_for(&self) -> Duration {
        self.fence.borrow().permits_for(self.clock())
    }
}

/// A process, as all of its tasks see it. Cheap to clone.
#[derive(Clone)]
pub struct Here {
    pub world: World,
    pub sim: Sim,
    pub judge: Judge,
    pub life: Life,
    pub me: MemberId,
    pub spool: Spool,
    pub fence: SharedFence,
    pub limits: OwnedLimits,
    /// What operators have ordered, as it was read last.
    pub rules: Rc<RefCell<Rc<Rules>>>,
    pub hold_is_full: Rc<Cell<bool>>,
    pub full_tiers: Rc<Cell<FullTiers>>,
    skew: i64,
}

impl Here {
    /// The wall clock of this process.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.sim.now().as_millis().saturating_add_signed(self.skew))
    }

    /// The moment of the wall clock, in the world's time.
    pub fn world_time(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(at.as_millis().saturating_add_signed(-self.skew))
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.sim.spawn(self.life, task);
    }
}

/// A process that was started.
pub struct Process {
    pub life: Life,
    pub me: MemberId,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Process {
    /// Starts a process whose wall clock is wrong by so many milliseconds.
    pub fn start(world: &World, life: Life, me: MemberId, skew: i64) -> Self {
        let sim = world.sim.clone();
        let spool = Spool { sim: sim.clone(), client: world.nats.connect(life), life };
        let fence = SharedFence { sim: sim.clone(), fence: Rc::default() };
        let limits = OwnedLimits::new(world.shaping.clone(), fence.clone(), world.judge.clone(), life);
        let here = Here {
            world: world.clone(),
            judge: world.judge.clone(),
            life,
            me: me.clone(),
            spool,
            fence,
            limits,
            rules: Rc::default(),
            hold_is_full: Rc::default(),
            full_tiers: Rc::default(),
            skew,
            sim,
        };
        here.judge.born(life, me.clone());
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let inputs = worker::begin(&here);
        movers::begin(&here, &stop);
        let ownership =
            Ownership { here: here.clone(), inputs: inputs.clone(), holding: BTreeMap::new(), giving_back: false };
        let (beginning, stopping, ending) = (here.clone(), stop.clone(), ended.clone());
        here.spawn(async move {
            rules::begin(&beginning, inputs, &stopping).await;
            ownership.run(stopping, ending).await;
        });
        let upkeep = here.clone();
        here.spawn(async move {
            let mut known = upkeep.spool.client.reconnects();
            loop {
                upkeep.sim.sleep(LOOK_EVERY).await;
                let now = upkeep.spool.client.reconnects();
                if now != known && upkeep.spool.ensure().await.is_ok() {
                    known = now;
                }
            }
        });
        Self { life, me, stop, ended }
    }

    /// Asks it to end in good order.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether it has.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }
}

struct Holding {
    epoch: u64,
    release: CancellationToken,
    lost: CancellationToken,
    look: Rc<Notify>,
}

struct Ownership {
    here: Here,
    inputs: mpsc::UnboundedSender<Input>,
    holding: BTreeMap<ShardId, Holding>,
    giving_back: bool,
}

/// What the life of a membership says.
enum Standing {
    Renewed(Timestamp),
    Replaced,
}

impl Ownership {
    async fn run(mut self, stop: CancellationToken, ended: CancellationToken) {
        let (standing_sender, mut standing) = mpsc::unbounded_channel();
        let leave = CancellationToken::new();
        let gone = CancellationToken::new();
        self.here.spawn(membership(self.here.clone(), standing_sender, leave.clone(), gone.clone()));
        let (views_sender, mut views) = mpsc::unbounded_channel();
        self.here.spawn(watch(self.here.clone(), views_sender));
        let (over_sender, mut over) = mpsc::unbounded_channel();
        let (mut view, mut seen_at) = (Leases::default(), self.here.sim.now());
        loop {
            tokio::select! {
                biased;
                said = standing.recv() => match said {
                    Some(Standing::Renewed(sent)) => {
                        let at = MonotonicMillis::new(u64::try_from(sent.since(BEGIN).as_millis()).unwrap());
                        let renewal = self.here.fence.fence.borrow_mut().renewed(at);
                        self.here.judge.renewed(self.here.life, sent);
                        if renewal == Renewal::New {
                            self.lose_all();
                        }
                    }
                    Some(Standing::Replaced) | None => {
                        self.lose_all();
                        return ended.cancel();
                    }
                },
                Some(shard) = over.recv() => drop(self.holding.remove(&shard)),
                Some((seen, at)) = views.recv() => (view, seen_at) = (seen, at),
                () = stop.cancelled(), if !self.giving_back => {
                    self.giving_back = true;
                    self.holding.values().for_each(|held| held.release.cancel());
                }
                () = self.here.sim.sleep(LOOK_EVERY) => {}
            }
            if self.giving_back && self.holding.is_empty() {
                leave.cancel();
                gone.cancelled().await;
                return ended.cancel();
            }
            if !self.here.fence.may_act() {
                self.lose_all();
            } else if self.here.sim.now().since(seen_at) < DEAF {
                self.follow(&view, &over_sender);
            }
        }
    }

    fn follow(&mut self, view: &Leases, over: &mpsc::UnboundedSender<ShardId>) {
        let living: BTreeSet<MemberId> = view.members.keys().cloned().collect();
        let seen: BTreeMap<ShardId, Lease> =
            view.shards.iter().map(|(shard, (lease, _))| (*shard, lease.clone())).collect();
        for (shard, held) in &self.holding {
            if is_overwritten(&self.here.me, held.epoch, seen.get(shard)) {
                held.look.notify_one();
            }
        }
        let holding = self.holding.iter().map(|(shard, held)| (*shard, held.epoch)).collect();
        for step in decide(&self.here.me, &living, &seen, &holding, &LAYOUT) {
            match step {
                OwnershipStep::Claim(_) if self.giving_back => {}
                OwnershipStep::Claim(shard) => {
                    let revision = view.shards.get(&shard).map(|(_, revision)| *revision);
                    self.claim(shard, seen.get(&shard), revision, living.len() > 1, over.clone());
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

    fn claim(
        &mut self,
        shard: ShardId,
        previous: Option<&Lease>,
        revision: Option<u64>,
        others: bool,
        over: mpsc::UnboundedSender<ShardId>,
    ) {
        let takeover = Takeover::new(shard, previous, &self.here.me);
        let quiet = quiet_after(previous, &self.here.me, others, self.here.limits.has_owned(shard));
        let (release, lost) = (CancellationToken::new(), CancellationToken::new());
        let (epoch, look) = (takeover.lease().epoch, Rc::new(Notify::new()));
        let task = shard::ShardTask {
            shard,
            here: self.here.clone(),
            inputs: self.inputs.clone(),
            release: release.clone(),
            lost: lost.clone(),
            look: Rc::clone(&look),
            quiet,
        };
        self.holding.insert(shard, Holding { epoch, release, lost, look });
        self.here.spawn(async move {
            task.run(takeover, revision).await;
            drop(over.send(shard));
        });
    }

    fn lose_all(&mut self) {
        self.holding.values().for_each(|held| held.lost.cancel());
    }
}

/// The life of a member: joined, renewed, left.
async fn membership(
    here: Here,
    standing: mpsc::UnboundedSender<Standing>,
    leave: CancellationToken,
    gone: CancellationToken,
) {
    let started = here.sim.now();
    let key = format!("member.{}", here.me);
    let mut revision = None;
    let (mut before, mut ends_by_itself_until) = (started, started);
    while !leave.is_cancelled() {
        let sent = here.sim.now();
        let value = Payload::Member(here.me.clone(), started);
        let pause = match here.spool.put(key.clone(), value, revision).await {
            Ok(renewed) => {
                revision = Some(renewed);
                // A shard is lost if the answer comes after the fence has closed, whenever it was asked for.
                if here.sim.now().since(before) >= FENCE {
                    ends_by_itself_until = before.after(MEMBER_TTL);
                }
                before = sent;
                drop(standing.send(Standing::Renewed(sent)));
                RENEW_EVERY
            }
            Err(BucketError::Conflict) => {
                revision = None;
                match here.spool.leases().await.map(|leases| leases.members.get(&here.me).copied()) {
                    Ok(Some((found, at))) if found == started => revision = Some(at),
                    Ok(Some(_)) => return drop(standing.send(Standing::Replaced)),
                    Ok(None) => {}
                    Err(_) => here.sim.sleep(PAUSE).await,
                }
                Duration::ZERO
            }
            Err(BucketError::Unavailable) => PAUSE,
        };
        tokio::select! {
            biased;
            () = leave.cancelled() => {}
            () = here.sim.sleep(pause) => {}
        }
    }
    let now = here.sim.now();
    // Whose fence has closed may have given out permits that still live.
    let fenced = now.since(before) >= FENCE || now < ends_by_itself_until;
    if let Some(revision) = revision.filter(|_| !fenced) {
        // Without a word it ends by itself.
        here.spool.put(key, Payload::Gone, Some(revision)).await.ok();
    }
    gone.cancel();
}

/// Members and leases as they were a moment ago.
async fn watch(here: Here, views: mpsc::UnboundedSender<(Leases, Timestamp)>) {
    loop {
        let asked = here.sim.now();
        if let Ok(leases) = here.spool.leases().await
            && views.send((leases, asked)).is_err()
        {
            return;
        }
        here.sim.sleep(here.sim.some_time(700)).await;
    }
}
