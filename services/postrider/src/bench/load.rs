//! The sender at the beginning of the line: so many sessions, a thread each, one message after the other over a connection that
//! stays. Built as it goes, since one that was built is sent within microseconds and a million would not fit into memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::messages::Corpus;
use super::wire::Wire;

/// A message that is refused for now is tried again after this, so many times.
const AGAIN: (Duration, u32) = (Duration::from_millis(100), 600);

/// What to send, where, how.
#[derive(Clone)]
pub struct Load {
    /// The server.
    pub server: SocketAddr,
    /// The messages.
    pub corpus: Arc<Corpus>,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Messages a second over all sessions; as many as go if there is none.
    pub rate: Option<f64>,
    /// STARTTLS first.
    pub tls: Option<Arc<ClientConfig>>,
    /// MAIL, RCPT and DATA in one write (RFC 2920); else one after the other.
    pub pipelining: bool,
    /// Bodies are not ASCII (RFC 6152).
    pub eight_bit: bool,
}

/// What became of a load.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Answers 4xx; each of these messages was tried again.
    pub deferred: usize,
}

struct Progress<'a> {
    load: &'a Load,
    ledger: &'a Ledger,
    began: Instant,
    next: AtomicUsize,
    deferred: AtomicUsize,
    // The first failure stops all sessions.
    stop: CancellationToken,
}

impl Load {
    /// Sends all messages of the ledger and waits for their answers.
    ///
    /// # Errors
    /// If a message is refused for good, a connection breaks, or the bench is stopped.
    pub fn run(&self, ledger: &Ledger, stop: &CancellationToken) -> anyhow::Result<Sent> {
        let progress = Progress {
            load: self,
            ledger,
            began: Instant::now(),
            next: AtomicUsize::new(0),
            deferred: AtomicUsize::new(0),
            stop: stop.child_token(),
        };
        let failures: Vec<anyhow::Error> = std::thread::scope(|scope| {
            let session = |_| scope.spawn(|| progress.session().inspect_err(|_| progress.stop.cancel()));
            let threads: Vec<_> = (0..self.sessions).map(session).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended
                .filter_map(|ended| ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a session panicked"))).err())
                .collect()
        });
        if stop.is_cancelled() {
            bail!("stopped");
        }
        match failures.into_iter().find(|error| !format!("{error:#}").contains("stopped")) {
            Some(error) => Err(error),
            None => Ok(Sent { deferred: progress.deferred.load(Ordering::Relaxed) }),
        }
    }

    /// Sends so many messages that do not count, over one connection.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn warm_up(&self, messages: usize, stop: &CancellationToken) -> anyhow::Result<()> {
        let next = AtomicUsize::new(0);
        let one = || -> anyhow::Result<()> {
            let mut session = Session::open(self, stop)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= messages {
                    return session.quit();
                }
                session.send(self, usize::MAX - number, &format!("w{number}"))?;
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.sessions.min(messages)).map(|_| scope.spawn(one)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a session panicked")))
        })
    }
}

impl Progress<'_> {
    fn session(&self) -> anyhow::Result<()> {
        let mut session = Session::open(self.load, &self.stop)?;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.ledger.messages() {
                return session.quit();
            }
            if let Some(rate) = self.load.rate {
                let due = self.began + Duration::from_secs_f64(number as f64 / rate.max(1e-3));
                while let wait = due.saturating_duration_since(Instant::now())
                    && !wait.is_zero()
                {
                    std::thread::sleep(wait.min(Duration::from_millis(500)));
                    if self.stop.is_cancelled() {
                        bail!("stopped");
                    }
                }
            }
            let recipient = format!("r{number}");
            let mut tries = 0;
            loop {
                match session.send(self.load, number, &recipient)? {
                    Answer::Accepted(sent) => break self.ledger.accept(number, sent),
                    Answer::NotNow(reply) => {
                        tries += 1;
                        self.deferred.fetch_add(1, Ordering::Relaxed);
                        anyhow::ensure!(tries < AGAIN.1, "refused for a minute: {reply}");
                        anyhow::ensure!(!self.stop.is_cancelled(), "stopped");
                        std::thread::sleep(AGAIN.0);
                        session = Session::open(self.load, &self.stop)?;
                    }
                }
            }
        }
    }
}

