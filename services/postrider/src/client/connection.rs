//! How a client command finds the control service and its token: options, then environment, then the client's
//! configuration file, then the defaults of `postrider up`. Never sends a token in plain text off this machine.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use postrider_proto::control::v1 as api;
use serde::Deserialize;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::Failure;

const DEFAULT_SERVER: &str = "127.0.0.1:2090";
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Where the control service is, and what proves that we may use it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Connection {
    /// The control service: HOST:PORT, or https://HOST:PORT where it speaks TLS [default: `server` in
    /// ~/.config/postrider/client.toml, else 127.0.0.1:2090]
    #[arg(long, global = true, env = "POSTRIDER_SERVER", value_name = "ADDRESS", hide_env_values = true)]
    server: Option<String>,
    /// The file that holds the token [default: `token_file` in ~/.config/postrider/client.toml]
    #[arg(long, global = true, env = "POSTRIDER_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,
    /// Certificates (PEM) that the server's is checked against [default: `ca_file` in the configuration file, else the
    /// system's]
    #[arg(long, global = true, env = "POSTRIDER_CA_FILE", value_name = "FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
}

/// `~/.config/postrider/client.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFile {
    server: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// An open connection to the control service.
#[derive(Clone)]
pub struct Session {
    channel: InterceptedService<Channel, Bearer>,
    place: Place,
}

/// Where we talk to, for error texts.
#[derive(Clone, Debug)]
pub(super) struct Place {
    server: String,
    config: String,
}

/// Puts the token on every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Connection {
    /// Connects.
    pub(super) async fn open(self) -> Result<Session, Failure> {
        let config = config_path();
        let file = match &config {
            Some(path) => read_client_file(path)?,
            None => ClientFile::default(),
        };
        let place = Place {
            server: self.server.or(file.server).unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
            config: config.map_or_else(|| "~/.config/postrider/client.toml".into(), |path| path.display().to_string()),
        };
        let token_file = self.token_file.or(file.token_file).ok_or_else(|| {
            Failure::Usage(format!(
                "no token: name its file by --token-file, POSTRIDER_TOKEN_FILE, or `token_file` in {}",
                place.config
            ))
        })?;
        let token = read_token(&token_file)?;
        let endpoint = endpoint(&place.server, self.ca_file.or(file.ca_file).as_deref())?;
        let channel = endpoint.connect().await.map_err(|error| Failure::Unreachable {
            server: place.server.clone(),
            why: deepest(&error),
            config: place.config.clone(),
        })?;
        Ok(Session { channel: InterceptedService::new(channel, Bearer(token)), place })
    }
}

macro_rules! clients {
    ($($name:ident: $module:ident :: $client:ident),* $(,)?) => {
        $(pub(super) fn $name(&self) -> api::$module::$client<InterceptedService<Channel, Bearer>> {
            api::$module::$client::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER_BYTES)
        })*
    };
}

impl Session {
    clients! {
        tenants: tenant_service_client::TenantServiceClient,
        credentials: credential_service_client::CredentialServiceClient,
        domains: domain_service_client::DomainServiceClient,
        routes: route_service_client::RouteServiceClient,
        config: config_service_client::ConfigServiceClient,
        queue: queue_service_client::QueueServiceClient,
        messages: message_service_client::MessageServiceClient,
        audit: audit_service_client::AuditServiceClient,
        orders: order_service_client::OrderServiceClient,
        operations: operation_service_client::OperationServiceClient,
        dead_letters: dead_letter_service_client::DeadLetterServiceClient,
        events: event_service_client::EventServiceClient,
    }

    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }
}

impl Place {
    /// Says of a failure of the connection or the token where it happened and what to do.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let Failure::Refused(status) = failure else { return failure };
        let (server, config, why) = (self.server.clone(), self.config.clone(), status.message().to_owned());
        match status.code() {
            Code::Unauthenticated => Failure::Token { server, why, config },
            // A status with a cause was made on our side: the connection broke. Without, the server itself said so.
            Code::Unavailable if status.source().is_some() => Failure::Unreachable { server, why, config },
            _ => Failure::Refused(status),
        }
    }
}

