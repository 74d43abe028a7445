//! An outline: what a count needs of a packet. Bodies and recipients are skipped, not read.

use bytes::Bytes;
use postrider_model::MessageId;
use prost::Message;

use crate::convert::{self, ConvertError};
use crate::envelope::v1 as wire;

/// Whose a packet is, and who of its recipients still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The message.
    pub message: MessageId,
    /// The part of it.
    pub part: u32,
    /// How often it has moved.
    pub hop: u32,
    /// Whose mail it is.
    pub tenant: String,
    /// Positions of the recipients that wait.
    pub pending: Vec<u32>,
}

impl Outline {
    /// Reads a record of READY, of a tier, of HOLD or of DEAD, whatever its version.
    ///
    /// # Errors
    /// If it is no packet.
    pub fn decode(record: Bytes) -> Result<Self, ConvertError> {
        Self::from_wire(wire::PacketOutline::decode(record)?)
    }

    /// Reads the parts of a record of INTAKE.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode_intake(record: Bytes) -> Result<Vec<Self>, ConvertError> {
        wire::IntakeOutline::decode(record)?.parts.into_iter().map(Self::from_wire).collect()
    }

    fn from_wire(packet: wire::PacketOutline) -> Result<Self, ConvertError> {
        let fixed = packet.fixed.ok_or(ConvertError::Missing("fixed"))?;
        let state = packet.state.ok_or(ConvertError::Missing("state"))?;
        Ok(Self {
            message: convert::message_id(&fixed.message_id)?,
            part: fixed.part,
            hop: state.hop,
            tenant: fixed.tenant,
            pending: state.pending,
        })
    }
}
