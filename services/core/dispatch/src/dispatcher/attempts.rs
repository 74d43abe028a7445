//! What an attempt comes to: an outcome for every pending recipient and one next move. A temporary failure becomes a
//! permanent one by age alone.

use std::collections::BTreeMap;

use postrider_model::{Move, Outcome, Reply, Tier, Timestamp, WaitReason};

use super::index::Stage;
use super::kept::Kept;
use super::lane::Lane;
use super::{AttemptResult, Conversation, Dispatcher, Failure, Plan, Ticket};
use crate::reply_class::{self, Classified, Scope, classify};
use crate::retry::{self, Dice, with_room};

impl Dispatcher {
    /// A message was tried.
    pub(super) fn attempted(&mut self, ticket: Ticket, results: &[(u32, AttemptResult)]) {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return };
        let (lane, cost) = (held.lane, held.entry.cost());
        let conversation = match held.stage {
            Stage::Settling { .. } | Stage::Waiting { reason: WaitReason::Held, .. } => return,
            Stage::InFlight(conversation) => Some(conversation),
            Stage::Waiting { .. } | Stage::Ready(_) | Stage::Bound(_) => None,
        };
        if let Some(conversation) = conversation {
            let useful = results.iter().any(|(_, result)| is_an_end(result));
            let reused = self.change(conversation, |talk, _| {
                talk.useful |= useful;
                talk.carried > 1
            });
            if reused == Some(true)
                && results.iter().all(|(_, result)| was_not_sent(result))
                && self.second_chance(ticket)
            {
                return;
            }
        }
        // What was not even tried says nothing of the exchanger.
        let was_sent = results.iter().any(|(_, result)| !matches!(result, AttemptResult::Unsent { .. }));
        if let Some(lane) = self.lanes.lane_mut(lane).filter(|_| was_sent) {
            lane.pace.served(cost, now);
            lane.tried(results.iter().any(|(_, result)| is_an_end(result)), now);
        }
        let results = results.iter().map(|(index, result)| (*index, reply_class::outcome_of(result))).collect();
        self.settle_attempt(ticket, results, false);
    }

    /// `of_site`: who was put off was so for the site's sake.
    fn settle_attempt(&mut self, ticket: Ticket, results: BTreeMap<u32, (Outcome, Reply)>, of_site: bool) {
        let (now, delays) = (self.now, self.config.tier_delays);
        let Some(held) = self.index.get(ticket) else { return };
        let (entry, full) = (&held.entry, &self.moves.full);
        let read: Vec<Classified> = put_off(&results).map(|reply| classify(&entry.site, reply)).collect();
        let of_site = of_site || is_of_site(&read) || self.lanes.lane(held.lane).is_some_and(Lane::puts_all_off);
        // Who came back after a fixed time for ever would come thousands of times: the schedule holds too.
        let asked = read.iter().map(|read| read.wait).min().flatten();
        let plan = plan(
            entry,
            &results,
            now,
            |dice, attempts, tried| {
                let (tier, longest) = match (tried, of_site) {
                    (true, true) => {
                        (retry::tier_after_site_failure(attempts, now, entry.expiry, &delays, dice)?, Tier::H1)
                    }
                    (true, false) => (retry::tier_after_attempt(attempts, now, entry.expiry, &delays, dice)?, Tier::H4),
                    (false, _) => (retry::tier_nearest(now, Tier::H1, now, entry.expiry, &delays)?, Tier::H4),
                };
                let tier = match asked.filter(|_| tried) {
                    Some(wait) => retry::no_sooner(tier, wait, longest, now, entry.expiry, &delays),
                    None => tier,
                };
                let tier = with_room(tier, longest, full, now, entry.expiry, &delays).unwrap_or(tier);
                Some((tier, now.after(delays.of(tier))))
            },
            &mut self.dice,
        );
        self.settle(ticket, plan, Stage::Settling { until: now, reason: WaitReason::InFlight, slot: None });
    }

    /// Puts an envelope back of which nothing was sent, if that has not happened to it before. Whether it did.
    pub(super) fn second_chance(&mut self, ticket: Ticket) -> bool {
        let Some(held) = self.index.get_mut(ticket).filter(|held| !held.entry.second_chance) else { return false };
        held.entry.second_chance = true;
        self.put_back(ticket);
        true
    }

    /// A message that was transmitted has no result, and its conversation is over or has gone on: it is lost.
    pub(super) fn lost_if_in_flight(&mut self, ticket: Ticket, conversation: Conversation, text: &str) {
        let Some(held) = self.index.get(ticket).filter(|held| held.stage == Stage::InFlight(conversation)) else {
            return;
        };
        let lost = AttemptResult::Lost { text: text.to_owned(), after_end_of_data: false };
        let results: Vec<_> = held.entry.pending.iter().map(|&index| (index, lost.clone())).collect();
        self.attempted(ticket, &results);
    }

    /// There is nobody to talk to for an envelope.
    pub(super) fn unresolvable(&mut self, ticket: Ticket, permanent: bool, reply: Reply) {
        let Some(held) = self.index.get(ticket) else { return };
        // Another conversation may have it by now: then the one that did not come about says nothing of it.
        if matches!(held.stage, Stage::InFlight(_)) {
            return;
        }
        let result = AttemptResult::Unsent { permanent, reply };
        let results: Vec<_> = held.entry.pending.iter().map(|&index| (index, result.clone())).collect();
        self.attempted(ticket, &results);
    }

    /// The conversation that was opened for an envelope did not come about.
    pub(super) fn unreached(&mut self, ticket: Ticket, failure: &Failure) {
        let Some(held) = self.index.get(ticket) else { return };
        let reply = failure.reply.clone().unwrap_or_else(|| reply_class::unreachable(&failure.text));
        let deferred = (Outcome::Deferred, reply);
        let results = held.entry.pending.iter().map(|&index| (index, deferred.clone())).collect();
        self.settle_attempt(ticket, results, true);
    }

    /// An envelope has grown too old in the index.
    pub(super) fn expire(&mut self, ticket: Ticket) {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return };
        let outcomes = held.entry.pending.iter().map(|&index| (index, Outcome::Expired, None)).collect();
        let plan = Plan { attempted: false, outcomes, next: Move::Finished };
        self.settle(ticket, plan, Stage::Settling { until: now, reason: WaitReason::InFlight, slot: None });
    }

    /// A body cannot be read any more: never a reason to bounce.
    pub(super) fn body_missing(&mut self, ticket: Ticket) {
        let now = self.now;
        let Some(held) = self.index.get(ticket) else { return };
        if matches!(held.stage, Stage::Settling { .. }) {
            return;
        }
        let outcomes = held.entry.pending.iter().map(|&index| (index, Outcome::Dead, None)).collect();
        let next = Move::Dead { reason: "body-lost".to_owned() };
        let plan = Plan { attempted: false, outcomes, next };
        self.settle(ticket, plan, Stage::Settling { until: now, reason: WaitReason::InFlight, slot: None });
    }
}

