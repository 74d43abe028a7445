//! The movers of a process: promoters and the splitter. The shape of `services/io/nats/src/promoter.rs` and `splitter.rs`.

use std::rc::Rc;
use std::time::Duration;

use postrider_dispatch::promote::{BatchDecision, HeadDecision, judge_head, judge_pulled};
use postrider_dispatch::split::{Split, SplitStep};
use postrider_model::{Class, Tier, Timestamp};
use tokio_util::sync::CancellationToken;

use super::Here;
use crate::judge::Work;
use crate::nats::{Packet, Payload};
use crate::spool::{Consumer, DELAYS, Leased, OURS_FOR, PublishError, Puller};

const BATCH: usize = 256;
const UNWILLING: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(5);

/// Starts them; they end with `stop`.
pub fn begin(here: &Here, stop: &CancellationToken) {
    for tier in Tier::ALL {
        for class in Class::ALL {
            let promoting = promote(here.clone(), tier, class);
            let stop = stop.clone();
            here.spawn(async move { drop(stop.run_until_cancelled(promoting).await) });
        }
    }
    let (splitting, stop) = (split_all(here.clone()), stop.clone());
    here.spawn(async move { drop(stop.run_until_cancelled(splitting).await) });
}

async fn promote(here: Here, tier: Tier, class: Class) {
    let delay = DELAYS.of(tier);
    let mut puller = here.spool.puller(Consumer::Retry(tier, class));
    loop {
        let now = here.spool.server_now();
        let pause = match here.spool.tier_head(tier, class).await.map(|head| judge_head(head, delay, now)) {
            Ok(HeadDecision::Promote) => match promote_batch(&here, &mut puller, delay).await {
                (0, false) => Duration::from_millis(100),
                (0, true) => UNWILLING,
                _ => continue,
            },
            Ok(HeadDecision::Sleep { until }) => until.since(now).min(delay / 4).max(Duration::from_millis(20)),
            Err(_) => Duration::from_secs(1),
        };
        here.sim.sleep(pause).await;
    }
}

async fn promote_batch(here: &Here, puller: &mut Puller, delay: Duration) -> (u64, bool) {
    let now = here.spool.server_now();
    let (mut promoted, mut unwilling) = (0, false);
    let mut due = Vec::new();
    let batch = puller.pull(BATCH, false).await;
    let until = puller.ours_until();
    for leased in batch {
        match judge_pulled(leased.stored, delay, now) {
            BatchDecision::Promote => due.push(leased),
            BatchDecision::PutBack { delay } => here.spool.hand_back(&leased.token, delay),
        }
    }
    let moving: Vec<_> = due
        .into_iter()
        .map(|leased| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let here_too = here.clone();
            here.spawn(async move { drop(sender.send(promote_one(&here_too, leased, until).await)) });
            receiver
        })
        .collect();
    for moved in moving {
        if moved.await == Ok(true) {
            promoted += 1;
        } else {
            unwilling = true;
        }
    }
    (promoted, unwilling)
}

async fn promote_one(here: &Here, leased: Leased, until: Timestamp) -> bool {
    let Payload::Packet(packet) = &leased.payload else { panic!("a tier holds packets") };
    here.judge.begins(here.life, packet.id(), Work::Moving);
    if let Err(error) = here.spool.move_to_ready(packet, until).await {
        // What may be stored after all comes again when the ack wait is over.
        if error == PublishError::Full {
            here.spool.hand_back(&leased.token, UNWILLING);
        }
        return false;
    }
    if here.spool.confirm_ack(&leased.token).await {
        here.judge.ends(here.life, packet.id(), Work::Moving);
    }
    true
}

async fn split_all(here: Here) {
    let mut puller = here.spool.puller(Consumer::Splitter);
    loop {
        let batch = puller.pull(100, true).await;
        let until = puller.ours_until();
        for leased in batch {
            let Payload::Intake(parts) = leased.payload.clone() else { panic!("INTAKE holds messages") };
            let here_too = here.clone();
            here.spawn(async move { split(&here_too, leased, parts, until).await });
        }
        if puller.is_exhausted() {
            continue;
        }
        here.sim.sleep(Duration::from_millis(50)).await;
    }
}

async fn split(here: &Here, leased: Leased, parts: Rc<Vec<Packet>>, mut until: Timestamp) {
    let mut machine = Split::new(parts.iter().map(|part| (&part.envelope, &part.body))).unwrap();
    parts.iter().for_each(|part| here.judge.begins(here.life, part.id(), Work::Moving));
    loop {
        match machine.step() {
            SplitStep::Publish(range) => {
                for part in &parts[range] {
                    match here.spool.move_to_ready(part, until).await {
                        Ok(()) => {}
                        Err(PublishError::Full) => return here.spool.hand_back(&leased.token, LATER),
                        Err(PublishError::Unavailable) => return,
                    }
                }
                let now = here.sim.now();
                if now >= until {
                    return;
                }
                let token = leased.token.clone();
                here.spool.client.tell(move |server, now| drop(server.in_progress(&token, now)));
                until = now.after(OURS_FOR);
                machine.done();
            }
            SplitStep::AckIntake => {
                if here.spool.confirm_ack(&leased.token).await {
                    parts.iter().for_each(|part| here.judge.ends(here.life, part.id(), Work::Moving));
                }
                return;
            }
            SplitStep::Finished => return,
        }
    }
}
