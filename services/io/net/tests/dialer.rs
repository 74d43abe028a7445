//! Connections on loopback, and whose fault it is when there is none.
#![allow(clippy::unwrap_used, reason = "what tests are built from may panic as tests do")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use postrider_net::{DialFailure, Dialer, DialerConfig, Reach};
use tokio::net::{TcpListener, TcpSocket};

const PATIENCE: Duration = Duration::from_secs(5);

fn dialer() -> Dialer {
    Dialer::direct(&DialerConfig::default())
}

async fn listener() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_connection_comes_from_its_source_address() -> Result<()> {
    let (listener, target) = listener().await?;
    let stream = dialer().dial(target, Some(ip("127.0.1.5")), Reach::Anywhere, PATIENCE).await?;
    let (_, peer) = listener.accept().await?;
    assert_eq!(peer.ip(), ip("127.0.1.5"));
    assert!(stream.nodelay()?);
    Ok(())
}

#[tokio::test]
async fn without_a_source_the_system_chooses() -> Result<()> {
    let (_listener, target) = listener().await?;
    let stream = dialer().dial(target, None, Reach::Anywhere, PATIENCE).await?;
    assert_eq!(stream.peer_addr()?, target);
    Ok(())
}

#[tokio::test]
async fn a_private_destination_is_refused_without_trying() -> Result<()> {
    let (listener, target) = listener().await?;
    let refused = dialer().dial(target, None, Reach::Public, PATIENCE).await;
    assert!(matches!(refused, Err(DialFailure::NotPublic { target: at }) if at == target), "{refused:?}");
    // The first connection that arrives is the one that was allowed.
    let allowed = dialer().dial(target, None, Reach::Anywhere, PATIENCE).await?;
    assert_eq!(listener.accept().await?.1, allowed.local_addr()?);
    Ok(())
}

#[tokio::test]
async fn a_private_destination_in_ipv6_clothes_is_refused() {
    for target in ["[::ffff:127.0.0.1]:25", "[64:ff9b::7f00:1]:25", "[2002:7f00:1::1]:25", "169.254.169.254:80"] {
        let refused = dialer().dial(target.parse().unwrap(), None, Reach::Public, PATIENCE).await;
        assert!(matches!(refused, Err(DialFailure::NotPublic { .. })), "{target}: {refused:?}");
    }
}

#[tokio::test]
async fn a_laboratory_may_count_a_network_as_public() -> Result<()> {
    let (_listener, target) = listener().await?;
    let config: DialerConfig = toml::from_str("also_public = [\"127.0.0.0/24\"]")?;
    Dialer::direct(&config).dial(target, None, Reach::Public, PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn a_closed_port_is_the_destinations_fault() -> Result<()> {
    let (listener, target) = listener().await?;
    drop(listener);
    for source in [None, Some(ip("127.0.1.5"))] {
        let failure = dialer().dial(target, source, Reach::Anywhere, PATIENCE).await.unwrap_err();
        assert!(matches!(failure, DialFailure::Destination { .. }), "{failure:?}");
        assert_eq!(failure.to_string(), format!("cannot connect to {target}: Connection refused (os error 111)"));
    }
    Ok(())
}

#[tokio::test]
async fn a_destination_that_does_not_answer_is_given_up_in_time() -> Result<()> {
    // A listener that accepts nobody: once its queue is full, connections stay unanswered.
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(1)?;
    let target = listener.local_addr()?;
    let mut queued = Vec::new();
    for _ in 0..16 {
        match dialer().dial(target, None, Reach::Anywhere, Duration::from_millis(200)).await {
            Ok(stream) => queued.push(stream),
            Err(DialFailure::Destination { error, .. }) => {
                assert_eq!(error.to_string(), "no answer within 0.2 s");
                return Ok(());
            }
            Err(other) => anyhow::bail!("{other:?}"),
        }
    }
    anyhow::bail!("the queue never filled")
}

#[tokio::test]
async fn a_source_address_that_is_not_ours_is_the_sources_fault() -> Result<()> {
    let (_listener, target) = listener().await?;
    let failure = dialer().dial(target, Some(ip("192.0.2.1")), Reach::Anywhere, PATIENCE).await.unwrap_err();
    assert!(matches!(failure, DialFailure::Source { address, .. } if address == ip("192.0.2.1")), "{failure:?}");
    Ok(())
}

#[tokio::test]
async fn a_source_of_the_other_ip_version_is_not_blamed() {
    let target = "[2600::1]:25".parse().unwrap();
    let failure = dialer().dial(target, Some(ip("127.0.0.1")), Reach::Public, PATIENCE).await.unwrap_err();
    assert!(matches!(failure, DialFailure::Destination { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_busy_source_does_not_run_out_of_ports_in_time_wait() -> Result<()> {
    let (listener, target) = listener().await?;
    for _ in 0..200 {
        let stream = dialer().dial(target, Some(ip("127.0.1.6")), Reach::Anywhere, PATIENCE).await?;
        let (accepted, _) = listener.accept().await?;
        drop(stream);
        drop(accepted);
    }
    Ok(())
}
