//! One connection of the receiver: drives the SMTP machine over a socket, and performs what the recipients' names ask for.
//! All protocol is the machine's; what is here is the misbehaviour.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postrider_model::{EnhancedCode, Mailbox, Reply, ReversePath};
use postrider_smtp::{Phase, Question, Server, ServerStep, Submission, Verdict};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::behaviour::{self, AtEnd, Behaviour};
use super::{LedgerLine, Misbehaviour, Shared, message};

mod setup;

/// A client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(300);
/// The longest a connection is left hanging.
const LONGEST_HANG: Duration = Duration::from_secs(3600);
const READ_BYTES: usize = 64 * 1024;

/// How a stretch of the conversation ended.
enum Ended {
    Closed,
    /// The reply to STARTTLS is sent: the handshake is next.
    Upgrade,
}

/// What follows a question.
enum Answer {
    Verdict(Verdict),
    /// Sends what waits, then drops the connection.
    Drop,
    /// Drops the connection with what waits unsent.
    DropAtOnce,
    /// Says nothing until the client leaves.
    Hang,
}

struct Session<'a> {
    shared: &'a Shared,
    source: IpAddr,
    connection: u64,
    shutdown: CancellationToken,
    /// The machine knows that the receiver stops.
    stopping: bool,
    tls: bool,
    /// MAIL commands accepted on this connection.
    mails: u32,
    /// Replies go out a byte in this time.
    drip: Option<Duration>,
    sender: ReversePath,
    /// What the accepted recipients of this transaction ask for.
    asked: Vec<(Mailbox, Behaviour)>,
    /// Drops right behind the reply that is next sent.
    drop_after_reply: bool,
    out: BytesMut,
}

/// Serves one connection to its end.
pub(super) async fn run(
    shared: &Shared,
    mut stream: TcpStream,
    peer: SocketAddr,
    connection: u64,
    shutdown: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let source = peer.ip();
    if let Err(reply) = shared.limits.connected(source) {
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        return stream.shutdown().await;
    }
    let ended = Session::new(shared, source, connection, shutdown).whole(stream).await;
    shared.limits.disconnected(source, Instant::now());
    ended
}