enum Answer {
    /// 250; the content had been written then.
    Accepted(Instant),
    NotNow(String),
}

struct Session {
    wire: Wire,
    buffer: Vec<u8>,
    filled: std::ops::Range<usize>,
    message: Vec<u8>,
}

impl Session {
    fn open(load: &Load, stop: &CancellationToken) -> anyhow::Result<Self> {
        let wire = Wire::connect(load.server, stop.clone())?;
        let mut session = Self { wire, buffer: vec![0; 4 << 10], filled: 0..0, message: Vec::new() };
        session.expect("220")?;
        session.command("EHLO load.example\r\n", "250")?;
        if let Some(tls) = &load.tls {
            session.command("STARTTLS\r\n", "220")?;
            session.wire.start_tls_client(tls)?;
            session.command("EHLO load.example\r\n", "250")?;
        }
        Ok(session)
    }

    fn quit(&mut self) -> anyhow::Result<()> {
        self.command("QUIT\r\n", "221")
    }

    fn command(&mut self, line: &str, code: &str) -> anyhow::Result<()> {
        self.wire.send(line.as_bytes())?;
        self.expect(code)
    }

    fn expect(&mut self, code: &str) -> anyhow::Result<()> {
        let reply = self.reply()?;
        anyhow::ensure!(reply.starts_with(code), "{code} was expected: {reply}");
        Ok(())
    }

    fn send(&mut self, load: &Load, number: usize, local_part: &str) -> anyhow::Result<Answer> {
        let recipient = format!("{local_part}@{}", load.corpus.recipient_domain(number));
        let body = if load.eight_bit { " BODY=8BITMIME" } else { "" };
        let commands = [
            (format!("MAIL FROM:<{}>{body}\r\n", load.corpus.sender()), "250"),
            (format!("RCPT TO:<{recipient}>\r\n"), "250"),
            ("DATA\r\n".to_owned(), "354"),
        ];
        load.corpus.write(number, &recipient, &mut self.message);
        if load.pipelining {
            let all: String = commands.iter().map(|(line, _)| line.as_str()).collect();
            self.wire.send(all.as_bytes())?;
        }
        let mut refusal = None;
        for (line, code) in &commands {
            if !load.pipelining {
                self.wire.send(line.as_bytes())?;
            }
            let reply = self.reply()?;
            if !reply.starts_with(code) && refusal.is_none() {
                refusal = Some(reply);
            }
        }
        if let Some(reply) = refusal {
            return not_now(reply);
        }
        self.wire.send(&self.message)?;
        let sent = Instant::now();
        let reply = self.reply()?;
        if reply.starts_with("250") { Ok(Answer::Accepted(sent)) } else { not_now(reply) }
    }

    /// The last line of the next reply.
    fn reply(&mut self) -> anyhow::Result<String> {
        loop {
            let unread = self.buffer.get(self.filled.clone()).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', unread) {
                let line = unread.get(..end).unwrap_or_default();
                let last = line.get(3) != Some(&b'-');
                let text = String::from_utf8_lossy(line).trim_end().to_owned();
                self.filled.start += end + 1;
                if last {
                    return Ok(text);
                }
                continue;
            }
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            let room = self.buffer.get_mut(self.filled.end..).unwrap_or_default();
            anyhow::ensure!(!room.is_empty(), "a reply without an end");
            let read = self.wire.receive(room).context("no reply")?;
            anyhow::ensure!(read > 0, "the server has closed the connection");
            self.filled.end += read;
        }
    }
}

/// What is refused for now is tried again, anything else ends the run.
fn not_now(reply: String) -> anyhow::Result<Answer> {
    anyhow::ensure!(reply.starts_with('4'), "the server refused a message: {reply}");
    Ok(Answer::NotNow(reply))
}
