//! Streams and consumers: made once, compared ever after.

use async_nats::jetstream::consumer::{FromConsumer, pull};
use async_nats::jetstream::stream;
use postrider_model::ShardLayout;
use postrider_nats::{ConnectError, LayoutError, NatsConfig, OpenError, Spool};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::server::Server;

async fn refusal(config: &NatsConfig) -> OpenError {
    Spool::open(config, "test", ShardLayout::SINGLE).await.unwrap_err()
}

#[tokio::test]
async fn opening_twice_finds_everything_as_it_should_be() {
    let server = Server::start();
    let spool = server.spool().await;
    spool.ensure().await.unwrap();
    drop(server.spool().await);
}

#[tokio::test]
async fn several_processes_may_open_at_once() {
    let server = Server::start();
    let config = server.config();
    let open = || Spool::open(&config, "test", ShardLayout::SINGLE);
    let (a, b, c) = tokio::join!(open(), open(), open());
    for spool in [a, b, c] {
        spool.unwrap();
    }
}

#[tokio::test]
async fn the_layout_of_a_cluster_can_be_made() {
    let server = Server::start();
    let spool = Spool::open(&server.config(), "test", ShardLayout::CLUSTER).await.unwrap();
    spool.ensure().await.unwrap();
    let mut stream = server.jetstream().await.get_stream("READY_B3").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 16);
}

#[tokio::test]
async fn the_layout_of_the_first_start_holds() {
    let server = Server::start();
    drop(server.spool().await);
    let later = Spool::open(&server.config(), "test", ShardLayout::CLUSTER).await.unwrap();
    assert_eq!(later.layout(), ShardLayout::SINGLE);
}

#[tokio::test]
async fn a_stream_with_another_setting_is_named() {
    let server = Server::start();
    drop(server.spool().await);
    let jetstream = server.jetstream().await;
    let mut config = jetstream.get_stream("RETRY_5m").await.unwrap().cached_info().config.clone();
    config.discard = stream::DiscardPolicy::Old;
    jetstream.update_stream(&config).await.unwrap();
    let error = refusal(&server.config()).await;
    assert!(matches!(error, OpenError::Layout(LayoutError::Differs { .. })));
    let text = error.to_string();
    assert!(text.starts_with("stream RETRY_5m: discard is Old, should be New."), "{text}");
}

#[tokio::test]
async fn a_consumer_with_another_setting_is_named() {
    let server = Server::start();
    drop(server.spool().await);
    let stream = server.jetstream().await.get_stream("READY_T").await.unwrap();
    let consumer = stream.get_consumer::<pull::Config>("ready-t00").await.unwrap();
    let found = consumer.cached_info().config.clone();
    let config = <pull::Config as FromConsumer>::try_from_consumer_config(found).unwrap();
    stream.update_consumer(pull::Config { max_ack_pending: 7, ..config }).await.unwrap();
    let text = refusal(&server.config()).await.to_string();
    assert!(text.starts_with("consumer ready-t00: max_ack_pending is 7, should be 20000."), "{text}");
}

#[tokio::test]
async fn a_missing_consumer_is_made_again() {
    let server = Server::start();
    let spool = server.spool().await;
    let stream = server.jetstream().await.get_stream("RETRY_1m").await.unwrap();
    stream.delete_consumer("promote-1m-b").await.unwrap();
    spool.ensure().await.unwrap();
    stream.consumer_info("promote-1m-b").await.unwrap();
}

#[tokio::test]
async fn another_size_is_applied_in_place() {
    let server = Server::start();
    drop(server.spool().await);
    let config = NatsConfig { storage_bytes: 2 << 30, ..server.config() };
    drop(server.spool_of(&config).await);
    let stream = server.jetstream().await.get_stream("INTAKE").await.unwrap();
    assert_eq!(stream.cached_info().config.max_bytes, (2 << 30) / 1_000 * 60);
}

#[tokio::test]
async fn streams_that_shrink_make_room_for_those_that_grow() {
    let directory = TempDir::new().unwrap();
    let limit = directory.path().join("limit.conf");
    std::fs::write(&limit, format!("jetstream {{ max_file_store: {} }}\n", 1u64 << 30)).unwrap();
    let server = Server::start_with(directory, &["--config", limit.to_str().unwrap()]);
    drop(server.spool().await);
    // As an older build had divided it: more for the dead letters, which come last, less for READY, which comes first.
    let jetstream = server.jetstream().await;
    let resize = async |name: &str, by: i64| {
        let mut config = jetstream.get_stream(name).await.unwrap().cached_info().config.clone();
        config.max_bytes += by;
        jetstream.update_stream(&config).await.unwrap();
    };
    resize("READY_B0", -100_000_000).await;
    resize("DEAD", 100_000_000).await;
    drop(server.spool().await);
    let ready = jetstream.get_stream("READY_B0").await.unwrap();
    assert_eq!(ready.cached_info().config.max_bytes, (1 << 30) / 1_000 * 200);
}

#[tokio::test]
async fn more_storage_than_the_server_has_is_one_clear_line() {
    let server = Server::start();
    let config = NatsConfig { storage_bytes: 1 << 60, ..server.config() };
    let text = refusal(&config).await.to_string();
    assert!(text.contains("lower storage_bytes in [nats], or raise the server's max_file_store"), "{text}");
}

#[tokio::test]
async fn an_absent_server_is_one_clear_line() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://127.0.0.1:{}", listener.local_addr().unwrap().port());
    drop(listener);
    let error = refusal(&NatsConfig { urls: vec![url.clone()], ..NatsConfig::default() }).await;
    assert!(matches!(error, OpenError::Connect(ConnectError::Absent { .. })));
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("Is nats-server running there?"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let old = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let info = r#"{"server_id":"x","server_name":"x","version":"2.14.6","proto":1,"go":"x","host":"x","port":1,"headers":true,"max_payload":1048576,"client_id":1}"#;
        socket.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut lines = tokio::io::BufReader::new(&mut socket);
        let mut line = String::new();
        while tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.unwrap() > 0 {
            if line.starts_with("PING") {
                lines.get_mut().write_all(b"PONG\r\n").await.unwrap();
            }
            line.clear();
        }
    });
    let text = refusal(&NatsConfig { urls: vec![url.clone()], ..NatsConfig::default() }).await.to_string();
    assert_eq!(text, format!("nats-server 2.14.6 at {url} is too old: Postrider needs 2.15.1 or newer"));
    old.abort();
}

#[tokio::test]
async fn a_password_in_a_url_is_never_shown() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("nats://user:geheim@127.0.0.1:{port}");
    let config = NatsConfig { urls: vec![url], password: Some("geheim".to_owned()), ..NatsConfig::default() };
    let config = NatsConfig { user: Some("user".to_owned()), ..config };
    assert!(!refusal(&config).await.to_string().contains("geheim"));
    assert!(!format!("{:?}", NatsConfig { urls: Vec::new(), ..config }).contains("geheim"));
}
