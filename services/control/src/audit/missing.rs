//! Names what is missing: reads the journal of the hours that do not agree, record by record, and looks for every open part in
//! every stream, twice. Slow, exact, and needed only where fingerprints differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use postrider_model::{MessageId, Outcome, Record, Timestamp};
use postrider_nats::{Place, ReadError, Spool};

use super::compare::HourOf;
use super::count::hour_of;

/// The most parts that are looked at by name, and of those the most that wait: some hundred bytes each.
const MOST_PARTS: usize = 5_000_000;

/// A copy is there before its original goes; this long later both have been seen by every replica.
const AGAIN: Duration = Duration::from_secs(1);

/// A part of which recipients are neither ended nor anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) message: MessageId,
    pub(crate) part: u32,
    pub(crate) tenant: String,
    pub(crate) recipients: u32,
    pub(crate) last: (Outcome, Timestamp),
}

/// An hour counted by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByName {
    pub(crate) accepted: u64,
    pub(crate) ended: BTreeMap<String, u64>,
    /// Found somewhere, or recorded while we looked.
    pub(crate) waiting: u64,
    /// Accepted, not ended, and nowhere.
    pub(crate) missing: u64,
}

/// What looking by name has come to.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) hours: BTreeMap<HourOf, ByName>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) notes: Vec<String>,
}

type PartOf = (MessageId, u32);

/// Recipients of a part, as bits. A part has at most 100.
type Bits = u128;

fn bits(indices: impl Iterator<Item = u32>) -> Bits {
    indices.filter_map(|index| 1u128.checked_shl(index)).fold(0, |all, bit| all | bit)
}

#[derive(Default)]
struct Found {
    tenant: String,
    pending: Bits,
    /// It has moved before, so it must have been recorded.
    recorded: bool,
}

struct Part {
    tenant: String,
    accepted: Bits,
    ended: Bits,
    /// Something was recorded after the scan began.
    moved: bool,
    last: (Outcome, Timestamp),
}

/// Looks at these hours by name.
pub(crate) async fn look(spool: &Spool, hours: &BTreeSet<HourOf>) -> Result<Named, ReadError> {
    let (mut named, first) = once(spool, hours).await?;
    if first.is_empty() {
        return Ok(named);
    }
    tokio::time::sleep(AGAIN).await;
    let (again, second) = once(spool, hours).await?;
    let gone: HashSet<PartOf> = second.iter().map(|missing| (missing.message, missing.part)).collect();
    named = again;
    named.missing = first.into_iter().filter(|it| gone.contains(&(it.message, it.part))).collect();
    // What was missing in one of the two looks only was on its way.
    let mut confirmed: BTreeMap<HourOf, u64> = BTreeMap::new();
    for it in &named.missing {
        *confirmed.entry((hour_of(&it.message), it.tenant.clone())).or_default() += u64::from(it.recipients);
    }
    for (of, hour) in &mut named.hours {
        let missing = confirmed.get(of).copied().unwrap_or_default();
        hour.waiting += hour.missing.saturating_sub(missing);
        hour.missing = missing;
    }
    Ok(named)
}

