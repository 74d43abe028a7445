//! The control service as a value: built of its collaborators, bound, run until shutdown. Decides nothing about the API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postrider_nats::Spool;
use postrider_proto::DESCRIPTORS;
use postrider_proto::control::v1::audit_service_server::AuditServiceServer;
use postrider_proto::control::v1::config_service_server::ConfigServiceServer;
use postrider_proto::control::v1::credential_service_server::CredentialServiceServer;
use postrider_proto::control::v1::dead_letter_service_server::DeadLetterServiceServer;
use postrider_proto::control::v1::domain_service_server::DomainServiceServer;
use postrider_proto::control::v1::event_service_server::EventServiceServer;
use postrider_proto::control::v1::message_service_server::MessageServiceServer;
use postrider_proto::control::v1::operation_service_server::OperationServiceServer;
use postrider_proto::control::v1::order_service_server::OrderServiceServer;
use postrider_proto::control::v1::queue_service_server::QueueServiceServer;
use postrider_proto::control::v1::route_service_server::RouteServiceServer;
use postrider_proto::control::v1::tenant_service_server::TenantServiceServer;
use postrider_runtime::{ClusterKey, Readiness, ReadinessFlag};
use prometheus::Registry;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::ControlConfig;
use crate::api::Api;
use crate::audit::{self, Auditor};
use crate::auth::Authentication;
use crate::bodies;
use crate::metrics::Metrics;
use crate::store::Store;

/// A document of a large configuration is a large message.
const LARGEST_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// How long calls under way may take after shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// How often health looks at the connection to the queue.
const LOOK: Duration = Duration::from_secs(1);

/// What the control service works with.
#[derive(Clone, Debug)]
pub struct Collaborators {
    /// The queue, the journal and the config bucket.
    pub spool: Spool,
    /// Makes MACs of secrets and seals DKIM keys.
    pub cluster_key: ClusterKey,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Gets the condition `control`.
    pub readiness: Readiness,
}

/// Why the control service does not start or went down.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The configuration does not make sense; the text says what to change.
    #[error("{0}")]
    Config(String),
    /// A file that the configuration names.
    #[error("{what} {path}: cannot be read")]
    File {
        /// The key of the configuration.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address is taken, or not ours.
    #[error("control.listen {address}: cannot listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// gRPC could not be set up or broke down.
    #[error("gRPC")]
    Grpc(#[from] tonic::transport::Error),
    /// The reflection service could not read our own descriptors.
    #[error("gRPC reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A metric is registered already.
    #[error("metrics")]
    Metrics(#[from] prometheus::Error),
}

/// The control service, built and not yet bound.
pub struct Control {
    address: SocketAddr,
    router: Router,
    health: HealthReporter,
    ready: ReadinessFlag,
    spool: Spool,
    closing: CancellationToken,
    auditor: Auditor,
    audit_every: Option<Duration>,
    bodies_kept: Duration,
    metrics: Metrics,
}

/// The control service with its address, not yet answering.
pub struct BoundControl {
    control: Control,
    listener: TcpListener,
    address: SocketAddr,
}

impl Control {
    /// Reads the token and the certificates, and puts the services together. Must be called within a runtime.
    ///
    /// # Errors
    /// One line that says which key of the configuration to change.
    pub fn build(config: &ControlConfig, collaborators: Collaborators) -> Result<Self, ControlError> {
        let Collaborators { spool, cluster_key, registry, readiness } = collaborators;
        let metrics = Metrics::new(&registry)?;
        let mut server = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)));
        if let Some((certificate, key)) = config.tls_files()? {
            let certificate = read("control.certificate_file", certificate)?;
            let identity = Identity::from_pem(certificate, read("control.key_file", key)?);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let authentication = Authentication::load(&config.token_file, metrics.clone())?;
        let closing = CancellationToken::new();
        let auditor = Auditor::new(&spool, config.audit_kept()?);
        let api = Api {
            store: Arc::new(Store::new(&spool, metrics.clone())),
            spool: spool.clone(),
            key: cluster_key,
            metrics: metrics.clone(),
            auditor: auditor.clone(),
            closing: closing.clone(),
        };
        let (health, health_service) = tonic_health::server::health_reporter();
        // Health is for probes, which have no token.
        let router = services(server.add_service(health_service), &api, &authentication)?;
        let ready = readiness.flag("control");
        let (audit_every, bodies_kept) = (config.audit_every(), config.bodies_kept());
        let address = config.listen;
        Ok(Self { address, router, health, ready, spool, closing, auditor, audit_every, bodies_kept, metrics })
    }

    /// Binds the address of the configuration.
    ///
    /// # Errors
    /// If it is taken, or not ours.
    pub async fn bind(self) -> Result<BoundControl, ControlError> {
        let address = self.address;
        let failed = |source| ControlError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(BoundControl { control: self, listener, address })
    }
}

fn services(router: Router, api: &Api, authentication: &Authentication) -> Result<Router, ControlError> {
    macro_rules! authenticated {
        ($server:ident) => {
            InterceptedService::new(
                $server::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST_BYTES),
                authentication.clone(),
            )
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(router
        .add_service(InterceptedService::new(reflection, authentication.clone()))
        .add_service(authenticated!(TenantServiceServer))
        .add_service(authenticated!(CredentialServiceServer))
        .add_service(authenticated!(DomainServiceServer))
        .add_service(authenticated!(RouteServiceServer))
        .add_service(authenticated!(ConfigServiceServer))
        .add_service(authenticated!(QueueServiceServer))
        .add_service(authenticated!(MessageServiceServer))
        .add_service(authenticated!(EventServiceServer))
        .add_service(authenticated!(AuditServiceServer))
        .add_service(authenticated!(DeadLetterServiceServer))
        .add_service(authenticated!(OrderServiceServer))
        .add_service(authenticated!(OperationServiceServer)))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, ControlError> {
    std::fs::read(path).map_err(|source| ControlError::File { what, path: path.to_owned(), source })
}

impl BoundControl {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`; then ends endless streams and lets calls under way finish, for a few seconds.
    ///
    /// # Errors
    /// If the listener breaks down.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ControlError> {
        let Control { router, health, ready, spool, closing, auditor, audit_every, bodies_kept, metrics, .. } =
            self.control;
        let counting = tokio::spawn({
            let (auditor, closing) = (auditor.clone(), closing.clone());
            async move { auditor.count(closing).await }
        });
        tokio::spawn(bodies::run(spool.clone(), bodies_kept, metrics.clone(), closing.clone()));
        if let Some(every) = audit_every {
            tokio::spawn(audit::check(auditor, spool.clone(), every, metrics, closing.clone()));
        }
        tracing::info!(address = %self.address, "control serves");
        let incoming = TcpIncoming::from(self.listener).with_nodelay(Some(true));
        let serving = router.serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());
        tokio::pin!(serving);
        ready.met();
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            () = watch_health(&health, &spool) => None,
            () = shutdown.cancelled() => None,
        };
        if let Some(ended) = ended {
            closing.cancel();
            return Ok(ended?);
        }
        ready.unmet("shutting down");
        health.set_service_status("", ServingStatus::NotServing).await;
        closing.cancel();
        match tokio::time::timeout(GRACE, async { (serving.await, counting.await) }).await {
            Ok((ended, _)) => Ok(ended?),
            Err(_) => {
                tracing::warn!("calls were still under way and have been cut off");
                Ok(())
            }
        }
    }
}

/// Tells probes whether the queue can be reached; never ends.
async fn watch_health(health: &HealthReporter, spool: &Spool) {
    loop {
        let status = if spool.connected() { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        tokio::time::sleep(LOOK).await;
    }
}
