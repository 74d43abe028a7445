//! Operators' rules as a process follows them, and the keeper of HOLD: the first member by name that lives brings to READY what no rule
//! keeps there any more. The shape of `services/delivery/src/keeper/hold.rs`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::rules::Rules;
use postrider_model::{Rule, RuleId, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::worker::Input;
use super::{Here, PAUSE};
use crate::judge::Work;
use crate::nats::{Packet, Unanswered};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// From so many thousandths on HOLD takes no more, and a tier is left alone.
const FULL: u64 = 900;
const FULL_TIER: u64 = 970;
/// What was read longer ago than this is read again.
const FRESH: Duration = Duration::from_secs(10);
const REST: u32 = 20;
/// The clock of an owner may be behind ours.
const CLOCKS: Duration = Duration::from_secs(2);
/// Looked at together.
const CHUNK: usize = 8;

/// Reads the rules, then follows them and keeps HOLD until `stop`.
pub async fn begin(here: &Here, inputs: mpsc::UnboundedSender<Input>, stop: &CancellationToken) {
    let mut known = BTreeMap::new();
    while read(here, &mut known, &inputs).await.is_err() && !stop.is_cancelled() {
        here.sim.sleep(PAUSE).await;
    }
    let following = here.clone();
    here.spawn(async move {
        loop {
            following.sim.sleep(following.sim.some_time(700)).await;
            // Without an answer the rules of before stay in force.
            read(&following, &mut known, &inputs).await.ok();
        }
    });
    let (keeper, stop) = (here.clone(), stop.clone());
    here.spawn(async move { drop(stop.run_until_cancelled(keep_hold(keeper)).await) });
}

async fn read(
    here: &Here,
    known: &mut BTreeMap<RuleId, Rule>,
    inputs: &mpsc::UnboundedSender<Input>,
) -> Result<(), Unanswered> {
    let (rules, hold, tiers) = here.spool.rules().await?;
    here.hold_is_full.set(hold > FULL);
    here.full_tiers.set(tiers.map(|fullness| fullness > FULL_TIER));
    if rules != *known {
        let compiled = Rc::new(Rules::new(&rules));
        *known = rules;
        *here.rules.borrow_mut() = Rc::clone(&compiled);
        drop(inputs.send(Input::Rules(compiled)));
    }
    Ok(())
}

/// How far HOLD has been looked through, and under which rules.
struct Seen {
    rules: Rc<Rules>,
    at: Timestamp,
    through: u64,
    next_expiry: Option<Timestamp>,
    rest_until: Timestamp,
    again: bool,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            rules: Rc::default(),
            at: Timestamp::default(),
            through: 0,
            next_expiry: None,
            rest_until: Timestamp::default(),
            again: true,
        }
    }

    fn is_void(&self, rules: &Rules, now: Timestamp, clock: Timestamp) -> bool {
        let expired = self.next_expiry.is_some_and(|expiry| expiry <= now) && clock >= self.rest_until;
        let ended = self.rules.next_end(self.at).is_some_and(|end| end <= now);
        self.again || expired || ended || rules.may_free(&self.rules)
    }
}

async fn keep_hold(here: Here) {
    let mut seen = Seen::nothing();
    loop {
        here.sim.sleep(LOOK_EVERY).await;
        let leases = here.spool.leases().await;
        let is_chosen = leases.is_ok_and(|leases| leases.members.keys().next() == Some(&here.me));
        if is_chosen && here.fence.may_act() {
            look_at_hold(&here, &mut seen).await;
        } else {
            seen = Seen::nothing();
        }
    }
}

async fn look_at_hold(here: &Here, seen: &mut Seen) {
    let late_now = || here.now().before(CLOCKS);
    let (rules, now) = (Rc::clone(&here.rules.borrow()), late_now());
    let Ok((messages, last_sequence)) = here.spool.hold_state().await else { return };
    if messages == 0 {
        *seen = Seen { rules, at: now, through: last_sequence, again: false, ..Seen::nothing() };
        return;
    }
    if seen.is_void(&rules, now, here.sim.now()) {
        *seen = Seen { rest_until: seen.rest_until, again: false, ..Seen::nothing() };
    }
    (seen.rules, seen.at) = (rules, now);
    if seen.through >= last_sequence {
        return;
    }
    let begun = here.sim.now();
    loop {
        let read = here.sim.now();
        let chunk = match here.spool.read_hold(seen.through, CHUNK).await {
            Ok(chunk) if chunk.is_empty() => break,
            Ok(chunk) => chunk,
            Err(Unanswered) => {
                seen.again = true;
                break;
            }
        };
        let now = late_now();
        for (sequence, packet) in chunk {
            seen.through = sequence;
            if seen.rules.keeps(&packet.envelope, now).is_some() {
                seen.next_expiry = seen.next_expiry.into_iter().chain([packet.envelope.expiry]).min();
            } else {
                seen.again |= !bring(here, sequence, &packet, read).await;
            }
        }
    }
    let rest = here.sim.now().since(begun).saturating_mul(REST).max(Duration::from_secs(1));
    seen.rest_until = here.sim.now().after(rest);
}

/// To READY, under the id that it has. Whether it has left HOLD.
async fn bring(here: &Here, sequence: u64, packet: &Packet, read: Timestamp) -> bool {
    if !here.fence.may_act() || here.sim.now().since(read) > FRESH {
        return false;
    }
    here.judge.begins(here.life, packet.id(), Work::Moving);
    let is_brought = here.spool.publish_ready(packet).await.is_ok() && here.spool.delete_held(sequence).await.is_ok();
    if is_brought {
        here.judge.ends(here.life, packet.id(), Work::Moving);
    }
    is_brought
}