async fn once(spool: &Spool, hours: &BTreeSet<HourOf>) -> Result<(Named, Vec<Missing>), ReadError> {
    let Some((first, _)) = hours.first() else { return Ok(Default::default()) };
    let mut named = Named::default();
    let mut began = Vec::new();
    for stream in 0..spool.journals() {
        began.push(spool.journal_end(stream).await?);
    }
    let mut waiting: HashMap<PartOf, Found> = HashMap::new();
    let unreadable = spool
        .scan_waiting(true, |found| {
            let outline = found.outline;
            let of = (hour_of(&outline.message), outline.tenant);
            if hours.contains(&of) && waiting.len() <= MOST_PARTS {
                let slot = waiting.entry((outline.message, outline.part)).or_default();
                slot.pending |= bits(outline.pending.into_iter());
                slot.tenant = of.1;
                // Dead letters have ended. One that is being put back is no loss.
                slot.recorded |= outline.hop > 0 && found.place != Place::Dead;
            }
        })
        .await?;
    if unreadable > 0 {
        named.notes.push(format!("{unreadable} records in the streams cannot be read; delivery buries them"));
    }
    if waiting.len() > MOST_PARTS {
        named.notes.push(too_many());
        return Ok((named, Vec::new()));
    }
    let mut parts: HashMap<PartOf, Part> = HashMap::new();
    let since = Timestamp::from_millis(first * 3_600_000);
    for (stream, began) in (0..spool.journals()).zip(began) {
        let end = spool.journal_end(stream).await?;
        let mut reader = spool.read_journal_since(stream, since);
        let mut read = 0;
        while read < end {
            let batches = reader.next().await?;
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                read = batch.sequence;
                for record in &batch.records {
                    if hours.contains(&(hour_of(&record.id.message), record.tenant.to_string())) {
                        enter(&mut parts, &mut named.hours, record, batch.sequence > began);
                    }
                }
            }
            if parts.len() > MOST_PARTS {
                // What was counted of them so far is not all.
                named.hours.clear();
                named.notes.push(too_many());
                return Ok((named, Vec::new()));
            }
        }
    }
    let missing = sum_up(&mut named.hours, &parts, &waiting);
    Ok((named, missing))
}

fn too_many() -> String {
    format!("more than {MOST_PARTS} parts to look at by name: narrow it with --since, --until or --tenant")
}

fn enter(parts: &mut HashMap<PartOf, Part>, hours: &mut BTreeMap<HourOf, ByName>, record: &Record, moved: bool) {
    let part = parts.entry((record.id.message, record.id.part)).or_insert_with(|| Part {
        tenant: record.tenant.to_string(),
        accepted: 0,
        ended: 0,
        moved: false,
        last: (Outcome::Accepted, record.at),
    });
    for outcome in &record.outcomes {
        let bit = bits(std::iter::once(outcome.index));
        if outcome.outcome == Outcome::Accepted {
            part.accepted |= bit;
        } else if outcome.outcome == Outcome::Requeued && part.ended & bit != 0 {
            part.ended &= !bit;
            let hour = hours.entry((hour_of(&record.id.message), part.tenant.clone())).or_default();
            if let Some(dead) = hour.ended.get_mut(Outcome::Dead.as_str()) {
                *dead = dead.saturating_sub(1);
            }
        } else if outcome.outcome.is_terminal() && part.ended & bit == 0 {
            part.ended |= bit;
            let hour = hours.entry((hour_of(&record.id.message), part.tenant.clone())).or_default();
            *hour.ended.entry(outcome.outcome.as_str().to_owned()).or_default() += 1;
        }
    }
    part.moved |= moved;
    if let Some(outcome) = record.outcomes.first().filter(|_| record.at >= part.last.1) {
        part.last = (outcome.outcome, record.at);
    }
}

fn sum_up(
    hours: &mut BTreeMap<HourOf, ByName>,
    parts: &HashMap<PartOf, Part>,
    waiting: &HashMap<PartOf, Found>,
) -> Vec<Missing> {
    let mut missing = Vec::new();
    for ((message, number), part) in parts {
        let hour = hours.entry((hour_of(message), part.tenant.clone())).or_default();
        let found = waiting.get(&(*message, *number)).map_or(0, |found| found.pending);
        let open = part.accepted & !part.ended;
        let gone = if part.moved { 0 } else { open & !found };
        hour.accepted += u64::from(part.accepted.count_ones());
        hour.waiting += u64::from((open & !gone).count_ones());
        hour.missing += u64::from(gone.count_ones());
        if gone != 0 {
            missing.push(Missing {
                message: *message,
                part: *number,
                tenant: part.tenant.clone(),
                recipients: gone.count_ones(),
                last: part.last,
            });
        }
    }
    for ((message, number), found) in waiting.iter().filter(|(_, found)| found.recorded) {
        let known = parts.get(&(*message, *number)).map_or(0, |part| part.accepted | part.ended);
        let hour = hours.entry((hour_of(message), found.tenant.clone())).or_default();
        hour.waiting += u64::from((found.pending & !known).count_ones());
    }
    missing.sort_by_key(|it| (it.message, it.part));
    missing
}
