//! The client's side of a session as a machine: replies and transactions in, steps out. It never opens a socket, reads a
//! clock or retries.

mod interface;
pub use interface::{
    ClientConfig, ClientPhase, ClientStep, CloseReason, RecipientResult, TlsWish, Transaction, TransactionResult,
};

mod capabilities;
pub use capabilities::Capabilities;

use crate::Bounds;

/// One connection of an SMTP or LMTP client.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    bounds: Bounds,
    capabilities: Capabilities,
}

impl Client {
    /// A client on a connection that was just made.
    pub fn new(config: ClientConfig, bounds: Bounds) -> Self {
        Self { config, bounds, capabilities: Capabilities::default() }
    }

    /// Hands in what was read.
    pub fn receive(&mut self, bytes: &[u8]) {
        let _ = (bytes, &self.config, &self.bounds);
    }

    /// The one next thing to do.
    pub fn step(&mut self) -> ClientStep {
        ClientStep::Close(CloseReason::Finished)
    }

    /// Sends a message. Only at [`ClientStep::Ready`]; at another time its recipients are lost at once.
    pub fn transact(&mut self, transaction: Transaction) {
        drop(transaction);
    }

    /// The handshake that [`ClientStep::StartTls`] asked for has succeeded.
    pub fn tls_started(&mut self) {}

    /// The handshake failed.
    pub fn tls_failed(&mut self) {}

    /// The server closed its side, or writing failed.
    pub fn end_of_stream(&mut self) {}

    /// The reply, or room for writing, did not come in time.
    pub fn timed_out(&mut self) {}

    /// Says QUIT. Only at [`ClientStep::Ready`]; at another time the connection is given up without it.
    pub fn quit(&mut self) {}

    /// Which reply is waited for, or what is being sent.
    pub fn phase(&self) -> ClientPhase {
        ClientPhase::Greeting
    }

    /// What the server said it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether TLS was started by this machine.
    pub fn is_tls(&self) -> bool {
        false
    }
}
