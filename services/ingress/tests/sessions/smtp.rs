//! A client for tests: says lines, expects replies, and fails if they are others.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use postrider_net::tls::{opportunistic_client, server_name};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Smtp {
    stream: BufReader<Box<dyn Stream>>,
}

/// Longer than any reply may take here.
const PATIENCE: Duration = Duration::from_secs(60);

impl Smtp {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// The same connection within TLS, whatever the certificate.
    pub async fn secured(self) -> Self {
        let connector = TlsConnector::from(opportunistic_client().unwrap());
        let localhost = Ipv4Addr::LOCALHOST.into();
        let name = server_name(&postrider_net::Host::Address(localhost), localhost);
        let stream = connector.connect(name, self.stream.into_inner()).await.unwrap();
        Self { stream: BufReader::new(Box::new(stream)) }
    }

    /// One reply, all its lines; empty if the connection has ended.
    pub async fn reply(&mut self) -> String {
        let whole = async {
            let mut reply = String::new();
            loop {
                let start = reply.len();
                // A reset says the same as an end.
                if matches!(self.stream.read_line(&mut reply).await, Ok(0) | Err(_)) {
                    return reply;
                }
                if reply.as_bytes()[start..].get(3) != Some(&b'-') {
                    return reply;
                }
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("no reply in time")
    }

    #[track_caller]
    pub fn expect(&mut self, start: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.reply().await;
            assert!(reply.starts_with(start), "{caller}: expected {start:?}, got {reply:?}");
            reply
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        // Whoever has been cut off finds that out when reading.
        if self.stream.write_all(bytes).await.is_ok() {
            self.stream.flush().await.ok();
        }
    }

    #[track_caller]
    pub fn say(&mut self, line: &str, start: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            self.write(format!("{line}\r\n").as_bytes()).await;
            let reply = self.reply().await;
            assert!(reply.starts_with(start), "{caller}: {line:?}: expected {start:?}, got {reply:?}");
            reply
        }
    }

    pub async fn log_in(&mut self, username: &str, password: &str) {
        self.say(&auth_plain(username, password), "235").await;
    }

    /// MAIL, RCPT for each and DATA, up to the 354.
    pub async fn open(&mut self, sender: &str, recipients: &[&str]) {
        self.say(&format!("MAIL FROM:<{sender}>"), "250").await;
        for recipient in recipients {
            self.say(&format!("RCPT TO:<{recipient}>"), "250").await;
        }
        self.say("DATA", "354").await;
    }

    /// A whole transaction; the reply to the message.
    pub async fn send(&mut self, sender: &str, recipients: &[&str], message: &str) -> String {
        self.open(sender, recipients).await;
        self.write(format!("{message}\r\n.\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Whether the other side has closed.
    pub async fn expect_end(&mut self) {
        assert_eq!(self.reply().await, "");
    }
}

/// `AUTH PLAIN` with its initial response (RFC 4616).
pub fn auth_plain(username: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", base64(format!("\0{username}\0{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// A message of acme's.
pub fn message(more_headers: &str) -> String {
    format!(
        "From: Alice <alice@acme.example>\r\nTo: bob@b.example\r\nSubject: hello\r\nMessage-ID: <one@acme.example>\r\n\
         Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n{more_headers}\r\nGood morning.\r\n"
    )
}

/// Text that does not compress below three quarters, in short lines.
pub fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        for _ in 0..70 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(char::from(b'0' + u8::try_from(state >> 58).unwrap()));
        }
        text.push_str("\r\n");
    }
    text
}
