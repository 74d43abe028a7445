//! The life of a message, told from its records and from what delivery members say now. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_model::{Hop, MessageId, Move, Outcome, PartNumber, Record, Rule, Timestamp, WaitReason};
use postrider_nats::Place;
use postrider_proto::control::v1 as api;

use crate::standing::{Outline, Standing};
use crate::whereabouts::Sought;
use crate::wire::{reply, time};

/// By how much the clocks of processes and servers differ at most, as a rule.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// What is known about a message.
pub(crate) struct Known<'a> {
    pub(crate) message: MessageId,
    /// Its records, in any order; repeats do no harm.
    pub(crate) records: &'a [Record],
    /// What delivery members hold of it, each with the member's name.
    pub(crate) held: &'a [(String, api::WaitingPart)],
    /// Living delivery members that did not answer.
    pub(crate) silent: &'a [String],
    /// What operators have ordered, in the order in which it was.
    pub(crate) orders: &'a [Rule],
    /// Parts that wait by their records, and lie in no stream.
    pub(crate) gone: &'a [PartNumber],
    pub(crate) now: Timestamp,
}

/// Tells the life; `None` if nothing is known.
pub(crate) fn life(known: &Known<'_>) -> Option<api::MessageLife> {
    let records = in_order(known.records);
    let Some(first) = records.first() else { return held_only(known) };
    let mut parts: BTreeMap<PartNumber, Part<'_>> = BTreeMap::new();
    for record in &records {
        parts.entry(record.id.part).or_insert_with(|| Part::new(record)).see(record);
    }
    let mut notes = Vec::new();
    for (number, part) in &parts {
        part.note(*number, known, &mut notes);
    }
    if !known.silent.is_empty() && parts.values().any(|part| !part.ended()) {
        notes.push(format!("did not answer, and may hold it: {}", known.silent.join(", ")));
    }
    Some(api::MessageLife {
        message_id: first.id.message.to_string(),
        header_message_id: first.header_message_id.clone(),
        tenant: first.tenant.to_string(),
        class: first.class.to_string(),
        campaign: first.campaign.as_ref().map(ToString::to_string).unwrap_or_default(),
        pool: first.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
        sender: first.sender.to_string(),
        size_bytes: first.size_bytes,
        accept_time: Some(time(first.arrival)),
        metadata: first.metadata.iter().cloned().collect(),
        parts: parts.iter().map(|(number, part)| part.told(*number, known)).collect(),
        happenings: records.iter().map(|record| happening(record)).collect(),
        notes,
    })
}

/// The parts that wait by their records and that no member says it holds.
pub(crate) fn unheld(known: &Known<'_>) -> Vec<Sought> {
    let mut parts: BTreeMap<PartNumber, Part<'_>> = BTreeMap::new();
    for record in in_order(known.records) {
        parts.entry(record.id.part).or_insert_with(|| Part::new(record)).see(record);
    }
    let unheld = parts.into_iter().filter(|(number, part)| !part.ended() && part.held(*number, known).is_none());
    unheld.filter_map(|(number, part)| part.sought(number)).collect()
}

/// A record says what happened in a hop, or (`next` is empty) that the part was accepted.
fn is_settle(record: &Record) -> bool {
    record.next.is_some()
}

/// By time; of the same hop of a part each kind of record once.
fn in_order(records: &[Record]) -> Vec<&Record> {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| (record.at, record.id.part, record.id.hop, is_settle(record)));
    let mut told: Vec<&Record> = Vec::with_capacity(sorted.len());
    for record in sorted {
        let repeat = |earlier: &&Record| {
            earlier.id == record.id
                && is_settle(earlier) == is_settle(record)
                && earlier.next == record.next
                && earlier
                    .outcomes
                    .iter()
                    .map(|o| (o.index, o.outcome))
                    .eq(record.outcomes.iter().map(|o| (o.index, o.outcome)))
        };
        if !told.iter().any(repeat) {
            told.push(record);
        }
    }
    told
}

