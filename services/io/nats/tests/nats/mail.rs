//! Envelopes, packets and records to send around.

use bytes::Bytes;
use postrider_model::{
    Body, Class, Envelope, EnvelopeState, MessageId, Outcome, RecipientOutcome, Record, ReversePath, ShardId, Timestamp,
};
use postrider_proto::Packet;

/// A message id that differs with `n`.
pub fn message(n: u64) -> MessageId {
    let mut random = [0u8; 10];
    random[2..].copy_from_slice(&n.to_be_bytes());
    MessageId::new(Timestamp::from_millis(1_763_786_400_000 + n), random)
}

pub fn envelope(n: u64, class: Class, site: &str) -> Envelope {
    Envelope {
        message: message(n),
        part: 0,
        tenant: "acme".parse().unwrap(),
        class,
        campaign: None,
        pool: None,
        sender: ReversePath::Null,
        recipients: vec![format!("user{n}@{site}").parse().unwrap()],
        arrival: Timestamp::from_millis(1_763_786_400_000),
        not_before: None,
        expiry: Timestamp::from_millis(1_764_132_000_000),
        header_message_id: format!("{n}@acme.example"),
        from_domain: None,
        size_bytes: 5,
        eight_bit: false,
        smtputf8: false,
        metadata: Vec::new(),
        state: EnvelopeState {
            hop: 0,
            attempt: 0,
            site: site.parse().unwrap(),
            slice: 0,
            pending: vec![0],
            last_reply: None,
        },
    }
}

pub fn body(text: &'static str) -> Body {
    Body::Inline { bytes: Bytes::from_static(text.as_bytes()), compressed: false }
}

/// Transactional mail lies in one shard, t00, in the small layout.
pub fn transactional(n: u64) -> Packet {
    Packet::new(envelope(n, Class::Transactional, "example.net"), body("hello"))
}

/// The same packet, one hop on.
pub fn moved(packet: &Packet) -> Packet {
    let state = packet.envelope().state.clone();
    packet.clone().with_state(EnvelopeState { hop: state.hop + 1, ..state })
}

pub fn shard(text: &str) -> ShardId {
    text.parse().unwrap()
}

pub fn record(n: u64, shard: ShardId, at: Timestamp) -> Record {
    let envelope = envelope(n, Class::Transactional, "example.net");
    Record {
        id: envelope.id(),
        at,
        shard,
        tenant: envelope.tenant.clone(),
        class: envelope.class,
        campaign: None,
        pool: None,
        site: envelope.state.site.clone(),
        sender: envelope.sender.clone(),
        header_message_id: envelope.header_message_id.clone(),
        arrival: envelope.arrival,
        size_bytes: 5,
        body: None,
        metadata: Vec::new(),
        attempt: None,
        outcomes: vec![RecipientOutcome {
            index: 0,
            recipient: envelope.recipients[0].clone(),
            outcome: Outcome::Accepted,
            reply: None,
        }],
        next: None,
    }
}
