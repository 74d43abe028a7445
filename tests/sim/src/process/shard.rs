//! One shard of a process, from its claim to its release or loss. The shape of `services/delivery/src/shard.rs` and `arrivals.rs`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::ownership::{Lease, is_overwritten};
use postrider_dispatch::rules::Order;
use postrider_dispatch::settle::{Settle, SettlePlan};
use postrider_dispatch::takeover::{Release, ReleaseStep, Takeover, TakeoverFailure, TakeoverStep};
use postrider_model::{ShardId, SiteName, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::limits::answer_limits;
use super::settlement::Settlements;
use super::worker::{Arrival, Floor, Held, Input, stay};
use super::{Here, PAUSE};
use crate::nats::{Packet, Payload};
use crate::spool::{BucketError, Consumer, LAYOUT, Leased, Puller};

const KEEP_EVERY: Duration = Duration::from_secs(5);
const ASK_ANEW_EVERY: Duration = Duration::from_secs(10);
const PULL_MESSAGES: usize = 1_000;

pub struct ShardTask {
    pub shard: ShardId,
    pub here: Here,
    pub inputs: mpsc::UnboundedSender<Input>,
    pub release: CancellationToken,
    pub lost: CancellationToken,
    pub look: Rc<Notify>,
    pub quiet: Duration,
}

/// Counts one pulled record until it is held, settled, or forgotten with its shard.
pub struct OnTheWay {
    count: Rc<Cell<usize>>,
    lost: CancellationToken,
}

impl OnTheWay {
    fn new(count: &Rc<Cell<usize>>, lost: &CancellationToken) -> Self {
        count.set(count.get() + 1);
        Self { count: Rc::clone(count), lost: lost.clone() }
    }

    pub fn is_void(&self) -> bool {
        self.lost.is_cancelled()
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
    }
}

struct Owned {
    lease: Lease,
    revision: u64,
    settlements: Settlements,
    room: watch::Receiver<usize>,
    arriving: Rc<Cell<usize>>,
}

#[derive(PartialEq, Eq)]
enum Pulled {
    Release,
    Lost,
}

impl ShardTask {
    pub async fn run(self, takeover: Takeover, seen: Option<u64>) {
        let shard = self.shard;
        self.live(takeover, seen).await;
        self.here.limits.drop_shard(shard);
        self.lost.cancel();
        drop(self.inputs.send(Input::Lost(shard)));
    }

    async fn live(&self, takeover: Takeover, seen: Option<u64>) {
        let taken = self.lost.run_until_cancelled(self.take_over(takeover, seen)).await;
        let Some((mut owned, mut puller)) = taken.flatten() else { return };
        let now = self.here.now();
        self.here.limits.take(self.shard, owned.lease.epoch, now, now.after(self.quiet));
        self.here.judge.reigns(self.shard, self.quiet);
        let over = CancellationToken::new();
        let _listening = over.clone().drop_guard();
        let answering = answer_limits(self.shard, self.here.clone());
        self.here.spawn(async move { drop(over.run_until_cancelled(answering).await) });
        let pulled = self.lost.run_until_cancelled(self.pull(&mut owned, &mut puller)).await;
        if pulled != Some(Pulled::Release) {
            self.here.spawn(puller.stop());
            return;
        }
        self.lost.run_until_cancelled(self.let_go(owned, puller)).await;
    }

    async fn take_over(&self, mut takeover: Takeover, seen: Option<u64>) -> Option<(Owned, Puller)> {
        let mut puller = self.here.spool.puller(Consumer::Ready(self.shard));
        let epoch = takeover.lease().epoch;
        let key = format!("shard.{}", self.shard);
        let mut revision = 0;
        let mut settlements = None;
        loop {
            if !self.here.fence.may_act() {
                takeover.failed(TakeoverFailure::Fenced);
            }
            let (life, shard, step) = (self.here.life, self.shard, takeover.step());
            self.here.judge.hear(|| format!("{life:?} takes {shard}: {step:?}"));
            let result = match takeover.step() {
                TakeoverStep::Claim(lease) => {
                    let value = Payload::Lease(self.shard, lease);
                    let claimed = match seen {
                        Some(seen) => self.here.spool.put(key.clone(), value, Some(seen)).await,
                        None => self.here.spool.put_absent(key.clone(), value).await,
                    };
                    claimed.map(|written| revision = written).map_err(|error| match error {
                        BucketError::Conflict => TakeoverFailure::LeaseLost,
                        BucketError::Unavailable => TakeoverFailure::Unavailable,
                    })
                }
                TakeoverStep::Reset => puller.reset().await.map_err(|_| TakeoverFailure::Unavailable),
                TakeoverStep::Replay { from } => {
                    let after = from.saturating_sub(1);
                    let begun = Settlements::begin(&self.here, self.shard, epoch, after, self.lost.clone());
                    let replayed = self.replay(&begun, after).await;
                    settlements = Some(begun);
                    replayed
                }
                TakeoverStep::Pull => break,
                TakeoverStep::GiveUp => return None,
            };
            match result {
                Ok(()) => takeover.done(),
                Err(failure) => {
                    takeover.failed(failure);
                    self.here.sim.sleep(PAUSE).await;
                }
            }
        }
        let settlements = settlements?;
        let (room, room_receiver) = watch::channel(0);
        let arriving = Rc::new(Cell::new(0));
        let given_up = puller.given_up();
        let floor = Floor { settlements: settlements.clone(), room, arriving: Rc::clone(&arriving), given_up };
        drop(self.inputs.send(Input::Taken(self.shard, Box::new(floor))));
        Some((Owned { lease: takeover.lease().clone(), revision, settlements, room: room_receiver, arriving }, puller))
    }

    async fn replay(&self, settlements: &Settlements, after: u64) -> Result<(), TakeoverFailure> {
        let flushes = self.here.spool.replay(self.shard, after).await.map_err(|_| TakeoverFailure::Unavailable)?;
        let (mut through, mut done) = (settlements.through.borrow_mut(), settlements.done.borrow_mut());
        for (sequence, records) in flushes {
            for record in records.iter() {
                match &record.next {
                    Some(next) => {
                        through.replayed(sequence, record.id);
                        done.replayed(record.id, next.clone());
                    }
                    None => through.replayed_batch(sequence),
                }
            }
        }
        Ok(())
    }

    async fn pull(&self, owned: &mut Owned, puller: &mut Puller) -> Pulled {
        let mut keep_at = self.here.sim.now().after(KEEP_EVERY);
        let (mut caught_up, mut has_all) = (false, false);
        let taken_at = self.here.spool.server_now();
        let mut connected = self.here.spool.client.reconnects();
        let mut missed = false;
        let mut asked_anew: Option<Timestamp> = None;
        loop {
            let reconnected = std::mem::replace(&mut connected, self.here.spool.client.reconnects()) != connected;
            missed |= puller.take_missed() || reconnected;
            let may_ask = asked_anew.is_none_or(|at| self.here.sim.now().since(at) > ASK_ANEW_EVERY);
            if missed && may_ask && self.here.fence.may_act() && puller.reset().await.is_ok() {
                (missed, has_all) = (false, false);
                asked_anew = Some(self.here.sim.now());
            }
            let free = *owned.room.borrow_and_update();
            let room = free.saturating_sub(owned.arriving.get()).min(PULL_MESSAGES);
            let open = self.here.fence.may_act();
            tokio::select! {
                biased;
                () = self.release.cancelled() => return Pulled::Release,
                () = self.here.sim.sleep_until(keep_at) => {
                    keep_at = self.here.sim.now().after(KEEP_EVERY);
                    owned.settlements.done.borrow_mut().sweep(self.here.now());
                    if !self.keep(owned).await {
                        return Pulled::Lost;
                    }
                }
                () = self.look.notified() => {
                    if self.is_overwritten(owned).await {
                        return Pulled::Lost;
                    }
                }
                batch = puller.pull(room, true), if room > 0 && open => {
                    let younger = batch.iter().any(|leased| leased.stored > taken_at);
                    let batch: Vec<_> = batch
                        .into_iter()
                        .map(|leased| (leased, OnTheWay::new(&owned.arriving, &self.lost)))
                        .collect();
                    for (leased, on_the_way) in batch {
                        self.arrive(leased, &owned.settlements, on_the_way);
                    }
                    let no_gap = younger && puller.has_no_gap();
                    if !has_all && (no_gap || (puller.is_exhausted() && puller.has_all().await)) {
                        has_all = true;
                        if !std::mem::replace(&mut caught_up, true) {
                            let (life, shard) = (self.here.life, self.shard);
                            self.here.judge.hear(|| format!("{life:?} has caught up in {shard}: younger {younger}"));
                            owned.settlements.done.borrow_mut().caught_up(self.here.now());
                            owned.settlements.through.borrow_mut().caught_up();
                        }
                    }
                }
                changed = owned.room.changed(), if room == 0 => {
                    if changed.is_err() {
                        return Pulled::Lost;
                    }
                }
                () = self.here.sim.sleep(PAUSE), if !open || missed => {}
            }
        }
    }

    /// Tells the lease how far the shard is settled. Whether it is still ours.
    async fn keep(&self, owned: &mut Owned) -> bool {
        let through = owned.settlements.through.borrow().through();
        if through <= owned.lease.settled_through || !self.here.fence.may_act() {
            return true;
        }
        let lease = Lease { settled_through: through, ..owned.lease.clone() };
        self.write(owned, lease).await != Err(TakeoverFailure::LeaseLost)
    }

    /// Whether somebody has written over the lease since we did, or deleted it.
    async fn is_overwritten(&self, owned: &Owned) -> bool {
        let Ok(leases) = self.here.spool.leases().await else { return false };
        let (lease, revision) = leases.shards.get(&self.shard).cloned().unzip();
        let later = revision.is_none_or(|revision| revision > owned.revision);
        later && is_overwritten(&owned.lease.owner, owned.lease.epoch, lease.as_ref())
    }

    async fn write(&self, owned: &mut Owned, lease: Lease) -> Result<(), TakeoverFailure> {
        let value = Payload::Lease(self.shard, lease.clone());
        match self.here.spool.put(format!("shard.{}", self.shard), value, Some(owned.revision)).await {
            Ok(revision) => {
                owned.revision = revision;
                owned.lease = lease;
                Ok(())
            }
            Err(BucketError::Conflict) => {
                let found = self.here.spool.leases().await.map(|leases| leases.shards.get(&self.shard).cloned());
                match found {
                    Ok(Some((found, revision))) if found.epoch == lease.epoch && found.owner == lease.owner => {
                        owned.revision = revision;
                        Err(TakeoverFailure::Unavailable)
                    }
                    Ok(_) => Err(TakeoverFailure::LeaseLost),
                    Err(_) => Err(TakeoverFailure::Unavailable),
                }
            }
            Err(BucketError::Unavailable) => Err(TakeoverFailure::Unavailable),
        }
    }

    async fn let_go(&self, mut owned: Owned, puller: Puller) {
        let mut release = Release::new(self.shard, owned.lease.clone());
        let mut puller = Some(puller);
        let mut drained = None;
        loop {
            if !self.here.fence.may_act() {
                release.failed(TakeoverFailure::Fenced);
            }
            let (life, shard, step) = (self.here.life, self.shard, release.step());
            self.here.judge.hear(|| format!("{life:?} releases {shard}: {step:?}"));
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
                    self.inputs.send(Input::Release(self.shard, sender)).is_ok()
                }
                ReleaseStep::Drain => {
                    if let Some(drained) = drained.take() {
                        drop(drained.await);
                    }
                    release.settled_through(owned.settlements.through.borrow().through());
                    true
                }
                ReleaseStep::WriteReleased(lease) => {
                    self.here.limits.drop_shard(self.shard);
                    match self.write(&mut owned, lease).await {
                        Ok(()) => true,
                        Err(failure) => {
                            release.failed(failure);
                            self.here.sim.sleep(PAUSE).await;
                            false
                        }
                    }
                }
                ReleaseStep::Released | ReleaseStep::GiveUp => return,
            };
            if done {
                release.done();
            }
        }
    }

    /// Takes one pulled record in: a known repeat is settled, acceptance recorded, the site looked up.
    fn arrive(&self, leased: Leased, settlements: &Settlements, on_the_way: OnTheWay) {
        let Payload::Packet(packet) = leased.payload.clone() else { panic!("READY holds packets") };
        let packet = (*packet).clone();
        let (life, shard, sequence) = (self.here.life, self.shard, leased.token.sequence);
        self.here.judge.tell((packet.envelope.message, packet.envelope.part), || {
            format!("{life:?} pulls hop {} of {shard} at {sequence}", packet.envelope.state.hop)
        });
        if let Some(settle) = settlements.repeat(&packet) {
            return self.finish(settlements, settle, leased, packet, on_the_way);
        }
        if packet.envelope.state.hop == 0 {
            settlements.note(stay(&packet, self.shard).accepted());
        }
        let order = self.here.rules.borrow().order(&packet.envelope, None, self.here.now());
        if let Some(order @ (Order::Suspend { .. } | Order::End { .. })) = order {
            let site = packet.envelope.state.site.clone();
            let arrival = Arrival::Ordered(Held::new(leased, packet, self.shard, site), order);
            return drop(self.inputs.send(Input::Arrived(Box::new(arrival), on_the_way)));
        }
        let (here, inputs, shard) = (self.here.clone(), self.inputs.clone(), self.shard);
        let look_up = async move {
            if here.sim.chance(100) {
                here.sim.sleep(here.sim.some_time(400)).await;
            }
            let envelope = &packet.envelope;
            if here.world.exchangers.unresolvable() {
                let site = envelope.state.site.clone();
                let held = Held::new(leased, packet, shard, site);
                return drop(inputs.send(Input::Arrived(Box::new(Arrival::Unresolvable(held)), on_the_way)));
            }
            let Some((_, recipient)) = envelope.pending().next() else { panic!("somebody is pending") };
            let site: SiteName = here.world.sites.borrow()[&recipient.domain().to_string()].clone();
            let Some(next) = stay(&packet, shard).elsewhere(&site, 1, &LAYOUT) else {
                let held = Held::new(leased, packet, shard, site);
                return drop(inputs.send(Input::Arrived(Box::new(Arrival::Dispatch(held)), on_the_way)));
            };
            let moved = stay(&packet, shard).moved(next.clone(), here.now());
            let body = (&packet.body).into();
            let settle = Settle::new(SettlePlan { id: packet.id(), record: Some(moved), body, next });
            let held = Held::new(leased, packet, shard, site);
            drop(inputs.send(Input::Arrived(Box::new(Arrival::Elsewhere(held, Box::new(settle))), on_the_way)));
        };
        self.here.spawn(look_up);
    }

    fn finish(&self, settlements: &Settlements, settle: Settle, leased: Leased, packet: Packet, on_the_way: OnTheWay) {
        finish(&self.here, &self.inputs, settlements, settle, leased, packet, on_the_way);
    }
}

/// Settles a record that never reaches the index.
pub fn finish(
    here: &Here,
    inputs: &mpsc::UnboundedSender<Input>,
    settlements: &Settlements,
    settle: Settle,
    leased: Leased,
    packet: Packet,
    on_the_way: OnTheWay,
) {
    let (settlements, inputs) = (settlements.clone(), inputs.clone());
    here.spawn(async move {
        drop(settlements.settle(settle, leased.token, packet).await);
        drop(on_the_way);
        drop(inputs.send(Input::Left));
    });
}