/// Nothing is written yet, but somebody has it.
fn held_only(known: &Known<'_>) -> Option<api::MessageLife> {
    if known.held.is_empty() {
        return None;
    }
    let parts = known.held.iter().map(|(member, held)| api::PartLife {
        part: held.part,
        site: held.site.clone(),
        recipients: Vec::new(),
        waiting: Some(held_waiting(member, held)),
    });
    Some(api::MessageLife {
        message_id: known.message.to_string(),
        accept_time: Some(time(known.message.timestamp())),
        parts: parts.collect(),
        notes: vec!["it was accepted, and delivery has it; nothing is recorded about it yet".to_owned()],
        ..api::MessageLife::default()
    })
}

/// A part as its records tell it.
struct Part<'a> {
    last: &'a Record,
    recipients: BTreeMap<u32, api::RecipientLife>,
}

impl<'a> Part<'a> {
    fn new(first: &'a Record) -> Self {
        Self { last: first, recipients: BTreeMap::new() }
    }

    fn see(&mut self, record: &'a Record) {
        if (record.id.hop, is_settle(record)) >= (self.last.id.hop, is_settle(self.last)) {
            self.last = record;
        }
        for (index, told) in recipients(record) {
            let ended = self.recipients.get(&index).is_some_and(|recipient| recipient.r#final);
            let ended = ended && told.event != Outcome::Requeued.as_str();
            if !ended {
                self.recipients.insert(index, told);
            }
        }
    }

    fn ended(&self) -> bool {
        match &self.last.next {
            Some(Move::Finished | Move::Dead { .. }) => true,
            Some(Move::Tier { .. } | Move::Site { .. } | Move::Hold { .. }) | None => false,
        }
    }

    /// The hop that the part is in now.
    fn hop(&self) -> Hop {
        if is_settle(self.last) { self.last.id.hop + 1 } else { self.last.id.hop }
    }

    fn held<'k>(&self, number: PartNumber, known: &Known<'k>) -> Option<&'k (String, api::WaitingPart)> {
        known.held.iter().find(|(_, held)| held.part == number && held.hop >= self.hop())
    }

    fn told(&self, number: PartNumber, known: &Known<'_>) -> api::PartLife {
        let waiting = if self.ended() {
            None
        } else {
            let standing = self.standing(known);
            let waiting = match self.held(number, known) {
                None if known.gone.contains(&number) => api::Waiting {
                    reason: "missing".to_owned(),
                    lifted_by: "nobody: it lies in no stream".to_owned(),
                    ..api::Waiting::default()
                },
                Some((member, held)) => held_waiting(member, held),
                None => self.waiting(known.now),
            };
            let waiting = api::Waiting { ordered: standing.ordered(), ..waiting };
            Some(if waiting.reason == WaitReason::Held.as_str() {
                let until = standing.held_until().map(time);
                api::Waiting { until, lifted_by: standing.lifted_by(known.message), ..waiting }
            } else {
                waiting
            })
        };
        let recipients = self.recipients.values().cloned().collect();
        api::PartLife { part: number, site: self.site().to_owned(), recipients, waiting }
    }

    fn sought(&self, part: PartNumber) -> Option<Sought> {
        let place = match &self.last.next {
            Some(Move::Tier { tier, .. }) => Place::Tier(*tier),
            Some(Move::Hold { .. }) => Place::Hold,
            Some(Move::Site { .. } | Move::Finished | Move::Dead { .. }) | None => Place::Ready,
        };
        // Its first copy was there before it was recorded as accepted; all others came after their record.
        let since = if is_settle(self.last) { self.last.at } else { self.last.id.message.timestamp() };
        Some(Sought {
            message: self.last.id.message,
            part,
            tenant: self.last.tenant.clone(),
            class: self.last.class,
            site: self.site().parse().ok()?,
            place,
            since: since.before(CLOCKS_DIFFER),
        })
    }

    fn site(&self) -> &str {
        match &self.last.next {
            Some(Move::Site { site, .. }) => site.as_str(),
            Some(Move::Finished | Move::Dead { .. } | Move::Tier { .. } | Move::Hold { .. }) | None => {
                self.last.site.as_str()
            }
        }
    }

    fn standing<'k>(&self, known: &Known<'k>) -> Standing<'k> {
        let open = || self.recipients.values().filter(|recipient| !recipient.r#final);
        let outline = Outline {
            record: self.last,
            site: self.site(),
            domains: open().filter_map(|open| open.recipient.rsplit_once('@')).map(|(_, domain)| domain).collect(),
            tried: open().any(|open| open.reply.is_some()),
        };
        let by = match &self.last.next {
            Some(Move::Hold { rule }) => Some(rule),
            Some(_) | None => None,
        };
        Standing::of(known.orders, |rule| by == Some(&rule.id) || outline.fits(&rule.filter), known.now)
    }

    /// Why it waits, as far as the last record tells.
    fn waiting(&self, now: Timestamp) -> api::Waiting {
        match &self.last.next {
            Some(Move::Tier { tier, reason, until, .. }) if *until > now => api::Waiting {
                reason: reason.to_string(),
                until: Some(time(*until)),
                lifted_by: reason.lifted_by().to_owned(),
                tier: tier.to_string(),
                ..api::Waiting::default()
            },
            Some(Move::Hold { .. }) => plainly(WaitReason::Held),
            Some(_) | None => plainly(WaitReason::Queued),
        }
    }

    fn note(&self, number: PartNumber, known: &Known<'_>, notes: &mut Vec<String>) {
        if self.ended() || self.held(number, known).is_some() {
            return;
        }
        match &self.last.next {
            _ if known.gone.contains(&number) => notes.push(format!(
                "part {number} lies in no stream, and nothing that is recorded ended it: it was deleted in JetStream itself, or lost. \
                 `postrider audit` counts it as missing"
            )),
            Some(Move::Tier { tier, until, .. }) if *until <= known.now => notes.push(format!(
                "part {number} was due at {until} in tier {tier}: it is on its way back, or in the hands of a delivery \
                 process that has not said so"
            )),
            Some(_) => {}
            None => notes.push(format!("part {number} was accepted; no attempt is recorded yet")),
        }
    }
}

