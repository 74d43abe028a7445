//! Records as flat events, one for each recipient: filtered, and each told once even where a takeover recorded it again.
//! Pure.

use std::collections::HashSet;
use std::time::Duration;

use postrider_dispatch::reply_class::classify;
use postrider_model::{
    Campaign, Class, Mailbox, Move, Outcome, RecipientOutcome, Record, SiteName, TenantId, Timestamp,
};
use postrider_proto::control::v1 as api;
use tonic::Status;

use crate::wire::{optional, reply, time};

/// The name of the event that every record without a move tells.
const ACCEPTED: &str = Outcome::Accepted.as_str();

/// The events of a record.
pub(crate) fn events(record: &Record) -> Vec<api::Event> {
    if record.outcomes.is_empty() && record.next.is_none() {
        // Accepted, and the recipients are not told one by one.
        return vec![event(record, None)];
    }
    record.outcomes.iter().map(|outcome| event(record, Some(outcome))).collect()
}

fn event(record: &Record, outcome: Option<&RecipientOutcome>) -> api::Event {
    let name = outcome.map_or(ACCEPTED, |outcome| outcome.outcome.as_str());
    let index = outcome.map_or_else(|| "-".to_owned(), |outcome| outcome.index.to_string());
    let attempt = record.attempt.as_ref();
    let said = outcome.and_then(|outcome| outcome.reply.as_ref());
    let read = said.filter(|reply| !reply.is_positive()).map(|reply| classify(&record.site, reply));
    let said = said.map(reply).unwrap_or_default();
    let mut event = api::Event {
        time: Some(time(record.at)),
        event: name.to_owned(),
        event_id: format!("{}:{index}:{name}", record.id),
        message_id: record.id.message.to_string(),
        part: record.id.part,
        hop: record.id.hop,
        recipient: outcome.map(|outcome| outcome.recipient.to_string()).unwrap_or_default(),
        sender: record.sender.to_string(),
        tenant: record.tenant.to_string(),
        class: record.class.to_string(),
        campaign: record.campaign.as_ref().map(ToString::to_string).unwrap_or_default(),
        site: record.site.to_string(),
        pool: record.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
        attempt: attempt.map_or(0, |attempt| attempt.number),
        source: attempt.map(|attempt| attempt.source.clone()).unwrap_or_default(),
        exchanger: attempt.map(|attempt| attempt.exchanger.clone()).unwrap_or_default(),
        address: attempt.map(|attempt| attempt.address.clone()).unwrap_or_default(),
        tls: attempt.map(|attempt| attempt.tls.clone()).unwrap_or_default(),
        code: said.code,
        enhanced: said.enhanced,
        text: said.text,
        header_message_id: record.header_message_id.clone(),
        size_bytes: record.size_bytes,
        accept_time: Some(time(record.arrival)),
        metadata: record.metadata.iter().cloned().collect(),
        reply_class: read.map(|read| read.class.as_str().to_owned()).unwrap_or_default(),
        reply_rule: read.map(|read| read.rule.to_owned()).unwrap_or_default(),
        ..api::Event::default()
    };
    put_next(&mut event, record.next.as_ref(), outcome.is_some_and(|outcome| outcome.outcome.is_terminal()));
    event
}

/// Where the recipient goes next: a recipient that has met its end goes nowhere, even if the envelope moves on for others.
fn put_next(event: &mut api::Event, next: Option<&Move>, terminal: bool) {
    match next {
        None => {}
        Some(Move::Dead { reason }) => {
            event.next = "dead".to_owned();
            event.next_to.clone_from(reason);
        }
        Some(_) if terminal => event.next = "finished".to_owned(),
        Some(Move::Hold { rule }) => {
            event.next = "hold".to_owned();
            event.next_to = rule.to_string();
        }
        Some(Move::Finished) => event.next = "finished".to_owned(),
        Some(Move::Site { site, .. }) => {
            event.next = "site".to_owned();
            event.next_to = site.to_string();
        }
        Some(Move::Tier { tier, reason, until, .. }) => {
            event.next = "tier".to_owned();
            event.next_to = tier.to_string();
            event.next_reason = reason.to_string();
            event.next_until = Some(time(*until));
        }
    }
}

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    tenant: Option<TenantId>,
    class: Option<Class>,
    campaign: Option<Campaign>,
    site: Option<SiteName>,
    events: Vec<Outcome>,
    recipient: Option<Mailbox>,
}

impl EventFilter {
    pub(crate) fn parse(filter: Option<api::EventFilter>) -> Result<Self, Status> {
        let Some(filter) = filter else { return Ok(Self::default()) };
        let event = |name: &String| {
            Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == name).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "filter.events: {name:?} is none of {}",
                    Outcome::ALL.map(Outcome::as_str).join(" ")
                ))
            })
        };
        Ok(Self {
            tenant: optional("filter.tenant", &filter.tenant)?,
            class: optional("filter.class", &filter.class)?,
            campaign: optional("filter.campaign", &filter.campaign)?,
            site: optional("filter.site", &filter.site)?,
            events: filter.events.iter().map(event).collect::<Result<_, _>>()?,
            recipient: optional("filter.recipient", &filter.recipient)?,
        })
    }

    /// Only what is recorded about an address.
    pub(crate) fn to(recipient: Mailbox, tenant: Option<TenantId>) -> Self {
        Self { recipient: Some(recipient), tenant, ..Self::default() }
    }

    /// The events of a record that are wanted.
    pub(crate) fn of(&self, record: &Record) -> Vec<api::Event> {
        if !self.wants_record(record) {
            return Vec::new();
        }
        let mut found = events(record);
        found.retain(|event| {
            (self.events.is_empty() || self.events.iter().any(|outcome| outcome.as_str() == event.event))
                && self.recipient.as_ref().is_none_or(|wanted| same_address(wanted, &event.recipient))
        });
        found
    }

    fn wants_record(&self, record: &Record) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
            && self.class.is_none_or(|class| class == record.class)
            && self.campaign.as_ref().is_none_or(|campaign| Some(campaign) == record.campaign.as_ref())
            && self.site.as_ref().is_none_or(|site| *site == record.site)
    }
}

/// Who looks for an address does not know in which case its local part was written.
fn same_address(wanted: &Mailbox, recipient: &str) -> bool {
    recipient.eq_ignore_ascii_case(&wanted.to_string())
}

/// Tells which events have been seen before. A repeat follows its original within minutes (owners keep settled ids for
/// ten), so what is older than the one before last span of ten minutes is forgotten.
#[derive(Default)]
pub(crate) struct Seen {
    now: HashSet<String>,
    before: HashSet<String>,
    began: Timestamp,
}

impl Seen {
    const SPAN: Duration = Duration::from_secs(600);
    const MOST: usize = 500_000;

    /// Whether an event of this moment is new.
    pub(crate) fn is_new(&mut self, event: &api::Event, at: Timestamp) -> bool {
        if at.since(self.began) > Self::SPAN || self.now.len() >= Self::MOST {
            self.before = std::mem::take(&mut self.now);
            self.began = at;
        }
        !self.before.contains(&event.event_id) && self.now.insert(event.event_id.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests;
