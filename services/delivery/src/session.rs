//! One connection to an exchanger: drives the client machine over a socket. Every reply has a deadline that dripped bytes
//! do not move. It decides nothing about mail.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postrider_smtp::{Client, ClientPhase, ClientStep, CloseReason, Transaction, TransactionResult};
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::fence::SharedFence;
use crate::link::Link;

/// How a connection is made and how long it may take.
#[derive(Clone)]
pub struct SessionSettings {
    /// The TLS of the client's side.
    pub tls: Arc<ClientConfig>,
    /// No reply is waited for longer than this, however long its phase would allow.
    pub longest_reply: Duration,
    /// No transaction takes longer than this in all.
    pub longest_transaction: Duration,
    /// Looked at right before a body is sent.
    pub fence: SharedFence,
}

/// A connection with its machine.
pub struct Session {
    client: Client,
    link: Link,
    buffer: BytesMut,
    settings: SessionSettings,
    server_name: ServerName<'static>,
    phase: (ClientPhase, Instant),
    /// The TLS version and suite; empty without.
    pub tls: String,
}

/// What the machine has come to.
pub enum Progress {
    /// Idle.
    Ready,
    /// A transaction has ended.
    Done(TransactionResult),
    /// The connection is over.
    Closed(CloseReason),
}

impl Session {
    /// A session over a fresh connection; the greeting has not been read.
    pub fn new(client: Client, link: Link, server_name: ServerName<'static>, settings: SessionSettings) -> Self {
        let phase = (ClientPhase::Greeting, Instant::now());
        Self { client, link, buffer: BytesMut::with_capacity(4096), settings, server_name, phase, tls: String::new() }
    }

    /// Goes on until the machine is idle, has a result, or the connection is over.
    pub async fn advance(&mut self) -> Progress {
        loop {
            match self.client.step() {
                ClientStep::Send(bytes) => self.send(&bytes).await,
                ClientStep::StartTls => self.start_tls().await,
                ClientStep::Read { phase } => self.read(phase).await,
                ClientStep::Ready => return Progress::Ready,
                ClientStep::Done(result) => return Progress::Done(result),
                ClientStep::Close(reason) => return Progress::Closed(reason),
            }
        }
    }

    /// Sends a message. Only when idle. A transaction that takes too long ends as a lost connection.
    pub async fn transact(&mut self, transaction: Transaction) -> Progress {
        self.client.transact(transaction);
        match tokio::time::timeout(self.settings.longest_transaction, self.advance()).await {
            Ok(progress) => progress,
            Err(_) => {
                self.client.timed_out();
                self.link = Link::Broken;
                self.advance().await
            }
        }
    }

    /// Waits, idle, until the server says something or closes; then the connection is over or idle again.
    pub async fn listen(&mut self) -> Progress {
        match self.link.read(&mut self.buffer).await {
            Ok(0) | Err(_) => self.client.end_of_stream(),
            Ok(_) => {
                self.client.receive(&self.buffer);
                self.buffer.clear();
            }
        }
        self.advance().await
    }

    /// Says QUIT and closes, within seconds.
    pub async fn quit(mut self) {
        self.client.quit();
        if tokio::time::timeout(ClientPhase::Quit.timeout(), self.advance()).await.is_err() {
            tracing::debug!("no reply to QUIT in time");
        }
    }

    fn deadline(&mut self, phase: ClientPhase) -> Instant {
        if self.phase.0 != phase {
            self.phase = (phase, Instant::now());
        }
        self.phase.1 + phase.timeout().min(self.settings.longest_reply)
    }

    async fn send(&mut self, bytes: &[u8]) {
        let phase = self.client.phase();
        if phase == ClientPhase::DataEnd && !self.settings.fence.may_act() {
            // Frozen since the message began: others may send it by now. Without its end it is no message.
            self.link = Link::Broken;
            return self.client.end_of_stream();
        }
        let limit = phase.timeout().min(self.settings.longest_reply);
        // Each block that goes out begins the wait anew: the deadline of a phase is for what the server owes us.
        self.phase = (phase, Instant::now());
        match tokio::time::timeout(limit, self.link.write(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.drain().await,
            Err(_) => self.client.timed_out(),
        }
    }

    /// The server closed while we wrote: what it said before is worth more than "lost".
    async fn drain(&mut self) {
        let last_words = async {
            while self.link.read(&mut self.buffer).await.is_ok_and(|count| count > 0) && self.buffer.len() < 64 * 1024 {
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), last_words).await.is_err() {
            tracing::debug!("the server neither took nor said more");
        }
        self.client.receive(&self.buffer);
        self.buffer.clear();
        self.client.end_of_stream();
    }

    async fn read(&mut self, phase: ClientPhase) {
        let deadline = self.deadline(phase);
        match tokio::time::timeout_at(deadline, self.link.read(&mut self.buffer)).await {
            Ok(Ok(0) | Err(_)) => self.client.end_of_stream(),
            Ok(Ok(_)) => {
                self.client.receive(&self.buffer);
                self.buffer.clear();
                // The next reply has a deadline of its own; a part of this one has not.
                if self.client.phase() != phase {
                    self.phase = (self.client.phase(), Instant::now());
                }
            }
            Err(_) => self.client.timed_out(),
        }
    }

    async fn start_tls(&mut self) {
        let limit = ClientPhase::StartTls.timeout().min(self.settings.longest_reply);
        let handshake = self.link.start_tls(&self.settings.tls, self.server_name.clone());
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok(())) => {
                self.tls = self.link.tls();
                self.client.tls_started();
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                self.client.tls_failed();
            }
            Err(_) => self.client.tls_failed(),
        }
    }
}
