//! A load of small messages over several SMTP sessions. It remembers which tokens were answered 250; a message whose answer
//! got lost, or was 4xx after its end, is sent again under a new token, so that every repeat in a ledger is the server's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::wait;

/// How long one reply may take: longer than any publish is tried again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session that was refused or lost begins anew after this.
const PAUSE: Duration = Duration::from_millis(50);

/// What is sent, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sessions at the same time.
    pub sessions: usize,
    /// Messages a second, all sessions together.
    pub rate: u32,
    /// The recipients of the n-th message.
    pub recipients: fn(usize) -> Vec<String>,
    /// A further header field of the n-th message, or nothing.
    pub field: fn(usize) -> &'static str,
}

/// What became of the messages.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The recipients of every message that was answered 250, by token.
    pub accepted: BTreeMap<String, Vec<String>>,
    /// When each of them was answered.
    pub answered: BTreeMap<String, SystemTime>,
    /// Those whose answer was lost, or 4xx after their end: each may be in the queue or not.
    pub unknown: BTreeMap<String, Vec<String>>,
    /// How often each refusal was heard, by its code.
    pub refused: BTreeMap<String, usize>,
}

impl Sent {
    /// Adds what another load sent.
    pub fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.answered.extend(other.answered);
        self.unknown.extend(other.unknown);
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
    }

    /// What was known at this moment: whatever was answered later is unknown.
    #[must_use]
    pub fn by(&self, moment: SystemTime) -> Self {
        let mut then = self.clone();
        let is_later = |token: &String| self.answered.get(token).is_none_or(|&answered| answered > moment);
        then.unknown
            .extend(self.accepted.iter().filter(|(token, _)| is_later(token)).map(|(t, r)| (t.clone(), r.clone())));
        then.accepted.retain(|token, _| !is_later(token));
        then
    }
}

/// A load that goes on until it is finished.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    name: String,
    shape: Shape,
    bodies: fn(usize) -> usize,
    begun: Instant,
    next: AtomicUsize,
    stop: AtomicBool,
    sent: Mutex<Sent>,
}

impl Load {
    /// Begins. `name` begins every token.
    pub fn begin(server: SocketAddr, name: &str, shape: Shape) -> Self {
        Self::begin_with_bodies(server, name, shape, |_| 0)
    }

