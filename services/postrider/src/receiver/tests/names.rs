//! What a recipient's name does, row by row.

use std::time::{Duration, Instant};

use super::super::Misbehaviour;
use super::Running;

#[track_caller]
fn begins(reply: &str, with: &str) {
    assert!(reply.starts_with(with), "{reply:?} does not begin with {with:?}");
}

#[tokio::test]
async fn every_recipient_of_a_transaction_gets_its_own_reply() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    let replies = talk.envelope(&["alice", "refuse", "refuse-552", "defer", "bob"]).await;
    for (reply, expected) in replies.iter().zip(["250", "550 5.1.1", "552 5.2.2", "451 4.7.1", "250"]) {
        begins(reply, expected);
    }
    begins(&talk.content("X-Token: 1\r\n\r\nhi\r\n").await, "250 2.0.0");
    let recipients: Vec<String> = running.ledger().into_iter().map(|line| line.rcpt_to).collect();
    assert_eq!(recipients, ["alice@site.example", "bob@site.example"]);
}

#[tokio::test]
async fn refuse_data_refuses_the_whole_message() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.envelope(&["alice", "refuse-data"]).await;
    begins(&talk.content("\r\n").await, "554 5.7.1");
    assert!(running.ledger().is_empty());
}

#[tokio::test]
async fn defer2_defers_twice_then_accepts_once_and_counts_anew() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    let mut codes = Vec::new();
    for _ in 0..5 {
        codes.push(talk.message("defer2", "1").await.split(' ').next().unwrap().to_owned());
    }
    assert_eq!(codes, ["451", "451", "250", "451", "451"]);
}

#[tokio::test]
async fn defer1_data_counts_by_message() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    begins(&talk.message("defer1-data", "a").await, "451 4.7.1");
    begins(&talk.message("defer1-data", "b").await, "451 4.7.1");
    begins(&talk.message("defer1-data", "a").await, "250");
    begins(&talk.message("defer-data", "a").await, "451 4.7.1");
}

#[tokio::test]
async fn delay_holds_back_the_reply_to_the_end_of_data() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.envelope(&["delay-1"]).await;
    let asked = Instant::now();
    begins(&talk.content("\r\n").await, "250");
    assert!(asked.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn busy_says_421_and_closes() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    begins(&talk.envelope(&["busy"]).await[0], "421 4.3.2");
    assert!(talk.has_ended().await);
}

#[tokio::test]
async fn drip_sends_a_byte_at_a_time() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    let asked = Instant::now();
    let reply = talk.envelope(&["drip-2"]).await.remove(0);
    begins(&reply, "250");
    assert!(asked.elapsed() >= Duration::from_millis(2) * u32::try_from(reply.len()).unwrap());
}

#[tokio::test]
async fn hang_answers_neither_the_recipient_nor_what_follows() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.send("MAIL FROM:<>\r\nRCPT TO:<hang@site.example>\r\nNOOP\r\n").await;
    begins(&talk.reply().await, "250");
    let silent = tokio::time::timeout(Duration::from_millis(100), talk.reply()).await;
    assert!(silent.is_err(), "{silent:?}");
}

#[tokio::test]
async fn hang_data_never_answers_the_end_of_data() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.envelope(&["hang-data"]).await;
    let silent = tokio::time::timeout(Duration::from_millis(100), talk.content("\r\n")).await;
    assert!(silent.is_err(), "{silent:?}");
    assert!(running.ledger().is_empty());
}

#[tokio::test]
async fn a_hanging_session_does_not_keep_the_receiver_from_stopping() {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.send("MAIL FROM:<>\r\nRCPT TO:<hang@site.example>\r\n").await;
    begins(&talk.reply().await, "250");
    running.shutdown.cancel();
    running.task.await.unwrap().unwrap();
}

/// Sends a pipelined transaction and counts the replies until the connection ends.
async fn replies_before_the_drop(local: &str) -> (usize, usize) {
    let running = Running::start().await;
    let mut talk = running.connect().await;
    talk.send(&format!("MAIL FROM:<>\r\nRCPT TO:<{local}@site.example>\r\nDATA\r\n")).await;
    let mut replies = 0;
    loop {
        let reply = talk.reply().await;
        if reply.is_empty() {
            break;
        }
        replies += 1;
        if reply.starts_with("354") {
            talk.send("Subject: x\r\n\r\nhello\r\n.\r\n").await;
        }
    }
    (replies, running.ledger().len())
}

#[tokio::test]
async fn disconnect_drops_at_the_phase_it_names() {
    for (local, replies) in [
        ("disconnect-mail", (0, 0)),
        ("disconnect-rcpt", (1, 0)),
        ("disconnect-data", (2, 0)),
        ("disconnect-body", (3, 0)),
        ("disconnect-end", (3, 0)),
        ("disconnect-after", (4, 1)),
    ] {
        assert_eq!(replies_before_the_drop(local).await, replies, "{local}");
    }
}

#[tokio::test]
async fn a_receiver_may_drop_everybody_at_the_greeting() {
    let running = Running::start_with(|config| config.misbehave = Some(Misbehaviour::DisconnectGreeting)).await;
    assert!(running.connect_silently().await.has_ended().await);
}

#[tokio::test]
async fn a_receiver_may_drop_everybody_at_ehlo_or_mail() {
    for (misbehave, replies) in [(Misbehaviour::DisconnectEhlo, 1), (Misbehaviour::DisconnectMail, 2)] {
        let running = Running::start_with(|config| config.misbehave = Some(misbehave)).await;
        let mut talk = running.connect_silently().await;
        talk.reply().await;
        let said = [talk.ask("EHLO a").await, talk.ask("MAIL FROM:<>").await];
        assert_eq!(1 + said.iter().filter(|reply| !reply.is_empty()).count(), replies, "{misbehave:?}: {said:?}");
    }
}

#[tokio::test]
async fn a_receiver_may_never_greet() {
    let running = Running::start_with(|config| config.misbehave = Some(Misbehaviour::HangGreeting)).await;
    let mut talk = running.connect_silently().await;
    assert!(tokio::time::timeout(Duration::from_millis(100), talk.reply()).await.is_err());
}
