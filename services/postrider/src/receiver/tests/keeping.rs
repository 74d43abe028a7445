//! What the receiver keeps: ledger lines, stored messages, and how fast.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::BufReader;
use tokio::net::TcpStream;

use super::super::message;
use super::Running;

#[tokio::test]
async fn a_line_says_whose_message_came_from_where() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.envelope(&["alice"]).await;
    let content = "Received: from here\r\nX-Token: t-17\r\n\r\nhello\r\n";
    talk.content(content).await;
    let line = running.ledger().remove(0);
    assert_eq!((line.token.as_str(), line.mail_from.as_str()), ("t-17", "from@sender.example"));
    assert_eq!((line.rcpt_to.as_str(), line.source.to_string().as_str()), ("alice@site.example", "127.0.0.1"));
    assert_eq!((line.bytes, line.connection, line.tls), (content.len(), 1, false));
    assert_eq!(line.body_sha256, message::sha256(b"hello\r\n"));
    assert!(line.time.starts_with("20") && line.time.ends_with('Z'));
}

#[tokio::test]
async fn the_line_stands_in_the_ledger_before_the_reply() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    for count in 1..=50 {
        assert!(talk.message("alice", &count.to_string()).await.starts_with("250"));
        assert_eq!(running.ledger().len(), count);
    }
}

#[tokio::test]
async fn the_store_holds_the_exact_bytes_without_stuffing() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.envelope(&["alice"]).await;
    talk.content("Subject: dots\r\n\r\n..\r\n...and\r\n").await;
    let line = running.ledger().remove(0);
    assert_eq!(running.stored(&line), b"Subject: dots\r\n\r\n.\r\n..and\r\n");
}

#[tokio::test]
async fn a_session_over_starttls_is_marked_in_the_ledger() {
    let running = Running::start_with(|config| config.starttls = true).await;
    let mut talk = running.connect().await;
    assert!(talk.ask("STARTTLS").await.starts_with("220"));
    let connector = tokio_rustls::TlsConnector::from(postrider_net::tls::opportunistic_client().unwrap());
    let name = "receiver.localhost".try_into().unwrap();
    let stream = connector.connect(name, talk.stream.into_inner()).await.unwrap();
    let mut stream = BufReader::new(stream);
    for line in ["EHLO a", "MAIL FROM:<>", "RCPT TO:<alice@site.example>", "DATA", "\r\n."] {
        ask(&mut stream, line).await;
    }
    assert!(running.ledger()[0].tls);
}

async fn ask(stream: &mut BufReader<tokio_rustls::client::TlsStream<TcpStream>>, line: &str) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    let mut reply = String::new();
    while reply.is_empty() || reply.as_bytes().get(3) == Some(&b'-') {
        reply.clear();
        stream.read_line(&mut reply).await.unwrap();
    }
    assert!(reply.starts_with(['2', '3']), "{reply}");
}

#[tokio::test]
async fn many_connections_at_once_lose_no_line() {
    let running = Arc::new(Running::start_with(|config| config.store = None).await);
    let sessions = (0..16).map(|session| {
        let running = Arc::clone(&running);
        tokio::spawn(async move {
            let mut talk = running.connect().await;
            for count in 0..50 {
                assert!(talk.message("alice", &format!("{session}-{count}")).await.starts_with("250"));
            }
        })
    });
    futures_util::future::try_join_all(sessions).await.unwrap();
    let mut tokens: Vec<String> = running.ledger().into_iter().map(|line| line.token).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 16 * 50);
}

#[tokio::test]
async fn a_session_that_drips_does_not_hold_up_others() {
    let running = Running::start().await;
    let mut slow = running.connect().await;
    slow.send("MAIL FROM:<>\r\nRCPT TO:<drip@site.example>\r\n").await;
    let mut quick = running.connect().await;
    let asked = Instant::now();
    assert!(quick.message("alice", "1").await.starts_with("250"));
    assert!(asked.elapsed() < Duration::from_secs(5));
}
