//! Who may call, and how calls travel.

use futures_util::{Stream, stream};
use postrider_control::{Collaborators, Control, ControlConfig};
use postrider_proto::control::v1::ListTenantsRequest;
use postrider_proto::control::v1::tenant_service_client::TenantServiceClient;
use postrider_runtime::Readiness;
use prometheus::Registry;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::cluster::{Bearer, Cluster, TOKEN, key};
use crate::server::Server;

fn config(directory: &std::path::Path, listen: &str, token: &str) -> ControlConfig {
    std::fs::write(directory.join("token"), token).unwrap();
    ControlConfig {
        listen: listen.parse().unwrap(),
        token_file: directory.join("token"),
        certificate_file: None,
        key_file: None,
        audit_every_secs: 0,
        bodies_kept_secs: 1,
        audit_hours_days: 14,
        audit_days: 366,
    }
}

async fn refusal(config: &ControlConfig) -> String {
    let server = Server::start();
    let collaborators = Collaborators {
        spool: server.spool().await,
        cluster_key: key(),
        registry: Registry::new(),
        readiness: Readiness::new(),
    };
    Control::build(config, collaborators).err().unwrap().to_string()
}

#[tokio::test]
async fn a_call_without_a_token_is_refused() {
    let cluster = Cluster::start().await;
    let mut client = TenantServiceClient::new(cluster.channel());
    let refusal = client.list_tenants(ListTenantsRequest::default()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    assert!(refusal.message().contains("authorization: Bearer"), "{}", refusal.message());
}

#[tokio::test]
async fn a_wrong_token_is_refused_without_a_hint_and_counted() {
    let cluster = Cluster::start().await;
    for wrong in ["Bearer wrong", "Bearer ", "Basic 0123456789abcdef-token", "Bearer 0123456789abcdef-tokem"] {
        let bearer = Bearer(wrong.parse().unwrap());
        let mut client = TenantServiceClient::new(InterceptedService::new(cluster.channel(), bearer));
        let refusal = client.list_tenants(ListTenantsRequest::default()).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (Code::Unauthenticated, "wrong token"));
    }
    let line = "postrider_control_requests_total{code=\"unauthenticated\",method=\"any\"}";
    assert_eq!(cluster.counted(line).as_deref(), Some("4"));
}

#[tokio::test]
async fn each_line_of_the_token_file_is_a_token() {
    let cluster = Cluster::start().await;
    let bearer = Bearer(format!("Bearer another-token-{TOKEN}").parse().unwrap());
    let mut client = TenantServiceClient::new(InterceptedService::new(cluster.channel(), bearer));
    client.list_tenants(ListTenantsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn health_needs_no_token() {
    let cluster = Cluster::start().await;
    let answer = HealthClient::new(cluster.channel()).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
}

/// Asks the server which services it has.
fn which_services() -> impl Stream<Item = ServerReflectionRequest> {
    let request = MessageRequest::ListServices(String::new());
    stream::iter([ServerReflectionRequest { host: String::new(), message_request: Some(request) }])
}

#[tokio::test]
async fn reflection_lists_our_services() {
    let cluster = Cluster::start().await;
    let mut client = ServerReflectionClient::new(cluster.authenticated());
    let mut answers = client.server_reflection_info(which_services()).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort_unstable();
    let ours = [
        "Audit",
        "Config",
        "Credential",
        "DeadLetter",
        "Domain",
        "Event",
        "Message",
        "Operation",
        "Order",
        "Queue",
        "Route",
        "Tenant",
    ];
    let mut expected: Vec<String> = ours.iter().map(|name| format!("postrider.control.v1.{name}Service")).collect();
    expected.splice(..0, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"].map(str::to_owned));
    assert_eq!(names, expected);
}

#[tokio::test]
async fn reflection_without_a_token_is_refused() {
    let cluster = Cluster::start().await;
    let mut client = ServerReflectionClient::new(cluster.channel());
    let refusal = client.server_reflection_info(which_services()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn plain_text_off_loopback_is_refused_before_anything_listens() {
    let directory = tempfile::tempdir().unwrap();
    let refusal = refusal(&config(directory.path(), "0.0.0.0:0", TOKEN)).await;
    assert!(refusal.contains("control.certificate_file"), "{refusal}");
}

#[tokio::test]
async fn a_token_that_can_be_guessed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for bad in ["", "\n\n", "short\n"] {
        let refusal = refusal(&config(directory.path(), "127.0.0.1:0", bad)).await;
        assert!(refusal.contains("control.token_file"), "{refusal}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let cluster = Cluster::start().await;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &cluster.address.to_string(), TOKEN);
    let collaborators = Collaborators {
        spool: cluster.spool.clone(),
        cluster_key: key(),
        registry: Registry::new(),
        readiness: Readiness::new(),
    };
    let refusal = Control::build(&config, collaborators).unwrap().bind().await.err().unwrap().to_string();
    assert!(refusal.contains(&cluster.address.to_string()), "{refusal}");
}

#[tokio::test]
async fn with_a_certificate_calls_travel_in_tls() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path().join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(directory.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
    let config = ControlConfig {
        certificate_file: Some(directory.path().join("cert.pem")),
        key_file: Some(directory.path().join("key.pem")),
        ..config(directory.path(), "127.0.0.1:0", TOKEN)
    };
    let collaborators = Collaborators {
        spool: server.spool().await,
        cluster_key: key(),
        registry: Registry::new(),
        readiness: Readiness::new(),
    };
    let bound = Control::build(&config, collaborators).unwrap().bind().await.unwrap();
    let port = bound.address().port();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(bound.run(shutdown.clone()));
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(cert.pem()));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap().tls_config(tls).unwrap();
    let bearer = Bearer(format!("Bearer {TOKEN}").parse().unwrap());
    let mut client = TenantServiceClient::new(InterceptedService::new(endpoint.connect().await.unwrap(), bearer));
    client.list_tenants(ListTenantsRequest::default()).await.unwrap();
    shutdown.cancel();
    drop(client);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_ends_a_tail_that_is_followed() {
    let mut cluster = Cluster::start().await;
    let request = postrider_proto::control::v1::TailEventsRequest { follow: true, ..Default::default() };
    let mut stream = cluster.events().tail_events(request).await.unwrap().into_inner();
    cluster.shutdown.cancel();
    let ended = tokio::time::timeout(crate::server::PATIENCE, stream.message()).await.expect("the stream ends");
    assert!(matches!(ended, Ok(None) | Err(_)), "{ended:?}");
    let running = &mut cluster.running;
    tokio::time::timeout(crate::server::PATIENCE, running).await.expect("control ends").unwrap();
}
