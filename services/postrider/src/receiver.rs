//! `postrider receiver`: a fast SMTP sink that plays a mailbox provider for tests, demos and rehearsals of rules. It keeps a
//! ledger of what it accepted, so that a test proves nothing lost and counts what came twice; it never delivers anything.
//!
//! # What a recipient's name does
//!
//! The local part decides, up to a `+` (so `defer2+anything@any.example` is `defer2`), whatever the domain. Each recipient
//! of a transaction gets its own reply; of those that act at the end of the data, the first in this table wins.
//!
//! | local part | what happens |
//! | --- | --- |
//! | `disconnect-end` | the connection drops instead of the reply to the end of the data; nothing is kept |
//! | `hang-data` | the end of the data is never answered |
//! | `refuse-data` | 554 5.7.1 to the end of the data |
//! | `defer-data`, `defer2-data` | 451 4.7.1 to the end of the data: always, or the first two times for this recipient and message |
//! | `delay-3` | the reply to the end of the data comes 3 seconds late |
//! | `disconnect-after` | accepts, and drops the connection right behind the reply |
//! | `refuse`, `refuse-552` | 550 5.1.1 to RCPT, or the code named (400 to 599) |
//! | `defer` | 451 4.7.1 to RCPT, always |
//! | `defer2` | 451 4.7.1 to RCPT the first two times for this sender and recipient, then accepts once and counts anew |
//! | `busy` | 421 4.3.2 to RCPT, and closes |
//! | `drip`, `drip-50` | from here on replies come a byte a second, or a byte in 50 milliseconds |
//! | `hang` | RCPT is never answered |
//! | `disconnect-mail` | drops at RCPT with the reply to MAIL still unsent where the client pipelines them |
//! | `disconnect-rcpt` | drops instead of the reply to RCPT |
//! | `disconnect-data` | drops instead of the 354 |
//! | `disconnect-body` | drops when the first bytes of the message have come |
//! | `accept` and every other | accepts |
//!
//! What happens before a recipient is named (greeting, EHLO, MAIL) is the same for all of a receiver's clients:
//! [`ReceiverConfig::misbehave`]. Limits per source address and the replies of large providers: [`LimitsConfig`].
//!
//! # The ledger
//!
//! One JSON object a line for each accepted (message, recipient): [`LedgerLine`]. It is in the file before the 250 is sent.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use postrider_model::Domain;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod config;
pub use config::{Flavour, LimitsConfig, Misbehaviour, ReceiverConfig};

mod arguments;
pub use arguments::ReceiverArguments;

mod behaviour;

mod deferrals;

mod limits;

mod ledger;
pub use ledger::LedgerLine;

mod message;

mod session;

mod tls;

#[cfg(test)]
mod tests;

use deferrals::Deferrals;
use ledger::Ledger;
use limits::SourceLimits;

/// How long open sessions get to finish once a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// A bound receiver: its port is taken, its ledger open; nothing is answered before [`Receiver::run`].
pub struct Receiver {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What all sessions of one receiver share.
struct Shared {
    config: ReceiverConfig,
    host_name: Domain,
    tls: Option<tokio_rustls::TlsAcceptor>,
    limits: SourceLimits,
    deferrals: Deferrals,
    ledger: Option<Ledger>,
    connections: AtomicU64,
}

impl Receiver {
    /// Takes the port and opens the ledger and the store. The ledger is appended to.
    ///
    /// # Errors
    /// If the port is taken or a file cannot be made; the message says which.
    pub async fn bind(config: ReceiverConfig) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("receiver: cannot listen at {} (--listen takes another)", config.listen))?;
        let ledger = match &config.ledger {
            Some(path) => Some(Ledger::open(path).with_context(|| format!("receiver: ledger {}", path.display()))?),
            None => None,
        };
        if let Some(store) = &config.store {
            std::fs::create_dir_all(store).with_context(|| format!("receiver: store {}", store.display()))?;
        }
        let host_name = config.host_name.parse().context("receiver: host_name")?;
        let tls = if config.starttls { Some(tls::self_signed(&config.host_name)?) } else { None };
        let shared = Shared {
            host_name,
            tls,
            limits: SourceLimits::new(config.limits.clone()),
            deferrals: Deferrals::default(),
            ledger,
            connections: AtomicU64::new(0),
            config,
        };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens; useful if the configuration said port 0.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then lets open sessions end for a few seconds.
    ///
    /// # Errors
    /// None after it was bound: a failed accept is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let address = self.address()?;
        tracing::info!(%address, ledger = ?self.shared.config.ledger, "receiver listens");
        let sessions = TaskTracker::new();
        let cut = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    sessions.spawn(serve(Arc::clone(&self.shared), stream, peer, shutdown.clone(), cut.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "receiver: accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        sessions.close();
        if tokio::time::timeout(DRAIN, sessions.wait()).await.is_err() {
            tracing::warn!(open = sessions.len(), "receiver: sessions are cut");
            cut.cancel();
            sessions.wait().await;
        }
        Ok(())
    }
}

async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    shutdown: CancellationToken,
    cut: CancellationToken,
) {
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let ended = tokio::select! {
        ended = session::run(&shared, stream, peer, connection, shutdown) => ended,
        () = cut.cancelled() => Ok(()),
    };
    match ended {
        Ok(()) => tracing::trace!(connection, %peer, "session ended"),
        Err(error) => tracing::debug!(connection, %peer, %error, "session broke"),
    }
}

/// The main function of `postrider receiver`.
///
/// # Errors
/// If the configuration is refused or the receiver cannot be bound.
pub async fn main(arguments: ReceiverArguments, shutdown: CancellationToken) -> anyhow::Result<()> {
    let ready_file = arguments.ready_file.clone();
    let receiver = Receiver::bind(arguments.into_config()?).await?;
    if let Some(path) = ready_file {
        let text = serde_json::json!({ "address": receiver.address()?.to_string() }).to_string();
        write_whole(&path, &text).with_context(|| format!("receiver: ready file {}", path.display()))?;
    }
    receiver.run(shutdown).await
}

/// Writes a file that is never seen half.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}
