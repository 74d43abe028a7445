//! A client's chair before the server machine and a server's chair before the client machine.

use bytes::Bytes;
use postrider_model::{EnhancedCode, Reply};
use postrider_smtp::{
    Bounds, Client, ClientConfig, ClientPhase, ClientStep, Phase, Question, Server, ServerConfig, ServerStep,
    Submission, TlsWish, Transaction, Verdict,
};

/// Where a server stands when it has nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Read(Phase),
    StartTls,
    Close,
}

/// Somebody who talks to a server.
pub struct Caller {
    pub server: Server,
    pub questions: Vec<Question>,
    pub sends: Vec<Bytes>,
    pub stop: Stop,
    policy: fn(&Question) -> Verdict,
}

/// Yes to everything but local parts that begin with `no` (for ever) or `later` (for now); the password is `secret`.
pub fn policy(question: &Question) -> Verdict {
    let judge = |local: &str| match local {
        local if local.starts_with("no") => Verdict::Refuse(Reply::new(550, Some(EnhancedCode(5, 7, 1)), "no")),
        local if local.starts_with("later") => Verdict::Refuse(Reply::new(450, Some(EnhancedCode(4, 2, 1)), "later")),
        _ => Verdict::Accept,
    };
    match question {
        Question::Mail { sender, .. } => sender.mailbox().map_or(Verdict::Accept, |mailbox| judge(mailbox.local())),
        Question::Recipient { recipient } => judge(recipient.local()),
        Question::Authenticate { password, .. } if password.expose() != "secret" => {
            Verdict::Refuse(Reply::new(535, Some(EnhancedCode(5, 7, 8)), "wrong"))
        }
        Question::Message(_) => Verdict::AcceptWith(Reply::new(250, Some(EnhancedCode(2, 0, 0)), "queued as 1")),
        Question::Hello { .. } | Question::Authenticate { .. } | Question::Data { .. } => Verdict::Accept,
    }
}

pub fn config() -> ServerConfig {
    ServerConfig::new("mx.example.com".parse().unwrap())
}

impl Caller {
    pub fn new(config: ServerConfig, bounds: Bounds) -> Self {
        Self {
            server: Server::new(config, bounds),
            questions: Vec::new(),
            sends: Vec::new(),
            stop: Stop::Read(Phase::Greeting),
            policy,
        }
    }

    /// Greeted and past EHLO.
    pub fn greeted(config: ServerConfig, bounds: Bounds) -> Self {
        let mut caller = Self::new(config, bounds);
        caller.run();
        caller.say("EHLO client.example\r\n");
        caller
    }

    pub fn with_policy(mut self, policy: fn(&Question) -> Verdict) -> Self {
        self.policy = policy;
        self
    }

    /// Lets the server do all it can and returns what it said.
    pub fn run(&mut self) -> String {
        let mut said = Vec::new();
        self.stop = loop {
            match self.server.step() {
                ServerStep::Send(bytes) => {
                    said.extend_from_slice(&bytes);
                    self.sends.push(bytes);
                }
                ServerStep::Ask(question) => {
                    self.server.answer((self.policy)(&question));
                    self.questions.push(question);
                }
                ServerStep::StartTls => break Stop::StartTls,
                ServerStep::Read { phase } => break Stop::Read(phase),
                ServerStep::Close => break Stop::Close,
            }
        };
        String::from_utf8(said).unwrap()
    }

    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.server.receive(bytes.as_ref());
        self.run()
    }

    /// Says a line and returns the code of each line of the answer.
    pub fn codes(&mut self, line: impl AsRef<[u8]>) -> Vec<u16> {
        codes(&self.say([line.as_ref(), b"\r\n"].concat()))
    }

    #[track_caller]
    pub fn check(&mut self, line: &str, answer: &str) {
        assert_eq!(self.say(format!("{line}\r\n")), format!("{answer}\r\n"), "to {line:?}");
    }

    /// The messages that were handed out.
    pub fn submissions(&self) -> Vec<&Submission> {
        let mut submissions = Vec::new();
        for question in &self.questions {
            if let Question::Message(submission) = question {
                submissions.push(submission);
            }
        }
        submissions
    }
}

/// The codes of replies, one for each reply.
pub fn codes(replies: &str) -> Vec<u16> {
    let last = |line: &&str| line.get(3..4) != Some("-");
    replies.split_terminator("\r\n").filter(last).map(|line| line[..3].parse().unwrap()).collect()
}

/// Cuts bytes in pieces of the given lengths, over and over.
pub fn pieces<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at((*length).clamp(1, rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

pub fn client_config(tls: TlsWish) -> ClientConfig {
    ClientConfig { ehlo_name: "out.example.com".parse().unwrap(), lmtp: false, tls }
}

/// Somebody who plays the server to a client: lines to expect and lines to answer.
pub struct Host {
    pub client: Client,
}

impl Host {
    pub fn new(config: ClientConfig) -> Self {
        Self::bounded(config, Bounds::default())
    }

    pub fn bounded(config: ClientConfig, bounds: Bounds) -> Self {
        Self { client: Client::new(config, bounds) }
    }

    /// Greeted, with these lines in the reply to EHLO, and ready.
    pub fn ready(offers: &[&str]) -> Self {
        let mut host = Self::new(client_config(TlsWish::Never));
        host.open(offers);
        host
    }

    pub fn open(&mut self, offers: &[&str]) {
        self.expect(ClientStep::Read { phase: ClientPhase::Greeting });
        self.reply("220 mx.example.net hello");
        let hello = self.sent();
        assert!(hello.ends_with(" out.example.com\r\n"), "{hello:?}");
        self.expect(ClientStep::Read { phase: ClientPhase::Ehlo });
        self.reply(&ehlo_reply(offers));
        self.expect(ClientStep::Ready);
    }

    #[track_caller]
    pub fn expect(&mut self, step: ClientStep) {
        assert_eq!(self.client.step(), step);
    }

    /// What the client sends now.
    #[track_caller]
    pub fn sent(&mut self) -> String {
        match self.client.step() {
            ClientStep::Send(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("not a send: {other:?}"),
        }
    }

    #[track_caller]
    pub fn expect_sent(&mut self, text: &str) {
        assert_eq!(self.sent(), text);
    }

    /// Answers a command that the client sends now.
    #[track_caller]
    pub fn answer(&mut self, command: &str, reply: &str) {
        self.expect_sent(&format!("{command}\r\n"));
        assert!(matches!(self.client.step(), ClientStep::Read { .. }));
        self.reply(reply);
    }

    pub fn reply(&mut self, reply: &str) {
        self.client.receive(format!("{reply}\r\n").as_bytes());
    }
}

pub fn ehlo_reply(offers: &[&str]) -> String {
    let mut lines = vec!["mx.example.net"];
    lines.extend(offers);
    let last = lines.len() - 1;
    let line = |(index, line): (usize, &&str)| format!("250{}{line}", if index == last { ' ' } else { '-' });
    lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
}

/// A message from `a@x.example` to these local parts at `y.example`.
pub fn transaction(recipients: &[&str], message: &str) -> Transaction {
    let mailbox = |local: &&str| format!("{local}@y.example").parse().unwrap();
    Transaction {
        sender: "a@x.example".parse().unwrap(),
        recipients: (0..).zip(recipients.iter().map(mailbox)).collect(),
        eight_bit: false,
        smtputf8: false,
        message: Bytes::from(message.to_owned()),
    }
}
