//! An operator who orders about mail that waits or is to come: to hold it, to let it go, to end it, or to try it now. When it is calm
//! whatever is held is let go.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use postrider_model::{Class, Rule, RuleAction, RuleFilter, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{Story, site};
use crate::exec::Sim;
use crate::jetstream::Publish;
use crate::nats::{Nats, Payload};

/// Gives orders until it is calm, in some of the worlds.
pub(super) async fn operate(story: Rc<RefCell<Story>>, calm: CancellationToken) {
    let (sim, world) = {
        let story = story.borrow();
        (story.sim.clone(), story.world.clone())
    };
    if sim.chance(500) {
        return;
    }
    let (pace, mut in_force, mut made) = ([4_000, 12_000][usize::try_from(sim.below(2)).unwrap()], Vec::new(), 0);
    while !calm.is_cancelled() {
        tokio::select! {
            biased;
            () = calm.cancelled() => break,
            () = sim.sleep(sim.some_time(pace)) => {}
        }
        made += 1;
        if !in_force.is_empty() && sim.chance(250) {
            let which = usize::try_from(sim.below(u64::try_from(in_force.len()).unwrap())).unwrap();
            lift(&world.nats, &sim, &story, in_force.swap_remove(which), made);
            continue;
        }
        let rule = invent(&sim, made);
        give(&world.nats, &sim, &story, &rule);
        if rule.action == RuleAction::Suspend && rule.until.is_none() {
            in_force.push(rule);
        }
    }
    for rule in in_force {
        made += 1;
        sim.sleep(sim.some_time(4_000)).await;
        lift(&world.nats, &sim, &story, rule, made);
    }
}

fn invent(sim: &Sim, number: u64) -> Rule {
    let now = sim.now();
    let action = match sim.below(10) {
        0..5 => RuleAction::Suspend,
        5 => RuleAction::Release,
        6..8 => RuleAction::Delete,
        8 => RuleAction::Bounce,
        _ => RuleAction::Flush,
    };
    let filter = match sim.below(6) {
        0 => RuleFilter { site: Some(site(sim.below(3))), ..RuleFilter::default() },
        1 => RuleFilter { to_domain: format!("domain{}.example", sim.below(4)).parse().ok(), ..RuleFilter::default() },
        2 => RuleFilter {
            class: Some(if sim.chance(500) { Class::Bulk } else { Class::Transactional }),
            ..RuleFilter::default()
        },
        3 => RuleFilter::default(),
        _ => RuleFilter { tenant: format!("tenant{}", sim.below(3)).parse().ok(), ..RuleFilter::default() },
    };
    let stays = matches!(action, RuleAction::Suspend | RuleAction::Release);
    let ends = action == RuleAction::Suspend && sim.chance(400);
    rule(
        action,
        RuleFilter { arrived_before: (!stays).then_some(now), ..filter },
        ends.then(|| now.after(sim.some_time(60_000))),
        (number, now),
    )
}

fn rule(action: RuleAction, filter: RuleFilter, until: Option<Timestamp>, (number, made_at): (u64, Timestamp)) -> Rule {
    Rule {
        id: format!("rule{number}").parse().unwrap(),
        action,
        filter,
        until,
        scan: false,
        scanned_at: None,
        made_by: "operator".to_owned(),
        made_at,
        reason: String::new(),
    }
}

fn give(nats: &Nats, sim: &Sim, story: &RefCell<Story>, rule: &Rule) {
    let mut story = story.borrow_mut();
    story.note(&format!("{} is to {} {} until {:?}", rule.id, rule.action, rule.filter, rule.until));
    story.world.judge.orders(rule);
    write(nats, sim, rule, Payload::Rule(Rc::new(rule.clone())));
}

/// What is held is let go: because its rule is removed, or by a later one.
fn lift(nats: &Nats, sim: &Sim, story: &RefCell<Story>, held: Rule, number: u64) {
    if sim.chance(500) {
        story.borrow_mut().note(&format!("{} is removed", held.id));
        write(nats, sim, &held, Payload::Gone);
    } else {
        let release = rule(RuleAction::Release, held.filter, None, (number, sim.now().after(Duration::from_millis(1))));
        give(nats, sim, story, &release);
    }
}

fn write(nats: &Nats, sim: &Sim, rule: &Rule, payload: Payload) {
    let mut message = Publish::new(format!("config.rule.{}", rule.id), "", payload);
    message.id = None;
    drop(nats.server.borrow_mut().publish(message, sim.now()));
}
