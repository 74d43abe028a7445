//! Conversions of envelopes between the wire and the model. Parsing is strict: a record that no build of ours can have
//! written is an error that says which field is wrong.

use bytes::Bytes;
use postrider_model::{
    AddressError, Body, BodyRef, Class, EnhancedCode, Envelope, EnvelopeState, MessageId, NameError, Reply, Timestamp,
};
use thiserror::Error;

use crate::envelope::v1 as wire;

/// Why a record could not be read.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// Not protobuf of this kind.
    #[error("not a record of this kind: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A newer build wrote it.
    #[error("the record needs reader version {needs}, this build reads up to {reads}")]
    TooNew {
        /// What the record asks for.
        needs: u32,
        /// What this build is.
        reads: u32,
    },
    /// A field that must be there is not.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A field holds what it cannot hold.
    #[error("field {0} has an impossible value")]
    Impossible(&'static str),
    /// A name is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An address is malformed.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// An empty text is an absent value.
pub(crate) fn optional<T: std::str::FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

pub(crate) fn text<T: std::fmt::Display>(value: Option<&T>) -> String {
    value.map(T::to_string).unwrap_or_default()
}

/// Reads a message id of 16 bytes.
pub fn message_id(bytes: &Bytes) -> Result<MessageId, ConvertError> {
    let bytes = <[u8; 16]>::try_from(bytes.as_ref()).map_err(|_| ConvertError::Impossible("message_id"))?;
    Ok(MessageId::from_bytes(bytes))
}

/// Writes a message id as 16 bytes.
pub fn wire_message_id(id: &MessageId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// Reads a class.
pub fn class(value: i32) -> Result<Class, ConvertError> {
    match wire::Class::try_from(value) {
        Ok(wire::Class::Transactional) => Ok(Class::Transactional),
        Ok(wire::Class::Bulk) => Ok(Class::Bulk),
        Ok(wire::Class::Unspecified) | Err(_) => Err(ConvertError::Impossible("class")),
    }
}

/// Writes a class.
pub fn wire_class(class: Class) -> wire::Class {
    match class {
        Class::Transactional => wire::Class::Transactional,
        Class::Bulk => wire::Class::Bulk,
    }
}

pub(crate) fn metadata(pairs: Vec<wire::Metadata>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

pub(crate) fn wire_metadata(pairs: &[(String, String)]) -> Vec<wire::Metadata> {
    pairs.iter().map(|(key, value)| wire::Metadata { key: key.clone(), value: value.clone() }).collect()
}

pub(crate) fn reply(reply: wire::Reply) -> Result<Reply, ConvertError> {
    let code = u16::try_from(reply.code).map_err(|_| ConvertError::Impossible("code"))?;
    let enhanced = optional::<EnhancedCode>(&reply.enhanced).map_err(|()| ConvertError::Impossible("enhanced"))?;
    Ok(Reply::new(code, enhanced, &reply.text))
}

pub(crate) fn wire_reply(reply: &Reply) -> wire::Reply {
    wire::Reply { code: reply.code.into(), enhanced: text(reply.enhanced.as_ref()), text: reply.text.clone() }
}

pub(crate) fn envelope_fixed(envelope: &Envelope) -> wire::EnvelopeFixed {
    wire::EnvelopeFixed {
        message_id: wire_message_id(&envelope.message),
        part: envelope.part,
        tenant: envelope.tenant.to_string(),
        class: wire_class(envelope.class).into(),
        campaign: text(envelope.campaign.as_ref()),
        pool: text(envelope.pool.as_ref()),
        sender: envelope.sender.to_string(),
        recipients: envelope.recipients.iter().map(ToString::to_string).collect(),
        arrival_ms: envelope.arrival.as_millis(),
        not_before_ms: envelope.not_before.map_or(0, Timestamp::as_millis),
        expiry_ms: envelope.expiry.as_millis(),
        header_message_id: envelope.header_message_id.clone(),
        from_domain: text(envelope.from_domain.as_ref()),
        size_bytes: envelope.size_bytes,
        eight_bit: envelope.eight_bit,
        smtputf8: envelope.smtputf8,
        metadata: wire_metadata(&envelope.metadata),
    }
}

pub(crate) fn wire_state(state: &EnvelopeState) -> wire::EnvelopeState {
    wire::EnvelopeState {
        hop: state.hop,
        attempt: state.attempt,
        site: state.site.to_string(),
        slice: state.slice.into(),
        pending: state.pending.clone(),
        last_reply: state.last_reply.as_ref().map(wire_reply),
    }
}

pub(crate) fn envelope(fixed: wire::EnvelopeFixed, state: wire::EnvelopeState) -> Result<Envelope, ConvertError> {
    let recipients = fixed.recipients.iter().map(|r| r.parse()).collect::<Result<Vec<_>, _>>()?;
    let known = |&index: &u32| usize::try_from(index).is_ok_and(|index| index < recipients.len());
    if recipients.is_empty() || state.pending.is_empty() || !state.pending.iter().all(known) {
        return Err(ConvertError::Impossible("pending"));
    }
    Ok(Envelope {
        message: message_id(&fixed.message_id)?,
        part: fixed.part,
        tenant: fixed.tenant.parse()?,
        class: class(fixed.class)?,
        campaign: optional(&fixed.campaign)?,
        pool: optional(&fixed.pool)?,
        sender: fixed.sender.parse()?,
        recipients,
        arrival: Timestamp::from_millis(fixed.arrival_ms),
        not_before: Some(Timestamp::from_millis(fixed.not_before_ms)).filter(|_| fixed.not_before_ms > 0),
        expiry: Timestamp::from_millis(fixed.expiry_ms),
        header_message_id: fixed.header_message_id,
        from_domain: optional(&fixed.from_domain)?,
        size_bytes: fixed.size_bytes,
        eight_bit: fixed.eight_bit,
        smtputf8: fixed.smtputf8,
        metadata: metadata(fixed.metadata),
        state: EnvelopeState {
            hop: state.hop,
            attempt: state.attempt,
            site: state.site.parse()?,
            slice: u16::try_from(state.slice).map_err(|_| ConvertError::Impossible("slice"))?,
            pending: state.pending,
            last_reply: state.last_reply.map(reply).transpose()?,
        },
    })
}

pub(crate) fn body(body: wire::packet::Body) -> Result<Body, ConvertError> {
    match body {
        wire::packet::Body::Inline(inline) => Ok(Body::Inline { bytes: inline.bytes, compressed: inline.compressed }),
        wire::packet::Body::Stored(stored) => body_ref(stored).map(Body::Stored),
    }
}

pub(crate) fn body_ref(stored: wire::BodyRef) -> Result<BodyRef, ConvertError> {
    Ok(BodyRef {
        stream: u8::try_from(stored.stream).map_err(|_| ConvertError::Impossible("stream"))?,
        sequences: stored.sequences,
        length: stored.length,
        hash: stored.hash,
        compressed: stored.compressed,
        shared: stored.shared,
        parts: stored.parts,
    })
}

pub(crate) fn wire_body_ref(stored: &BodyRef) -> wire::BodyRef {
    wire::BodyRef {
        stream: stored.stream.into(),
        sequences: stored.sequences.clone(),
        length: stored.length,
        hash: stored.hash,
        compressed: stored.compressed,
        shared: stored.shared,
        parts: stored.parts,
    }
}

pub(crate) fn wire_body(body: &Body) -> wire::packet::Body {
    match body {
        Body::Inline { bytes, compressed } => {
            wire::packet::Body::Inline(wire::InlineBody { bytes: bytes.clone(), compressed: *compressed })
        }
        Body::Stored(stored) => wire::packet::Body::Stored(wire_body_ref(stored)),
    }
}