    /// As [`Load::begin`]; the n-th message has so many further bytes, which hardly compress.
    pub fn begin_with_bodies(server: SocketAddr, name: &str, shape: Shape, bodies: fn(usize) -> usize) -> Self {
        let shared = Arc::new(Shared {
            server,
            name: name.to_owned(),
            shape,
            bodies,
            begun: Instant::now(),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sent: Mutex::default(),
        });
        let session = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.run())
        };
        let threads = (0..shape.sessions).map(session).collect();
        Self { shared, threads }
    }

    /// How many have been answered 250 so far.
    pub fn accepted(&self) -> usize {
        self.shared.sent().accepted.len()
    }

    /// How many have heard this code so far.
    pub fn refused(&self, code: &str) -> usize {
        self.shared.sent().refused.get(code).copied().unwrap_or(0)
    }

    /// Waits until so many have been answered 250.
    ///
    /// # Errors
    /// If that takes longer than three minutes.
    pub fn until_accepted(&self, count: usize) -> Result<()> {
        let look = || Ok((self.accepted() >= count).then_some(()));
        wait::until_within(3 * wait::PATIENCE, &format!("{count} messages to be accepted"), look)
            .with_context(|| format!("{} were; refused: {:?}", self.accepted(), self.shared.sent().refused))
    }

    /// Goes on until so many have been answered 250, then stops, and tells.
    ///
    /// # Errors
    /// As [`Load::until_accepted`].
    pub fn finish(mut self, at_least: usize) -> Result<Sent> {
        let waited = self.until_accepted(at_least);
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                bail!("a session of the load panicked");
            }
        }
        waited?;
        Ok(self.shared.sent().clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// What a message came to.
enum Answer {
    Accepted,
    Refused(String),
    Lost { after_its_end: bool },
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut session = None;
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.keep_pace(number);
            let mut tries = 0;
            while !self.stop.load(Ordering::Relaxed) && !self.send(&mut session, number, tries) {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn keep_pace(&self, number: usize) {
        let due = self.begun + Duration::from_secs(1).mul_f64(number as f64 / f64::from(self.shape.rate.max(1)));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }

    /// Sends the n-th message once. Whether it was accepted.
    fn send(&self, session: &mut Option<Session>, number: usize, tries: usize) -> bool {
        if session.is_none() {
            *session = Session::begin(self.server).ok();
        }
        let Some(open) = session else { return false };
        let token = format!("{}-{number}-{tries}", self.name);
        let recipients = (self.shape.recipients)(number);
        let answer = open.send(&token, &recipients, (self.shape.field)(number), (self.bodies)(number));
        let mut sent = self.sent();
        match answer {
            Answer::Accepted => {
                sent.answered.insert(token.clone(), SystemTime::now());
                sent.accepted.insert(token, recipients);
                return true;
            }
            Answer::Refused(reply) => {
                let code = reply.get(..3).unwrap_or_default().to_owned();
                *sent.refused.entry(code).or_default() += 1;
                // 451 says that it is not known to be stored.
                sent.unknown.insert(token, recipients);
                *session = None;
            }
            Answer::Lost { after_its_end } => {
                if after_its_end {
                    sent.unknown.insert(token, recipients);
                }
                *session = None;
            }
        }
        false
    }
}

/// Lines of letters that hardly compress.
fn filling(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut text = String::with_capacity(bytes + 80);
    while text.len() < bytes {
        for _ in 0..74 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(char::from(b'0' + u8::try_from(state >> 58).unwrap_or(0)));
        }
        text.push_str("\r\n");
    }
    text
}

struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    fn begin(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream: BufReader::new(stream) };
        session.expect("220")?;
        session.write("EHLO load.example\r\n")?;
        session.expect("250")?;
        Ok(session)
    }

    fn send(&mut self, token: &str, recipients: &[String], field: &str, size: usize) -> Answer {
        match self.envelope(recipients) {
            Err(_) => return Answer::Lost { after_its_end: false },
            Ok(Some(refusal)) => return Answer::Refused(refusal),
            Ok(None) => {}
        }
        let field = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        let message = format!(
            "From: <news@load.example>\r\nTo: <{}>\r\nSubject: {token}\r\nX-Token: {token}\r\n{field}\r\n\
             One small message.\r\n{}.\r\n",
            recipients.first().map_or("", String::as_str),
            filling(size)
        );
        if self.write(&message).is_err() {
            return Answer::Lost { after_its_end: true };
        }
        match self.reply() {
            Ok(reply) if reply.starts_with("250") => Answer::Accepted,
            Ok(reply) => Answer::Refused(reply),
            Err(_) => Answer::Lost { after_its_end: true },
        }
    }

    /// MAIL, RCPT and DATA in one go; the refusal, if there is one.
    fn envelope(&mut self, recipients: &[String]) -> Result<Option<String>> {
        let mut commands = "MAIL FROM:<news@load.example>\r\n".to_owned();
        for recipient in recipients {
            commands.push_str(&format!("RCPT TO:<{recipient}>\r\n"));
        }
        commands.push_str("DATA\r\n");
        self.write(&commands)?;
        for _ in 0..=recipients.len() {
            let reply = self.reply()?;
            if !reply.starts_with("250") {
                return Ok(Some(reply));
            }
        }
        let reply = self.reply()?;
        Ok((!reply.starts_with("354")).then_some(reply))
    }

    fn write(&mut self, text: &str) -> Result<()> {
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }

    fn expect(&mut self, code: &str) -> Result<()> {
        let reply = self.reply()?;
        anyhow::ensure!(reply.starts_with(code), "{reply}");
        Ok(())
    }

    /// The last line of the next reply.
    fn reply(&mut self) -> Result<String> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                bail!("the connection has ended");
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }
}
