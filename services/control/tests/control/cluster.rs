//! A control service of one's own, with clients that bear its token.

use std::net::SocketAddr;

use postrider_control::{Collaborators, Control, ControlConfig};
use postrider_model::{MemberId, Snapshot, Timestamp};
use postrider_nats::{Member, Membership, Spool};
use postrider_proto::control::v1::audit_service_client::AuditServiceClient;
use postrider_proto::control::v1::config_service_client::ConfigServiceClient;
use postrider_proto::control::v1::credential_service_client::CredentialServiceClient;
use postrider_proto::control::v1::dead_letter_service_client::DeadLetterServiceClient;
use postrider_proto::control::v1::domain_service_client::DomainServiceClient;
use postrider_proto::control::v1::event_service_client::EventServiceClient;
use postrider_proto::control::v1::message_service_client::MessageServiceClient;
use postrider_proto::control::v1::operation_service_client::OperationServiceClient;
use postrider_proto::control::v1::order_service_client::OrderServiceClient;
use postrider_proto::control::v1::queue_service_client::QueueServiceClient;
use postrider_proto::control::v1::route_service_client::RouteServiceClient;
use postrider_proto::control::v1::tenant_service_client::TenantServiceClient;
use postrider_proto::control::v1::{CreateTenantRequest, Tenant};
use postrider_runtime::{ClusterKey, Readiness};
use prometheus::Registry;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::server::{PATIENCE, Server};

pub const TOKEN: &str = "0123456789abcdef-token";

/// Puts a token on every call.
#[derive(Clone)]
pub struct Bearer(pub MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub type Authenticated = InterceptedService<Channel, Bearer>;

/// The cluster key of every cluster here but one.
pub fn key() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

pub struct Cluster {
    pub spool: Spool,
    pub registry: Registry,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
    channel: Channel,
    pub server: Server,
    directory: TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(key()).await
    }

    pub async fn start_with(cluster_key: ClusterKey) -> Self {
        let server = Server::start();
        let spool = server.spool().await;
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("token"), format!("another-token-{TOKEN}\n{TOKEN}\n")).unwrap();
        let config = ControlConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            token_file: directory.path().join("token"),
            certificate_file: None,
            key_file: None,
            audit_every_secs: 1,
            bodies_kept_secs: 1,
            audit_hours_days: 14,
            audit_days: 366,
        };
        let registry = Registry::new();
        let collaborators = Collaborators {
            spool: spool.clone(),
            cluster_key,
            registry: registry.clone(),
            readiness: Readiness::new(),
        };
        let bound = Control::build(&config, collaborators).unwrap().bind().await.unwrap();
        let address = bound.address();
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let running = tokio::spawn(async move { bound.run(until).await.unwrap() });
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { spool, registry, address, shutdown, running, channel, server, directory }
    }

    /// A client of another control process of the same cluster.
    pub async fn another(&self) -> AuditServiceClient<Authenticated> {
        let config = ControlConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            token_file: self.directory.path().join("token"),
            certificate_file: None,
            key_file: None,
            audit_every_secs: 0,
            bodies_kept_secs: 1,
            audit_hours_days: 14,
            audit_days: 366,
        };
        let collaborators = Collaborators {
            spool: self.server.spool().await,
            cluster_key: key(),
            registry: Registry::new(),
            readiness: Readiness::new(),
        };
        let bound = Control::build(&config, collaborators).unwrap().bind().await.unwrap();
        let address = bound.address();
        let until = self.shutdown.clone();
        tokio::spawn(async move { bound.run(until).await.unwrap() });
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let bearer = Bearer(format!("Bearer {TOKEN}").parse().unwrap());
        AuditServiceClient::new(InterceptedService::new(channel, bearer))
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn authenticated(&self) -> Authenticated {
        InterceptedService::new(self.channel(), Bearer(format!("Bearer {TOKEN}").parse().unwrap()))
    }

    pub fn tenants(&self) -> TenantServiceClient<Authenticated> {
        TenantServiceClient::new(self.authenticated())
    }

    pub fn credentials(&self) -> CredentialServiceClient<Authenticated> {
        CredentialServiceClient::new(self.authenticated())
    }

    pub fn domains(&self) -> DomainServiceClient<Authenticated> {
        DomainServiceClient::new(self.authenticated())
    }

    pub fn routes(&self) -> RouteServiceClient<Authenticated> {
        RouteServiceClient::new(self.authenticated())
    }

    pub fn config(&self) -> ConfigServiceClient<Authenticated> {
        ConfigServiceClient::new(self.authenticated())
    }

    pub fn dead_letters(&self) -> DeadLetterServiceClient<Authenticated> {
        DeadLetterServiceClient::new(self.authenticated())
    }

    pub fn orders(&self) -> OrderServiceClient<Authenticated> {
        OrderServiceClient::new(self.authenticated())
    }

    pub fn operations(&self) -> OperationServiceClient<Authenticated> {
        OperationServiceClient::new(self.authenticated())
    }

    pub fn audit(&self) -> AuditServiceClient<Authenticated> {
        AuditServiceClient::new(self.authenticated())
    }

    pub fn queue(&self) -> QueueServiceClient<Authenticated> {
        QueueServiceClient::new(self.authenticated())
    }

    pub fn messages(&self) -> MessageServiceClient<Authenticated> {
        MessageServiceClient::new(self.authenticated())
    }

    pub fn events(&self) -> EventServiceClient<Authenticated> {
        EventServiceClient::new(self.authenticated())
    }

    pub async fn tenant(&self, id: &str) {
        let tenant = Tenant { id: id.to_owned(), ..Tenant::default() };
        self.tenants().create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
    }

    /// A member that follows the configuration, or one that has stopped doing so.
    pub async fn member(&self, name: &str, follows: bool) -> Membership {
        let snapshot = if follows {
            tokio::time::timeout(PATIENCE, self.spool.watch_snapshot()).await.expect("a snapshot")
        } else {
            // The sender may go: the last value stays.
            tokio::sync::watch::channel(std::sync::Arc::new(Snapshot::default())).1
        };
        let id: MemberId = name.parse().unwrap();
        let member = Member {
            id: id.clone(),
            roles: vec!["delivery".to_owned()],
            version: "test".to_owned(),
            config_revision: 0,
            started: Timestamp::from_millis(1),
        };
        let membership = self.spool.join(member, snapshot);
        let mut members = self.spool.lease_store().watch_members();
        let joined = members.wait_for(|members| members.contains_key(&id));
        tokio::time::timeout(PATIENCE, joined).await.expect("the member joins").unwrap();
        membership
    }

    /// The value of a counter of the control service.
    pub fn counted(&self, line: &str) -> Option<String> {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().find_map(|found| found.strip_prefix(line).map(|value| value.trim().to_owned()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.running.abort();
    }
}
