//! Messages as scripts see them: the shape of `-o json` and `-o yaml`, which stays.

use std::collections::BTreeMap;

use postrider_proto::control::v1 as api;
use serde::Serialize;

use crate::client::time::{moment, rfc3339};

type WireTime = prost_types::Timestamp;

fn optional(time: Option<&WireTime>) -> Option<String> {
    moment(time).map(|at| at.to_string())
}

/// A message with its life.
#[derive(Serialize)]
pub struct LifeView {
    message_id: String,
    header_message_id: String,
    tenant: String,
    class: String,
    campaign: String,
    pool: String,
    sender: String,
    size_bytes: u64,
    accept_time: String,
    metadata: BTreeMap<String, String>,
    parts: Vec<PartView>,
    happenings: Vec<HappeningView>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct PartView {
    part: u32,
    site: String,
    recipients: Vec<RecipientView>,
    waiting: Option<WaitingView>,
}

#[derive(Serialize)]
struct RecipientView {
    recipient: String,
    event: String,
    r#final: bool,
    reply: Option<ReplyView>,
}

#[derive(Serialize)]
struct WaitingView {
    reason: String,
    until: Option<String>,
    lifted_by: String,
    tier: String,
    member: String,
    ordered: String,
}

#[derive(Serialize)]
struct ReplyView {
    code: u32,
    enhanced: String,
    text: String,
}

#[derive(Serialize)]
struct HappeningView {
    time: String,
    part: u32,
    hop: u32,
    site: String,
    attempt: Option<AttemptView>,
    recipients: Vec<RecipientView>,
    next: String,
    next_until: Option<String>,
}

#[derive(Serialize)]
struct AttemptView {
    number: u32,
    source: String,
    exchanger: String,
    address: String,
    tls: String,
    begin_time: String,
}

/// A message to an address.
#[derive(Serialize)]
pub struct FoundView {
    message_id: String,
    header_message_id: String,
    tenant: String,
    class: String,
    campaign: String,
    sender: String,
    recipient: String,
    accept_time: String,
    event: String,
    event_time: String,
    reply: Option<ReplyView>,
}

impl From<&api::MessageLife> for LifeView {
    fn from(life: &api::MessageLife) -> Self {
        Self {
            message_id: life.message_id.clone(),
            header_message_id: life.header_message_id.clone(),
            tenant: life.tenant.clone(),
            class: life.class.clone(),
            campaign: life.campaign.clone(),
            pool: life.pool.clone(),
            sender: life.sender.clone(),
            size_bytes: life.size_bytes,
            accept_time: rfc3339(life.accept_time.as_ref()),
            metadata: life.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            parts: life.parts.iter().map(PartView::from).collect(),
            happenings: life.happenings.iter().map(HappeningView::from).collect(),
            notes: life.notes.clone(),
        }
    }
}

impl From<&api::PartLife> for PartView {
    fn from(part: &api::PartLife) -> Self {
        let waiting = part.waiting.as_ref().map(|waiting| WaitingView {
            reason: waiting.reason.clone(),
            until: optional(waiting.until.as_ref()),
            lifted_by: waiting.lifted_by.clone(),
            tier: waiting.tier.clone(),
            member: waiting.member.clone(),
            ordered: waiting.ordered.clone(),
        });
        let recipients = part.recipients.iter().map(RecipientView::from).collect();
        Self { part: part.part, site: part.site.clone(), recipients, waiting }
    }
}

impl From<&api::RecipientLife> for RecipientView {
    fn from(recipient: &api::RecipientLife) -> Self {
        Self {
            recipient: recipient.recipient.clone(),
            event: recipient.event.clone(),
            r#final: recipient.r#final,
            reply: recipient.reply.as_ref().map(ReplyView::from),
        }
    }
}

impl From<&api::SmtpReply> for ReplyView {
    fn from(reply: &api::SmtpReply) -> Self {
        Self { code: reply.code, enhanced: reply.enhanced.clone(), text: reply.text.clone() }
    }
}

impl From<&api::Happening> for HappeningView {
    fn from(happening: &api::Happening) -> Self {
        let attempt = happening.attempt.as_ref().map(|attempt| AttemptView {
            number: attempt.number,
            source: attempt.source.clone(),
            exchanger: attempt.exchanger.clone(),
            address: attempt.address.clone(),
            tls: attempt.tls.clone(),
            begin_time: rfc3339(attempt.begin_time.as_ref()),
        });
        Self {
            time: rfc3339(happening.time.as_ref()),
            part: happening.part,
            hop: happening.hop,
            site: happening.site.clone(),
            attempt,
            recipients: happening.recipients.iter().map(RecipientView::from).collect(),
            next: happening.next.clone(),
            next_until: optional(happening.next_until.as_ref()),
        }
    }
}

impl From<&api::FoundMessage> for FoundView {
    fn from(found: &api::FoundMessage) -> Self {
        Self {
            message_id: found.message_id.clone(),
            header_message_id: found.header_message_id.clone(),
            tenant: found.tenant.clone(),
            class: found.class.clone(),
            campaign: found.campaign.clone(),
            sender: found.sender.clone(),
            recipient: found.recipient.clone(),
            accept_time: rfc3339(found.accept_time.as_ref()),
            event: found.event.clone(),
            event_time: rfc3339(found.event_time.as_ref()),
            reply: found.reply.as_ref().map(ReplyView::from),
        }
    }
}
