//! Wire formats in protobuf and their conversions to the types of `postrider-model`. Formats are never used as domain
//! types: what comes off the wire is parsed, and a parse can fail.

/// Generated from `postrider/envelope/v1`.
pub mod envelope {
    /// Version 1.
    #[allow(missing_docs, reason = "generated; the documentation stands in the .proto file")]
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("postrider.envelope.v1");
    }
}

/// Generated from `postrider/event/v1`.
pub mod event {
    /// Version 1.
    #[allow(missing_docs, reason = "generated; the documentation stands in the .proto file")]
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("postrider.event.v1");
    }
}

/// Generated from `postrider/config/v1`.
pub mod config {
    /// Version 1.
    #[allow(missing_docs, reason = "generated; the documentation stands in the .proto file")]
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("postrider.config.v1");
    }
}

/// Generated from `postrider/control/v1`.
pub mod control {
    /// Version 1.
    #[allow(missing_docs, reason = "generated; the documentation stands in the .proto file")]
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("postrider.control.v1");
    }
}

/// Generated from `postrider/egress/v1`.
pub mod egress {
    /// Version 1.
    #[allow(missing_docs, reason = "generated; the documentation stands in the .proto file")]
    #[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
    pub mod v1 {
        tonic::include_proto!("postrider.egress.v1");
    }
}

/// The encoded file descriptors of all of it, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

mod convert;
pub use convert::{ConvertError, class, message_id, wire_class, wire_message_id};

mod packet;
pub use packet::{Packet, READER, decode_intake, encode_intake};

mod outline;
pub use outline::Outline;

mod record;
pub use record::hop_and_move;

mod configuration;

mod rule;
