//! Conversions of the journal's records.

use postrider_model::{Attempt, EnvelopeId, Move, Outcome, RecipientOutcome, Record, Timestamp, WaitReason};

use crate::convert::{self, ConvertError, optional, text};
use crate::event::v1 as wire;

impl From<&Record> for wire::Record {
    fn from(record: &Record) -> Self {
        Self {
            message_id: convert::wire_message_id(&record.id.message),
            part: record.id.part,
            hop: record.id.hop,
            at_ms: record.at.as_millis(),
            shard: record.shard.to_string(),
            tenant: record.tenant.to_string(),
            class: convert::wire_class(record.class).into(),
            campaign: text(record.campaign.as_ref()),
            pool: text(record.pool.as_ref()),
            site: record.site.to_string(),
            sender: record.sender.to_string(),
            header_message_id: record.header_message_id.clone(),
            arrival_ms: record.arrival.as_millis(),
            size_bytes: record.size_bytes,
            metadata: convert::wire_metadata(&record.metadata),
            attempt: record.attempt.as_ref().map(wire_attempt),
            outcomes: record.outcomes.iter().map(wire_outcome).collect(),
            next: record.next.as_ref().map(wire_move),
            body: record.body.as_ref().map(convert::wire_body_ref),
        }
    }
}

impl TryFrom<wire::Record> for Record {
    type Error = ConvertError;

    fn try_from(record: wire::Record) -> Result<Self, ConvertError> {
        Ok(Self {
            id: EnvelopeId { message: convert::message_id(&record.message_id)?, part: record.part, hop: record.hop },
            at: Timestamp::from_millis(record.at_ms),
            shard: record.shard.parse()?,
            tenant: record.tenant.parse()?,
            class: convert::class(record.class)?,
            campaign: optional(&record.campaign)?,
            pool: optional(&record.pool)?,
            site: record.site.parse()?,
            sender: record.sender.parse()?,
            header_message_id: record.header_message_id,
            arrival: Timestamp::from_millis(record.arrival_ms),
            size_bytes: record.size_bytes,
            metadata: convert::metadata(record.metadata),
            attempt: record.attempt.map(attempt),
            outcomes: record.outcomes.into_iter().map(outcome).collect::<Result<_, _>>()?,
            next: record.next.map(next_move).transpose()?,
            body: record.body.map(convert::body_ref).transpose()?,
        })
    }
}

/// What a new owner needs of a record: which hop, and where it goes next. `None`: nowhere, the record moves nothing. A move that
/// only a newer build can read is an error of its own: the hop has its record all the same.
///
/// # Errors
/// If not even the hop can be read.
pub fn hop_and_move(record: wire::Record) -> Result<(EnvelopeId, Option<Result<Move, ConvertError>>), ConvertError> {
    let id = EnvelopeId { message: convert::message_id(&record.message_id)?, part: record.part, hop: record.hop };
    Ok((id, record.next.map(next_move)))
}

fn wire_attempt(attempt: &Attempt) -> wire::Attempt {
    wire::Attempt {
        number: attempt.number,
        source: attempt.source.clone(),
        exchanger: attempt.exchanger.clone(),
        address: attempt.address.clone(),
        tls: attempt.tls.clone(),
        began_ms: attempt.began.as_millis(),
    }
}

fn attempt(attempt: wire::Attempt) -> Attempt {
    Attempt {
        number: attempt.number,
        source: attempt.source,
        exchanger: attempt.exchanger,
        address: attempt.address,
        tls: attempt.tls,
        began: Timestamp::from_millis(attempt.began_ms),
    }
}

fn wire_outcome(outcome: &RecipientOutcome) -> wire::RecipientOutcome {
    let kind = match outcome.outcome {
        Outcome::Accepted => wire::Outcome::Accepted,
        Outcome::Delivered => wire::Outcome::Delivered,
        Outcome::Deferred => wire::Outcome::Deferred,
        Outcome::Moved => wire::Outcome::Moved,
        Outcome::Bounced => wire::Outcome::Bounced,
        Outcome::Expired => wire::Outcome::Expired,
        Outcome::Dead => wire::Outcome::Dead,
        Outcome::Suspended => wire::Outcome::Suspended,
        Outcome::Deleted => wire::Outcome::Deleted,
        Outcome::Requeued => wire::Outcome::Requeued,
    };
    wire::RecipientOutcome {
        index: outcome.index,
        recipient: outcome.recipient.to_string(),
        outcome: kind.into(),
        reply: outcome.reply.as_ref().map(convert::wire_reply),
    }
}

fn outcome(outcome: wire::RecipientOutcome) -> Result<RecipientOutcome, ConvertError> {
    let kind = match wire::Outcome::try_from(outcome.outcome) {
        Ok(wire::Outcome::Accepted) => Outcome::Accepted,
        Ok(wire::Outcome::Delivered) => Outcome::Delivered,
        Ok(wire::Outcome::Deferred) => Outcome::Deferred,
        Ok(wire::Outcome::Moved) => Outcome::Moved,
        Ok(wire::Outcome::Bounced) => Outcome::Bounced,
        Ok(wire::Outcome::Expired) => Outcome::Expired,
        Ok(wire::Outcome::Dead) => Outcome::Dead,
        Ok(wire::Outcome::Suspended) => Outcome::Suspended,
        Ok(wire::Outcome::Deleted) => Outcome::Deleted,
        Ok(wire::Outcome::Requeued) => Outcome::Requeued,
        Ok(wire::Outcome::Unspecified) | Err(_) => return Err(ConvertError::Impossible("outcome")),
    };
    Ok(RecipientOutcome {
        index: outcome.index,
        recipient: outcome.recipient.parse()?,
        outcome: kind,
        reply: outcome.reply.map(convert::reply).transpose()?,
    })
}

fn wire_move(next: &Move) -> wire::Move {
    use wire::r#move::To;
    let to = match next {
        Move::Finished => To::Finished(wire::Finished {}),
        Move::Tier { tier, reason, until, attempt, pending, last_reply } => To::Tier(wire::ToTier {
            tier: tier.to_string(),
            reason: reason.to_string(),
            until_ms: until.as_millis(),
            attempt: *attempt,
            pending: pending.clone(),
            last_reply: last_reply.as_ref().map(convert::wire_reply),
        }),
        Move::Site { site, slice } => To::Site(wire::ToSite { site: site.to_string(), slice: (*slice).into() }),
        Move::Dead { reason } => To::Dead(wire::ToDead { reason: reason.clone() }),
        Move::Hold { rule } => To::Hold(wire::ToHold { rule: rule.to_string() }),
    };
    wire::Move { to: Some(to) }
}

fn next_move(next: wire::Move) -> Result<Move, ConvertError> {
    use wire::r#move::To;
    Ok(match next.to.ok_or(ConvertError::Missing("next"))? {
        To::Finished(wire::Finished {}) => Move::Finished,
        To::Tier(tier) => Move::Tier {
            tier: tier.tier.parse()?,
            // A reason of a newer build is for people: what the mail does depends on the rest.
            reason: tier.reason.parse().unwrap_or(WaitReason::Retry),
            until: Timestamp::from_millis(tier.until_ms),
            attempt: tier.attempt,
            pending: tier.pending,
            last_reply: tier.last_reply.map(convert::reply).transpose()?,
        },
        To::Site(to) => Move::Site {
            site: to.site.parse()?,
            slice: u16::try_from(to.slice).map_err(|_| ConvertError::Impossible("slice"))?,
        },
        To::Dead(dead) => Move::Dead { reason: dead.reason },
        To::Hold(hold) => Move::Hold { rule: hold.rule.parse()? },
    })
}
