//! A packet: an envelope with its body as it travels through READY and the tiers. The part fixed at acceptance is kept as
//! the bytes it came in and copied verbatim, so that fields a newer writer added survive an older process.

use bytes::Bytes;
use postrider_model::{Body, Envelope, EnvelopeId, EnvelopeState};
use prost::Message;

use crate::convert::{self, ConvertError};
use crate::envelope::v1 as wire;

/// The version of the format that this build reads and writes.
pub const READER: u32 = 1;

/// An envelope with its body. Made by [`Packet::new`] at acceptance, then only read, re-stated and re-housed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    fixed: Bytes,
    envelope: Envelope,
    body: Body,
}

impl Packet {
    /// A fresh packet.
    pub fn new(envelope: Envelope, body: Body) -> Self {
        let fixed = convert::envelope_fixed(&envelope).encode_to_vec().into();
        Self { fixed, envelope, body }
    }

    /// Reads a record of READY or of a tier.
    ///
    /// # Errors
    /// [`ConvertError::TooNew`] if a newer build must read it, else what is wrong with it: such a record goes to the dead
    /// letters.
    pub fn decode(record: Bytes) -> Result<Self, ConvertError> {
        Self::from_wire(wire::Packet::decode(record)?)
    }

    /// What [`Packet::decode`] reads.
    pub fn encode(&self) -> Bytes {
        self.to_wire().encode_to_vec().into()
    }

    /// The envelope.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The id of this stay in a stream.
    pub fn id(&self) -> EnvelopeId {
        self.envelope.id()
    }

    /// The same packet in another state: its next hop.
    #[must_use]
    pub fn with_state(mut self, state: EnvelopeState) -> Self {
        self.envelope.state = state;
        self
    }

    /// The same packet with its body elsewhere.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The same packet in memory of its own. What is decoded shares the memory that it was received in with whatever else came
    /// with it: one of them would keep all.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.fixed = Bytes::copy_from_slice(&self.fixed);
        if let Body::Inline { bytes, .. } = &mut self.body {
            *bytes = Bytes::copy_from_slice(bytes);
        }
        self
    }

    /// Bytes that it takes in memory, about, without its body.
    pub fn weight(&self) -> usize {
        // The envelope holds most of the fixed part a second time, in pieces.
        size_of::<Self>() + 3 * self.fixed.len() + self.envelope.state.last_reply.as_ref().map_or(0, |r| r.text.len())
    }

    pub(crate) fn from_wire(packet: wire::Packet) -> Result<Self, ConvertError> {
        if packet.min_reader > READER {
            return Err(ConvertError::TooNew { needs: packet.min_reader, reads: READER });
        }
        let fixed = wire::EnvelopeFixed::decode(packet.fixed.clone())?;
        let state = packet.state.ok_or(ConvertError::Missing("state"))?;
        let body = packet.body.ok_or(ConvertError::Missing("body"))?;
        let envelope = convert::envelope(fixed, state)?;
        Ok(Self { fixed: packet.fixed, envelope, body: convert::body(body)? })
    }

    pub(crate) fn to_wire(&self) -> wire::Packet {
        wire::Packet {
            min_reader: READER,
            fixed: self.fixed.clone(),
            state: Some(convert::wire_state(&self.envelope.state)),
            body: Some(convert::wire_body(&self.body)),
        }
    }
}

/// Encodes a record of INTAKE.
pub fn encode_intake(parts: &[Packet]) -> Bytes {
    let intake = wire::Intake { min_reader: READER, parts: parts.iter().map(Packet::to_wire).collect() };
    intake.encode_to_vec().into()
}

/// Reads a record of INTAKE.
///
/// # Errors
/// As [`Packet::decode`].
pub fn decode_intake(record: Bytes) -> Result<Vec<Packet>, ConvertError> {
    let intake = wire::Intake::decode(record)?;
    if intake.min_reader > READER {
        return Err(ConvertError::TooNew { needs: intake.min_reader, reads: READER });
    }
    intake.parts.into_iter().map(Packet::from_wire).collect()
}

