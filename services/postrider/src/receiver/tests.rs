//! The receiver over real sockets: each row of its table, its ledger, its limits.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{LedgerLine, Receiver, ReceiverConfig};

mod names;

mod keeping;

mod providers;

/// A running receiver that stops when this is dropped.
struct Running {
    address: SocketAddr,
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    _stop: DropGuard,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut ReceiverConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = ReceiverConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ledger: Some(folder.path().join("ledger")),
            store: Some(folder.path().join("store")),
            ..ReceiverConfig::default()
        };
        change(&mut config);
        let receiver = Receiver::bind(config).await.unwrap();
        let shutdown = CancellationToken::new();
        Self {
            address: receiver.address().unwrap(),
            folder,
            task: tokio::spawn(receiver.run(shutdown.clone())),
            _stop: shutdown.clone().drop_guard(),
            shutdown,
        }
    }

    fn ledger(&self) -> Vec<LedgerLine> {
        let text = std::fs::read_to_string(self.folder.path().join("ledger")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn stored(&self, line: &LedgerLine) -> Vec<u8> {
        let file = line.file.as_deref().unwrap();
        std::fs::read(self.folder.path().join("store").join(Path::new(file))).unwrap()
    }

    /// A connection that has greeted and was greeted.
    async fn connect(&self) -> Talk {
        let mut talk = self.connect_silently().await;
        assert!(talk.reply().await.starts_with("220 "));
        assert!(talk.ask("EHLO test.example").await.starts_with("250"));
        talk
    }

    async fn connect_silently(&self) -> Talk {
        Talk { stream: BufReader::new(TcpStream::connect(self.address).await.unwrap()) }
    }
}

/// The client's side, word for word.
struct Talk {
    stream: BufReader<TcpStream>,
}

impl Talk {
    async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// One whole reply, its last line only if there are several; empty at the end of the stream.
    async fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return String::new(),
                Ok(_) if line.as_bytes().get(3) == Some(&b'-') => {}
                Ok(_) => return line.trim_end().to_owned(),
            }
        }
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }

    /// MAIL, RCPT for each of these, and the replies to RCPT.
    async fn envelope(&mut self, locals: &[&str]) -> Vec<String> {
        assert!(self.ask("MAIL FROM:<from@sender.example>").await.starts_with("250"));
        let mut replies = Vec::new();
        for local in locals {
            replies.push(self.ask(&format!("RCPT TO:<{local}@site.example>")).await);
        }
        replies
    }

    /// DATA with this content (CRLF lines), and the last reply.
    async fn content(&mut self, content: &str) -> String {
        assert!(self.ask("DATA").await.starts_with("354"));
        self.send(content).await;
        self.ask(".").await
    }

    /// One message to one recipient; its last reply.
    async fn message(&mut self, local: &str, token: &str) -> String {
        match self.envelope(&[local]).await.remove(0) {
            reply if reply.starts_with("250") => self.content(&format!("X-Token: {token}\r\n\r\nhello\r\n")).await,
            reply => {
                self.ask("RSET").await;
                reply
            }
        }
    }

    /// Whether nothing more comes, and the stream has ended.
    async fn has_ended(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest).await {
            Ok(_) => rest.is_empty(),
            Err(_) => true,
        }
    }
}

#[tokio::test]
async fn the_receiver_stops_when_told_and_says_so_to_open_sessions() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    running.shutdown.cancel();
    assert!(talk.reply().await.starts_with("421 4.3.2"));
    running.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let running = Running::start().await;
    let config = ReceiverConfig { listen: running.address, ..ReceiverConfig::default() };
    let error = Receiver::bind(config).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(error.contains(&format!("cannot listen at {}", running.address)), "{error}");
}
