//! SMTP as two machines without IO, clock or logging: [`Server`] and [`Client`]. Bytes and answers go in, the one next
//! thing to do comes out of `step()`; sockets, TLS, deadlines and policy belong to the caller.
//!
//! # The server's driver
//!
//! ```text
//! loop {
//!     match server.step() {
//!         Send(bytes)    => write all of it
//!         Ask(question)  => server.answer(verdict)
//!         StartTls       => handshake on the socket, then server.tls_started()
//!         Read { phase } => read once within the deadline of that phase, then server.receive(bytes),
//!                           or server.end_of_stream(), or server.timed_out()
//!         Close          => close the socket, done
//!     }
//! }
//! ```
//!
//! # The client's driver
//!
//! The same loop over [`ClientStep`]; at `Ready` it waits for work ([`Client::transact`]), says goodbye
//! ([`Client::quit`]), or hands in what the idle server says.

mod bounds;
pub use bounds::Bounds;

mod secret;
pub use secret::Secret;

mod text;

mod server;
pub use server::{
    AuthOffer, MailParameters, Mechanism, Phase, Question, Server, ServerConfig, ServerStep, Submission, TlsOffer,
    Verdict,
};

mod client;
pub use client::{
    Capabilities, Client, ClientConfig, ClientPhase, ClientStep, CloseReason, RecipientResult, TlsWish, Transaction,
    TransactionResult,
};
