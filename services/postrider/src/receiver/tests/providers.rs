//! The limits of a provider, over a connection.

use super::super::Flavour;
use super::Running;

#[tokio::test]
async fn a_connection_too_many_is_refused_instead_of_greeted() {
    let running = Running::start_with(|config| {
        config.limits.connections = Some(1);
        config.limits.flavour = Flavour::Yahoo;
    })
    .await;
    let first = running.connect().await;
    let mut second = running.connect_silently().await;
    assert!(second.reply().await.starts_with("421 4.7.0 [TSS01]"));
    assert!(second.has_ended().await);
    drop(first);
    // The receiver sees the first one's end in its own time.
    while !running.connect_silently().await.reply().await.starts_with("220") {}
}

#[tokio::test]
async fn a_message_too_many_on_a_connection_closes_it() {
    let running = Running::start_with(|config| config.limits.messages_per_connection = Some(2)).await;
    let mut talk = running.connect().await;
    for _ in 0..2 {
        assert!(talk.message("alice", "1").await.starts_with("250"));
    }
    assert!(talk.ask("MAIL FROM:<>").await.starts_with("421 4.7.0"));
    assert!(talk.has_ended().await);
}

#[tokio::test]
async fn a_message_too_many_a_minute_is_deferred_in_the_words_of_the_provider() {
    for (flavour, words) in [
        (Flavour::Gmail, "421 4.7.28 [127.0.0.1] Our system"),
        (Flavour::Microsoft, "451 4.7.500 Server busy"),
        (Flavour::Yahoo, "421 4.7.0 [TSS04]"),
    ] {
        let running = Running::start_with(|config| {
            config.limits.messages_per_minute = Some(1);
            config.limits.flavour = flavour;
        })
        .await;
        let mut talk = running.connect().await;
        assert!(talk.message("alice", "1").await.starts_with("250"));
        let reply = talk.ask("MAIL FROM:<>").await;
        assert!(reply.starts_with(words), "{reply}");
    }
}