impl Session<'_> {
    async fn whole(mut self, mut stream: TcpStream) -> io::Result<()> {
        match self.shared.config.misbehave {
            Some(Misbehaviour::HangGreeting) => return self.hang(&mut stream).await,
            Some(Misbehaviour::DisconnectGreeting) => return Ok(()),
            _ => {}
        }
        let mut server = self.machine();
        if matches!(self.converse(&mut stream, &mut server).await?, Ended::Closed) {
            return stream.shutdown().await;
        }
        let Some(acceptor) = &self.shared.tls else { return Ok(()) };
        let mut stream = tokio::time::timeout(IDLE, acceptor.accept(stream)).await??;
        self.tls = true;
        server.tls_started();
        self.converse(&mut stream, &mut server).await?;
        stream.shutdown().await
    }

    async fn converse<S>(&mut self, stream: &mut S, server: &mut Server) -> io::Result<Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut input = BytesMut::with_capacity(READ_BYTES);
        loop {
            match server.step() {
                ServerStep::Send(bytes) => {
                    self.out.extend_from_slice(&bytes);
                    if self.drop_after_reply {
                        self.flush(stream).await?;
                        return Ok(Ended::Closed);
                    }
                }
                ServerStep::Ask(question) => match self.answer(question).await {
                    Answer::Verdict(verdict) => server.answer(verdict),
                    Answer::DropAtOnce => return Ok(Ended::Closed),
                    Answer::Drop => {
                        self.out.extend_from_slice(&said_before(server));
                        self.flush(stream).await?;
                        return Ok(Ended::Closed);
                    }
                    Answer::Hang => {
                        self.out.extend_from_slice(&said_before(server));
                        self.flush(stream).await?;
                        self.hang(stream).await?;
                        return Ok(Ended::Closed);
                    }
                },
                ServerStep::StartTls => {
                    self.flush(stream).await?;
                    return Ok(Ended::Upgrade);
                }
                ServerStep::Read { phase } => {
                    self.flush(stream).await?;
                    let read = self.read(stream, server, &mut input).await?;
                    if read && phase == Phase::Data && self.asks(&Behaviour::DropInBody) {
                        return Ok(Ended::Closed);
                    }
                }
                ServerStep::Close => {
                    self.flush(stream).await?;
                    return Ok(Ended::Closed);
                }
            }
        }
    }

    /// Reads once, or tells the machine why there is nothing. True if bytes came.
    async fn read<S>(&mut self, stream: &mut S, server: &mut Server, input: &mut BytesMut) -> io::Result<bool>
    where
        S: AsyncRead + Unpin,
    {
        input.clear();
        tokio::select! {
            read = tokio::time::timeout(IDLE, stream.read_buf(input)) => match read {
                Ok(count) => {
                    if count? > 0 {
                        server.receive(input);
                        return Ok(true);
                    }
                    server.end_of_stream();
                }
                Err(_elapsed) => server.timed_out(),
            },
            () = self.shutdown.cancelled(), if !self.stopping => {
                self.stopping = true;
                server.shut_down();
            }
        }
        Ok(false)
    }

    async fn flush<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        match self.drip {
            None => stream.write_all(&self.out).await?,
            Some(pause) => {
                for byte in &self.out {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.shutdown.cancelled() => return Err(io::ErrorKind::ConnectionAborted.into()),
                    }
                    stream.write_all(std::slice::from_ref(byte)).await?;
                    stream.flush().await?;
                }
            }
        }
        self.out.clear();
        stream.flush().await
    }

    /// Takes and forgets what comes, until the client leaves or the receiver stops.
    async fn hang<S: AsyncRead + Unpin>(&self, stream: &mut S) -> io::Result<()> {
        let left = async {
            let mut ignored = [0; 4096];
            while stream.read(&mut ignored).await? > 0 {}
            Ok(())
        };
        tokio::select! {
            left = tokio::time::timeout(LONGEST_HANG, left) => left.unwrap_or(Ok(())),
            () = self.shutdown.cancelled() => Ok(()),
        }
    }

    fn asks(&self, behaviour: &Behaviour) -> bool {
        self.asked.iter().any(|(_, asked)| asked == behaviour)
    }

    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Hello { .. } => match self.shared.config.misbehave {
                Some(Misbehaviour::HangEhlo) => Answer::Hang,
                Some(Misbehaviour::DisconnectEhlo) => Answer::Drop,
                _ => Answer::Verdict(Verdict::Accept),
            },
            Question::Authenticate { .. } => refuse(Reply::new(502, Some(EnhancedCode(5, 5, 1)), "no AUTH here")),
            Question::Mail { sender, .. } => self.mail(sender),
            Question::Recipient { recipient } => self.recipient(recipient),
            Question::Data { .. } if self.asks(&Behaviour::DropAtData) => Answer::Drop,
            Question::Data { .. } => Answer::Verdict(Verdict::Accept),
            Question::Message(submission) => self.message(submission).await,
        }
    }

    fn mail(&mut self, sender: ReversePath) -> Answer {
        match self.shared.config.misbehave {
            Some(Misbehaviour::HangMail) => return Answer::Hang,
            Some(Misbehaviour::DisconnectMail) => return Answer::Drop,
            _ => {}
        }
        if let Err(reply) = self.shared.limits.mail(self.source, self.mails, Instant::now()) {
            return refuse(reply);
        }
        self.mails += 1;
        self.sender = sender;
        self.asked.clear();
        Answer::Verdict(Verdict::Accept)
    }

    fn recipient(&mut self, recipient: Mailbox) -> Answer {
        let behaviour = Behaviour::of(recipient.local());
        match &behaviour {
            Behaviour::Refuse(reply) => return refuse(reply.clone()),
            Behaviour::Defer => return refuse(behaviour::deferral()),
            Behaviour::Busy => return refuse(behaviour::busy()),
            Behaviour::DeferTimes(times) => {
                let key = [self.sender.to_string(), recipient.to_string()];
                if self.shared.deferrals.defers(&key.each_ref().map(String::as_str), *times) {
                    return refuse(behaviour::deferral());
                }
            }
            Behaviour::Drip(pause) => self.drip = Some(*pause),
            Behaviour::Hang => return Answer::Hang,
            Behaviour::DropAtRecipient { replies_first: true } => return Answer::Drop,
            Behaviour::DropAtRecipient { replies_first: false } => return Answer::DropAtOnce,
            Behaviour::Accept | Behaviour::DropAtData | Behaviour::DropInBody | Behaviour::AtEnd(_) => {}
        }
        self.asked.push((recipient, behaviour));
        Answer::Verdict(Verdict::Accept)
    }

    async fn message(&mut self, submission: Submission) -> Answer {
        let token = message::token(&submission.message);
        let asked = self.asked.iter().filter_map(|(recipient, behaviour)| match behaviour {
            Behaviour::AtEnd(AtEnd::DeferTimes(times)) => {
                let key = [recipient.to_string(), token.clone()];
                let defers = self.shared.deferrals.defers(&key.each_ref().map(String::as_str), *times);
                defers.then_some(AtEnd::Defer)
            }
            Behaviour::AtEnd(end) => Some(*end),
            _ => None,
        });
        match asked.min() {
            Some(AtEnd::Drop) => return Answer::Drop,
            Some(AtEnd::Hang) => return Answer::Hang,
            Some(AtEnd::Refuse) => return refuse(behaviour::refusal_of_data()),
            Some(AtEnd::Defer | AtEnd::DeferTimes(_)) => return refuse(behaviour::deferral()),
            Some(AtEnd::Delay(delay)) => {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = self.shutdown.cancelled() => return Answer::DropAtOnce,
                }
            }
            Some(AtEnd::DropAfter) => self.drop_after_reply = true,
            None => {}
        }
        match self.keep(&submission, token).await {
            Ok(()) => self.accepted(),
            Err(error) => {
                tracing::warn!(connection = self.connection, %error, "receiver: a message could not be kept");
                refuse(Reply::new(451, Some(EnhancedCode(4, 3, 0)), "the receiver could not keep the message"))
            }
        }
    }

    fn accepted(&mut self) -> Answer {
        for (recipient, behaviour) in self.asked.drain(..) {
            if matches!(behaviour, Behaviour::DeferTimes(_)) {
                let key = [self.sender.to_string(), recipient.to_string()];
                self.shared.deferrals.accepted(&key.each_ref().map(String::as_str));
            }
        }
        let reply =
            Reply::new(250, Some(EnhancedCode(2, 0, 0)), &format!("accepted as {}-{}", self.connection, self.mails));
        Answer::Verdict(Verdict::AcceptWith(reply))
    }

    /// Stores the message and writes its lines.
    async fn keep(&self, submission: &Submission, token: String) -> io::Result<()> {
        let now = postrider_runtime::clock::now();
        let message = &submission.message;
        let file = match &self.shared.config.store {
            Some(folder) => {
                let name = format!("{}-{}-{}.eml", now.as_millis(), self.connection, self.mails);
                tokio::fs::write(folder.join(&name), message).await?;
                Some(name)
            }
            None => None,
        };
        let Some(ledger) = &self.shared.ledger else { return Ok(()) };
        let line = LedgerLine {
            time: now.to_string(),
            token,
            mail_from: submission.sender.to_string(),
            rcpt_to: String::new(),
            source: self.source,
            connection: self.connection,
            tls: self.tls,
            bytes: message.len(),
            body_sha256: message::sha256(message::body(message)),
            file,
        };
        let lines: Vec<LedgerLine> = submission
            .recipients
            .iter()
            .map(|recipient| LedgerLine { rcpt_to: recipient.to_string(), ..line.clone() })
            .collect();
        ledger.append(&lines).await
    }
}

/// The replies that the machine holds back for company, without any to the question it has just asked: it is given an
/// answer that ends the session, and that last line is left out.
fn said_before(server: &mut Server) -> Vec<u8> {
    server.answer(Verdict::Close(Reply::new(421, None, "unsaid")));
    let mut said = Vec::new();
    while let ServerStep::Send(bytes) = server.step() {
        said.extend_from_slice(&bytes);
    }
    let lines = said.strip_suffix(b"\r\n").unwrap_or_default();
    said.truncate(lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
    said
}

/// A 421 closes, everything else leaves the session open.
fn refuse(reply: Reply) -> Answer {
    Answer::Verdict(if reply.code == 421 { Verdict::Close(reply) } else { Verdict::Refuse(reply) })
}
