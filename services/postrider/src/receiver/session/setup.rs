//! How a session begins: the machine with the bounds of a sink, which lets through whatever a client may rightly send.

use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use postrider_model::ReversePath;
use postrider_smtp::{Bounds, Server, ServerConfig, TlsOffer};
use tokio_util::sync::CancellationToken;

use super::super::{Misbehaviour, Shared};
use super::Session;

impl<'a> Session<'a> {
    pub(super) fn new(shared: &'a Shared, source: IpAddr, connection: u64, shutdown: CancellationToken) -> Self {
        let drip = match shared.config.misbehave {
            Some(Misbehaviour::Drip) => Some(Duration::from_secs(1)),
            _ => None,
        };
        Self {
            shared,
            source,
            connection,
            shutdown,
            stopping: false,
            tls: false,
            mails: 0,
            drip,
            sender: ReversePath::Null,
            asked: Vec::new(),
            drop_after_reply: false,
            out: BytesMut::new(),
        }
    }

    /// The machine of this session.
    pub(super) fn machine(&self) -> Server {
        let shared = self.shared;
        let mut config = ServerConfig::new(shared.host_name.clone());
        "ESMTP Postrider receiver".clone_into(&mut config.banner);
        if shared.tls.is_some() {
            config.tls = TlsOffer::StartTls;
        }
        let bounds = Bounds {
            // A sink is no judge of lines: what was submitted with long ones arrives with long ones.
            text_line_bytes: shared.config.message_bytes,
            message_bytes: shared.config.message_bytes,
            recipients: shared.config.recipients,
            commands_per_session: u32::MAX,
            ..Bounds::default()
        };
        Server::new(config, bounds)
    }
}
