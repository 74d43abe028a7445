//! The admin endpoints of a process: `/livez`, `/readyz` and `/metrics`. They only show; nothing can be changed here.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Readiness;

/// A bound admin server, not yet answering.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    shown: Shown,
}

#[derive(Clone, Debug)]
struct Shown {
    registry: Registry,
    readiness: Readiness,
}

impl Admin {
    /// Binds `address` (port 0 takes a free one) and adds the metrics of the process itself (`process_*`) to `registry`.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr, registry: Registry, readiness: Readiness) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        // A registry that has them already (a second admin server over the same one) keeps those it has.
        if let Err(error) = registry.register(Box::new(ProcessCollector::for_self())) {
            tracing::debug!(%error, "process metrics were registered before");
        }
        Ok(Self { listener, shown: Shown { registry, readiness } })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the operating system does not know.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.shown);
        tokio::select! {
            ended = async { axum::serve(self.listener, router).await } => ended,
            () = shutdown.cancelled() => Ok(()),
        }
    }
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let status = if shown.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, shown.readiness.to_string()).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match TextEncoder::new().encode_to_string(&shown.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn it_shows_life_readiness_and_metrics_until_shutdown() {
        let (registry, readiness) = (Registry::new(), Readiness::new());
        let gauge = IntGauge::new("postrider_test", "a test").unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        gauge.set(7);
        let nats = readiness.flag("nats");
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap(), registry, readiness).await.unwrap();
        let address = admin.local_address().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(admin.run(shutdown.clone()));

        assert!(fetch(address, "/livez").await.starts_with("HTTP/1.1 200"));
        nats.unmet("disconnected");
        let response = fetch(address, "/readyz").await;
        assert!(response.starts_with("HTTP/1.1 503"), "{response}");
        assert!(response.contains("not ready: nats: disconnected"), "{response}");
        nats.met();
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let response = fetch(address, "/metrics").await;
        assert!(response.contains("postrider_test 7"), "{response}");
        assert!(response.contains("process_resident_memory_bytes"), "{response}");

        shutdown.cancel();
        running.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