/// Collects all pages of a list: `next` asks for the page behind a token.
pub(super) async fn pages<T>(
    mut next: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Status>,
) -> Result<Vec<T>, Failure> {
    let (mut all, mut page_token) = next(String::new()).await?;
    while !page_token.is_empty() {
        let (more, following) = next(page_token).await?;
        all.extend(more);
        page_token = following;
    }
    Ok(all)
}

fn config_path() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|directory| !directory.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(directory.join("postrider").join("client.toml"))
}

fn read_client_file(path: &Path) -> Result<ClientFile, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ClientFile::default()),
        Err(source) => return Err(Failure::File { what: format!("{} cannot be read", path.display()), source }),
    };
    let mut file: ClientFile = toml::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
    // Paths in the file are relative to it.
    let beside = path.parent().unwrap_or(Path::new(""));
    file.token_file = file.token_file.map(|token| beside.join(token));
    file.ca_file = file.ca_file.map(|ca| beside.join(ca));
    Ok(file)
}

fn read_token(path: &Path) -> Result<MetadataValue<Ascii>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::File {
        what: format!("the token file {} cannot be read", path.display()),
        source,
    })?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", text.trim())
        .parse()
        .map_err(|_| Failure::Usage(format!("the token file {} holds no token", path.display())))?;
    value.set_sensitive(true);
    Ok(value)
}

fn endpoint(server: &str, ca_file: Option<&Path>) -> Result<Endpoint, Failure> {
    let no = |why: String| Failure::Usage(format!("--server {server}: {why}"));
    let tls = server.starts_with("https://") || (ca_file.is_some() && !server.starts_with("http://"));
    let address = server.trim_start_matches("http://").trim_start_matches("https://").trim_end_matches('/');
    let scheme = if tls { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|_| no("expected HOST:PORT or https://HOST:PORT".into()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let host = endpoint.uri().host().unwrap_or_default().to_owned();
    if endpoint.uri().port().is_none() {
        return Err(no("the port is missing; expected HOST:PORT or https://HOST:PORT".into()));
    }
    if !tls {
        return if is_loopback(&host) {
            Ok(endpoint)
        } else {
            Err(no(format!("a token goes over plain text on loopback only; use https://{address}")))
        };
    }
    let roots = ca_file.unwrap_or(Path::new(SYSTEM_ROOTS));
    let pem = std::fs::read(roots).map_err(|source| Failure::File {
        what: format!("certificates to check {server} against: {} cannot be read (--ca-file)", roots.display()),
        source,
    })?;
    endpoint
        .tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
        .map_err(|error| no(format!("TLS: {}", deepest(&error))))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The last cause of an error: tonic's own words (`transport error`) say nothing.
fn deepest(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_in_plain_text_to_loopback_only() {
        assert!(endpoint("127.0.0.1:2090", None).is_ok());
        assert!(endpoint("[::1]:2090", None).is_ok());
        assert!(endpoint("localhost:2090", None).is_ok());
        let failure = endpoint("192.0.2.1:2090", None).unwrap_err().to_string();
        assert!(failure.contains("use https://192.0.2.1:2090"), "{failure}");
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        let failure = endpoint("localhost", None).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("port is missing"));
    }

    #[test]
    fn an_unknown_key_of_the_configuration_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.toml");
        std::fs::write(&path, "sever = \"127.0.0.1:1\"\n").unwrap();
        let failure = read_client_file(&path).unwrap_err().to_string();
        assert!(failure.contains("client.toml") && failure.contains("`sever`"), "{failure}");
    }

    #[test]
    fn paths_in_the_configuration_file_are_relative_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.toml");
        std::fs::write(&path, "token_file = \"token\"\n").unwrap();
        assert_eq!(read_client_file(&path).unwrap().token_file, Some(directory.path().join("token")));
    }
}