fn recipients(record: &Record) -> impl Iterator<Item = (u32, api::RecipientLife)> {
    record.outcomes.iter().map(|outcome| {
        let told = api::RecipientLife {
            recipient: outcome.recipient.to_string(),
            event: outcome.outcome.to_string(),
            r#final: outcome.outcome.is_terminal(),
            reply: outcome.reply.as_ref().map(reply),
        };
        (outcome.index, told)
    })
}

fn plainly(reason: WaitReason) -> api::Waiting {
    api::Waiting { reason: reason.to_string(), lifted_by: reason.lifted_by().to_owned(), ..api::Waiting::default() }
}

fn held_waiting(member: &str, held: &api::WaitingPart) -> api::Waiting {
    api::Waiting {
        reason: held.reason.clone(),
        until: (held.until_ms > 0).then(|| time(Timestamp::from_millis(held.until_ms))),
        lifted_by: held.lifted_by.clone(),
        member: member.to_owned(),
        ..api::Waiting::default()
    }
}

fn happening(record: &Record) -> api::Happening {
    let (next, next_until) = match &record.next {
        None => (String::new(), None),
        Some(Move::Finished) => ("done".to_owned(), None),
        Some(Move::Tier { tier, reason, until, .. }) => (format!("tier {tier} ({reason})"), Some(time(*until))),
        Some(Move::Site { site, .. }) => (format!("site {site}"), None),
        Some(Move::Dead { reason }) => (format!("dead letters ({reason})"), None),
        Some(Move::Hold { rule }) => (format!("hold ({rule})"), None),
    };
    api::Happening {
        time: Some(time(record.at)),
        part: record.id.part,
        hop: record.id.hop,
        site: record.site.to_string(),
        attempt: record.attempt.as_ref().map(|attempt| api::AttemptLife {
            number: attempt.number,
            source: attempt.source.clone(),
            exchanger: attempt.exchanger.clone(),
            address: attempt.address.clone(),
            tls: attempt.tls.clone(),
            begin_time: Some(time(attempt.began)),
        }),
        recipients: recipients(record).map(|(_, told)| told).collect(),
        next,
        next_until,
    }
}

#[cfg(test)]
mod tests;
