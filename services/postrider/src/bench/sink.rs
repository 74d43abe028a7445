//! The receiver at the end of the line: takes everything, keeps nothing, counts. A thread a connection; content is only looked
//! through for its end, so that this never is the slowest part.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use memchr::memmem;
use postrider_net::tls::{self, ServerCertificate};
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::ledger::{Ledger, Mark};
use super::wire::Wire;

/// A running sink.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Mutex<Arc<Ledger>>,
    tls: Option<Arc<ServerConfig>>,
    stop: CancellationToken,
}

/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(3_600);

impl Sink {
    /// Listens on `address` (port 0: a free one), with STARTTLS if so asked.
    ///
    /// # Errors
    /// If the address cannot be bound, or no certificate made.
    pub fn start(address: SocketAddr, with_tls: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("the sink cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let tls = match with_tls {
            true => Some(certificate()?),
            false => None,
        };
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared { ledger: Mutex::new(Arc::new(Ledger::new(0))), tls, stop });
        let for_listener = Arc::clone(&shared);
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || listen(&listener, &for_listener))?;
        Ok(Self { address, shared })
    }

    /// Counts into this one from now on.
    pub fn count_into(&self, ledger: &Arc<Ledger>) {
        *self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(ledger);
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        // Wakes the listener, which then sees that it shall stop.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
    }
}

fn certificate() -> anyhow::Result<Arc<ServerConfig>> {
    let made = tls::self_signed(&["localhost".to_owned()])?;
    let certificate = ServerCertificate::from_pem(made.certificate_pem.as_bytes(), made.key_pem.as_bytes())?;
    Ok(tls::server_config(certificate)?)
}

fn listen(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.is_cancelled() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        let session = move || {
            if let Ok(mut wire) = Wire::over(stream, shared.stop.clone()) {
                wire.patience = IDLE;
                // How a connection ends is its peer's business.
                drop(Session::new(shared, wire).serve());
            }
        };
        if let Err(error) = std::thread::Builder::new().stack_size(256 << 10).spawn(session) {
            tracing::warn!(%error, "the sink cannot serve a connection");
        }
    }
}

const END: &[u8] = b"\r\n.\r\n";

struct Session {
    shared: Arc<Shared>,
    wire: Wire,
    buffer: Vec<u8>,
    // Bytes of the buffer that were read and are not used up.
    filled: std::ops::Range<usize>,
    mark: Mark,
}

impl Session {
    fn new(shared: Arc<Shared>, wire: Wire) -> Self {
        Self { shared, wire, buffer: vec![0; 128 << 10], filled: 0..0, mark: Mark::Foreign }
    }

    fn serve(mut self) -> anyhow::Result<()> {
        let end = memmem::Finder::new(END);
        let mut out = b"220 sink.example ESMTP\r\n".to_vec();
        let mut encrypted = false;
        loop {
            let Some(line) = self.line(&mut out)? else { return Ok(()) };
            let bytes = self.buffer.get(line.clone()).unwrap_or_default();
            let verb: [u8; 4] = std::array::from_fn(|at| bytes.get(at).map_or(b' ', u8::to_ascii_uppercase));
            match &verb {
                b"EHLO" => {
                    out.extend_from_slice(
                        b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n",
                    );
                    if self.shared.tls.is_some() && !encrypted {
                        out.extend_from_slice(b"250-STARTTLS\r\n");
                    }
                    out.extend_from_slice(b"250 SIZE 104857600\r\n");
                }
                b"RCPT" => {
                    self.mark = Mark::of_command(bytes);
                    out.extend_from_slice(b"250 2.1.5 ok\r\n");
                }
                b"DATA" => {
                    out.extend_from_slice(b"354 go on\r\n");
                    self.wire.send(&out)?;
                    out.clear();
                    let signed = self.content(&end)?;
                    let ledger = Arc::clone(&self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner));
                    if self.mark == Mark::Warm {
                        ledger.note(signed, encrypted);
                    }
                    ledger.arrive(self.mark);
                    out.extend_from_slice(b"250 2.0.0 ok\r\n");
                }
                b"STAR" => {
                    let Some(tls) = self.shared.tls.clone() else { anyhow::bail!("STARTTLS was not offered") };
                    self.wire.send(b"220 2.0.0 go on\r\n")?;
                    self.wire.start_tls_server(&tls)?;
                    encrypted = true;
                }
                b"QUIT" => {
                    out.extend_from_slice(b"221 2.0.0 bye\r\n");
                    self.wire.send(&out)?;
                    return Ok(());
                }
                _ => out.extend_from_slice(b"250 2.0.0 ok\r\n"),
            }
        }
    }

    /// The place of the next line; sends what is to be said before it waits for one. Nothing at the end.
    fn line(&mut self, out: &mut Vec<u8>) -> anyhow::Result<Option<std::ops::Range<usize>>> {
        loop {
            let unread = self.buffer.get(self.filled.clone()).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unread) {
                let line = self.filled.start..self.filled.start + at + 1;
                self.filled.start = line.end;
                return Ok(Some(line));
            }
            if !out.is_empty() {
                self.wire.send(out)?;
                out.clear();
            }
            if !self.more()? {
                return Ok(None);
            }
        }
    }

    /// Reads on, behind what is not used up. Whether something came.
    fn more(&mut self) -> anyhow::Result<bool> {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let room = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
        anyhow::ensure!(!room.is_empty(), "a line without an end");
        let read = self.wire.receive(room)?;
        self.filled.end += read;
        Ok(read > 0)
    }

    /// Reads content up to its end. Whether a message to warm up is signed.
    fn content(&mut self, end: &memmem::Finder<'_>) -> anyhow::Result<bool> {
        // Content may begin with the end: the CRLF of DATA counts (RFC 5321 section 4.1.1.4).
        let mut first = true;
        let mut signed = false;
        loop {
            let unread = self.buffer.get(self.filled.clone()).unwrap_or_default();
            if self.mark == Mark::Warm {
                signed |= memmem::find(unread, b"DKIM-Signature:").is_some();
            }
            if first && unread.len() >= 3 {
                first = false;
                if unread.starts_with(b".\r\n") {
                    self.filled.start += 3;
                    return Ok(signed);
                }
            }
            if let Some(at) = end.find(unread) {
                self.filled.start += at + END.len();
                return Ok(signed);
            }
            // All but what may be the beginning of the end is used up.
            if !first {
                self.filled.start = self.filled.end.saturating_sub(END.len() - 1).max(self.filled.start);
            }
            anyhow::ensure!(self.more()?, "the connection ended within a message");
        }
    }
}