/// Whether a result shows that the exchanger does its work: it took the message, or refused it for good.
fn is_an_end(result: &AttemptResult) -> bool {
    match result {
        AttemptResult::Delivered(_) => true,
        AttemptResult::Refused(reply) => reply.is_permanent(),
        AttemptResult::Lost { .. } | AttemptResult::Unsent { .. } => false,
    }
}

/// The replies that put somebody off.
fn put_off(results: &BTreeMap<u32, (Outcome, Reply)>) -> impl Iterator<Item = &Reply> {
    results.values().filter(|(outcome, _)| *outcome == Outcome::Deferred).map(|(_, reply)| reply)
}

/// Whether all who were put off were so for the receiving system's sake, or for that of all mail from here, and none for his own:
/// the exchanger has trouble, or enough of us.
fn is_of_site(read: &[Classified]) -> bool {
    read.iter().all(|read| matches!(read.scope, Scope::Site | Scope::Source))
}

/// Whether a message certainly did not arrive.
fn was_not_sent(result: &AttemptResult) -> bool {
    matches!(result, AttemptResult::Lost { after_end_of_data: false, .. })
}

/// The outcomes and the next move. Recipients without a result were not tried (the path's limit is smaller than the part):
/// they go on. If no tier ends before the expiry there is no further turn, and who was deferred has expired.
fn plan(
    entry: &Kept,
    results: &BTreeMap<u32, (Outcome, Reply)>,
    now: Timestamp,
    next_tier: impl FnOnce(&mut Dice, u32, bool) -> Option<(Tier, Timestamp)>,
    dice: &mut Dice,
) -> Plan {
    let attempt = entry.attempt.saturating_add(1);
    let is_deferred = |index: &u32| matches!(results.get(index), Some((Outcome::Deferred, _)));
    let pending: Vec<u32> =
        entry.pending.iter().copied().filter(|index| is_deferred(index) || !results.contains_key(index)).collect();
    let deferred = pending.iter().find(|index| is_deferred(index));
    let last_reply = deferred.and_then(|index| results.get(index)).map(|(_, reply)| reply.clone());
    let next = match pending.is_empty() || entry.expiry <= now {
        true => None,
        false => next_tier(dice, attempt, deferred.is_some()),
    };
    let remains = |outcome| if next.is_some() { outcome } else { Outcome::Expired };
    let outcomes = entry
        .pending
        .iter()
        .map(|index| match results.get(index) {
            Some((Outcome::Deferred, reply)) => (*index, remains(Outcome::Deferred), Some(reply.clone())),
            Some((outcome, reply)) => (*index, *outcome, Some(reply.clone())),
            None => (*index, remains(Outcome::Moved), None),
        })
        .collect();
    let next = match next {
        None => Move::Finished,
        Some((tier, until)) => {
            let reason = if deferred.is_some() { WaitReason::Retry } else { WaitReason::RateLimit };
            Move::Tier { tier, reason, until, attempt, pending, last_reply }
        }
    };
    Plan { attempted: true, outcomes, next }
}
