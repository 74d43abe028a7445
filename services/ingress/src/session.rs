//! One connection: the driver of the SMTP machine. Reads, writes, does the TLS handshake and keeps time; what to say is the
//! machine's business, what to allow that of `answers`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postrider_model::{CredentialName, EnhancedCode, Reply};
use postrider_smtp::{Phase, Question, Server, ServerStep};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::ingress::Shared;
use crate::listener::Listener;
use crate::refusal::{Because, Refusal};
use crate::room::Held;

mod answers;

mod link;
use link::Link;

mod pace;
use pace::Pace;

/// Replies are gathered up to this many bytes before they are written.
const GATHERED_BYTES: usize = 16 * 1024;

/// What is read at once: little between messages, so that idle sessions are cheap, and much within one.
const COMMAND_READ_BYTES: usize = 2 * 1024;
const DATA_READ_BYTES: usize = 64 * 1024;

/// One SMTP session.
pub(crate) struct Session {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    peer: SocketAddr,
    server: Server,
    pace: Pace,
    /// What is held of the room for messages.
    held: Held,
    /// Who has authenticated.
    credential: Option<CredentialName>,
    /// TLS version and cipher suite, once it is on.
    tls: Option<String>,
    shutdown: CancellationToken,
    /// Whether the machine knows of the shutdown.
    told: bool,
}

/// Why a session ended before its machine said so.
enum Broken {
    /// The connection failed or the client does not take what we say.
    Link(io::Error),
    /// There is no room for the message that it is sending.
    NoRoom,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        listener: Arc<Listener>,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Self {
        let server = Server::new(listener.smtp.clone(), shared.bounds.clone());
        let pace = Pace::new(&shared.config.timeouts, Instant::now());
        Self {
            shared,
            listener,
            peer,
            server,
            pace,
            held: Held::default(),
            credential: None,
            tls: None,
            shutdown,
            told: false,
        }
    }

    /// Speaks until one side ends it.
    pub(crate) async fn run(mut self, stream: TcpStream) {
        let (listener, peer) = (Arc::clone(&self.listener), self.peer);
        tracing::debug!(listener = &*listener.name, %peer, "session begins");
        match self.speak(stream).await {
            Ok(()) => tracing::debug!(listener = &*listener.name, %peer, "session ends"),
            Err(Broken::Link(error)) => {
                tracing::debug!(listener = &*listener.name, %peer, %error, "session breaks off")
            }
            Err(Broken::NoRoom) => tracing::debug!(listener = &*listener.name, %peer, "no room for its message"),
        }
    }

    async fn speak(&mut self, stream: TcpStream) -> Result<(), Broken> {
        let mut link = if self.listener.is_implicit() {
            self.start_tls(Link::new(stream)?).await?
        } else {
            let (link, early) = Link::with_early_bytes(stream)?;
            if !early.is_empty() {
                self.count(Because::EarlyTalker);
                self.server.receive(&early);
            }
            link
        };
        let mut replies = BytesMut::new();
        loop {
            let step = self.server.step();
            if !matches!(step, ServerStep::Read { .. }) {
                self.pace.progressed();
            }
            match step {
                ServerStep::Send(bytes) => {
                    replies.extend_from_slice(&bytes);
                    if replies.len() >= GATHERED_BYTES {
                        self.flush(&mut link, &mut replies).await?;
                    }
                }
                ServerStep::Ask(question) => {
                    // What may take long must not hold back replies that are due.
                    let may_wait = matches!(question, Question::Mail { .. }) && self.shared.strain.is_strained();
                    if may_wait || matches!(question, Question::Authenticate { .. } | Question::Message(_)) {
                        self.flush(&mut link, &mut replies).await?;
                    }
                    let verdict = self.answer(question).await;
                    self.server.answer(verdict);
                }
                ServerStep::StartTls => {
                    self.flush(&mut link, &mut replies).await?;
                    link = self.start_tls(link).await?;
                    self.server.tls_started();
                }
                ServerStep::Read { phase } => {
                    self.flush(&mut link, &mut replies).await?;
                    if let Err(broken) = self.read(&mut link, phase).await {
                        self.break_off(&mut link, &broken).await;
                        return Err(broken);
                    }
                }
                ServerStep::Close => {
                    self.flush(&mut link, &mut replies).await?;
                    link.close().await;
                    return Ok(());
                }
            }
        }
    }

    async fn flush(&self, link: &mut Link, replies: &mut BytesMut) -> io::Result<()> {
        if replies.is_empty() {
            return Ok(());
        }
        let patience = Duration::from_secs(self.shared.config.timeouts.write_secs);
        timeout(patience, link.write(replies))
            .await
            .map_err(|_| took_too_long("the client does not read replies"))??;
        replies.clear();
        Ok(())
    }

    async fn start_tls(&mut self, link: Link) -> io::Result<Link> {
        let acceptor = self.listener.tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let patience = Duration::from_secs(self.shared.config.timeouts.handshake_secs);
        let secured = tokio::select! {
            secured = timeout(patience, link.secure(acceptor)) => secured,
            () = self.shutdown.cancelled() => return Err(io::ErrorKind::Interrupted.into()),
        };
        let link = secured.map_err(|_| took_too_long("TLS handshake"))??;
        self.tls = link.tls();
        Ok(link)
    }

    async fn read(&mut self, link: &mut Link, phase: Phase) -> Result<(), Broken> {
        let most = if phase == Phase::Data { DATA_READ_BYTES } else { COMMAND_READ_BYTES };
        if phase == Phase::Data {
            let needed = self.server.buffered_bytes().saturating_add(most);
            self.shared.room.cover(&mut self.held, needed).await.map_err(|_| Broken::NoRoom)?;
        } else {
            self.held.release();
        }
        let deadline = self.pace.deadline(phase, Instant::now());
        let read = tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if !self.told => {
                self.told = true;
                self.server.shut_down();
                return Ok(());
            }
            read = timeout_at(deadline, link.read(most)) => read,
        };
        match read {
            Ok(Ok([])) => self.server.end_of_stream(),
            Ok(Ok(bytes)) => {
                self.pace.received(bytes.len());
                self.server.receive(bytes);
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                self.count(Because::Slow);
                self.server.timed_out();
            }
        }
        Ok(())
    }

    /// Says why a message cannot be taken to its end, where the machine has no say.
    async fn break_off(&self, link: &mut Link, broken: &Broken) {
        match broken {
            Broken::Link(_) => {}
            Broken::NoRoom => {
                let line = format!("{}\r\n", self.no_room(421).reply);
                if timeout(Duration::from_secs(1), link.write(line.as_bytes())).await.is_ok() {
                    link.close().await;
                }
            }
        }
    }

    /// There is no room among the bytes in flight.
    fn no_room(&self, code: u16) -> Refusal {
        self.count(Because::Room);
        let text = "Too much mail at once, try again in a minute";
        Refusal { reply: Reply::new(code, Some(EnhancedCode(4, 3, 1)), text), because: Because::Room }
    }

    fn count(&self, because: Because) {
        self.shared.metrics.refused(&self.listener.name, because);
    }
}

fn took_too_long(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}