#[cfg(test)]
mod tests {
    use postrider_model::{BodyRef, Class, MessageId, Reply, ReversePath, Timestamp};

    use super::*;

    fn packet() -> Packet {
        let envelope = Envelope {
            message: MessageId::new(Timestamp::from_millis(1_763_786_400_123), [9; 10]),
            part: 3,
            tenant: "acme".parse().unwrap(),
            class: Class::Transactional,
            campaign: Some("Spring sale".parse().unwrap()),
            pool: None,
            sender: ReversePath::Null,
            recipients: vec!["a@example.net".parse().unwrap(), "δ@example.net".parse().unwrap()],
            arrival: Timestamp::from_millis(1_763_786_400_123),
            not_before: None,
            expiry: Timestamp::from_millis(1_764_132_000_123),
            header_message_id: "x@acme.example".to_owned(),
            from_domain: Some("acme.example".parse().unwrap()),
            size_bytes: 12,
            eight_bit: true,
            smtputf8: true,
            metadata: vec![("order".to_owned(), "17".to_owned())],
            state: EnvelopeState {
                hop: 2,
                attempt: 1,
                site: "example.net".parse().unwrap(),
                slice: 0,
                pending: vec![1],
                last_reply: Some(Reply::new(451, "4.7.1".parse().ok(), "later")),
            },
        };
        Packet::new(envelope, Body::Inline { bytes: Bytes::from_static(b"hello\r\n"), compressed: false })
    }

    #[test]
    fn a_packet_comes_back_as_it_was() {
        let packet = packet();
        assert_eq!(Packet::decode(packet.encode()).unwrap(), packet);
        let stored = packet.with_body(Body::Stored(BodyRef {
            stream: 1,
            sequences: vec![5, 6],
            length: 9,
            hash: 8,
            compressed: true,
            shared: true,
            parts: 3,
        }));
        assert_eq!(Packet::decode(stored.encode()).unwrap(), stored);
        assert_eq!(decode_intake(encode_intake(std::slice::from_ref(&stored))).unwrap(), [stored]);
    }

    #[test]
    fn an_outline_says_whose_it_is_and_who_waits() {
        let outline = crate::Outline::decode(packet().encode()).unwrap();
        let id = packet().id();
        assert_eq!((outline.message, outline.part, outline.hop), (id.message, id.part, id.hop));
        assert_eq!((outline.tenant.as_str(), outline.pending.as_slice()), ("acme", [1].as_slice()));
        assert_eq!(crate::Outline::decode_intake(encode_intake(&[packet()])).unwrap(), [outline]);
    }

    #[test]
    fn fields_of_a_newer_writer_survive_a_hop() {
        let mut newer = packet().to_wire();
        let mut fixed = newer.fixed.to_vec();
        fixed.extend_from_slice(&[0xfa, 0x7f, 3, b'n', b'e', b'w']); // field 2047, three bytes
        newer.fixed = fixed.clone().into();
        let read = Packet::decode(newer.encode_to_vec().into()).unwrap();
        let state = EnvelopeState { hop: 3, ..read.envelope().state.clone() };
        assert_eq!(read.with_state(state).to_wire().fixed, fixed);
    }

    #[test]
    fn what_an_older_reader_must_not_touch_is_told_apart() {
        let mut newer = packet().to_wire();
        newer.min_reader = READER + 1;
        let error = Packet::decode(newer.encode_to_vec().into()).unwrap_err();
        assert!(matches!(error, ConvertError::TooNew { .. }), "{error}");
    }

    #[test]
    fn an_envelope_without_living_recipients_is_impossible() {
        let mut broken = packet().to_wire();
        broken.state.as_mut().unwrap().pending = vec![2];
        let error = Packet::decode(broken.encode_to_vec().into()).unwrap_err();
        assert_eq!(error.to_string(), "field pending has an impossible value");
    }
}
