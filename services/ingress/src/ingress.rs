//! The service: builds its listeners, binds them, hands each connection to a session, and drains at shutdown. Decides only
//! how many connections there may be.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_model::Snapshot;
use postrider_nats::Spool;
use postrider_net::SiteResolver;
use postrider_net::tls::{Reload, ServerCertificate, TlsError, server_config};
use postrider_runtime::{ClusterKey, Readiness, ReadinessFlag};
use postrider_smtp::Bounds;
use prometheus::Registry;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, Crowded, Failures};
use crate::config::IngressConfig;
use crate::listener::{Listener, ListenerError};
use crate::metrics::Metrics;
use crate::refusal::Because;
use crate::room::Room;
use crate::session::Session;
use crate::strain::Strain;

/// What an ingress works with.
pub struct Collaborators {
    /// Where messages become durable.
    pub spool: Spool,
    /// Tenants, credentials, domains, routes.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Checks credentials.
    pub cluster_key: ClusterKey,
    /// Finds the sites of recipients.
    pub sites: SiteResolver,
    /// Takes the metrics `postrider_accepted_*`, `postrider_refused_*`, `postrider_ingress_*`.
    pub registry: Registry,
    /// Gets the flag `ingress`.
    pub readiness: Readiness,
}

/// Why an ingress cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Nothing to listen on.
    #[error("[ingress] has no listeners: add a table [[ingress.listeners]] with name, address and kind")]
    NoListeners,
    /// Two listeners of one name.
    #[error("[ingress] has two listeners named {0:?}")]
    SameName(String),
    /// A certificate without its key, or the other way round.
    #[error("[ingress] certificate_file and key_file go together")]
    HalfACertificate,
    /// Bounds that exclude each other.
    #[error("[ingress] {0}")]
    Bounds(&'static str),
    /// A listener that cannot work.
    #[error("[ingress] {0}")]
    Listener(#[from] ListenerError),
    /// The certificate cannot be used.
    #[error("[ingress] certificate_file")]
    Tls(#[from] TlsError),
    /// The registry has such metrics already.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
}

/// A listener's address that cannot be bound.
#[derive(Debug, Error)]
#[error("listener {name:?} cannot listen on {address}: {source}")]
pub struct BindError {
    /// The listener.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// What all sessions of an ingress share.
pub(crate) struct Shared {
    pub(crate) config: IngressConfig,
    pub(crate) bounds: Bounds,
    pub(crate) spool: Spool,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) cluster_key: ClusterKey,
    pub(crate) sites: SiteResolver,
    pub(crate) metrics: Metrics,
    pub(crate) failures: Failures,
    pub(crate) room: Room,
    pub(crate) strain: Strain,
}

/// An ingress that is configured but not bound.
pub struct Ingress {
    shared: Arc<Shared>,
    listeners: Vec<(SocketAddr, Arc<Listener>)>,
    certificate: Option<Arc<ServerCertificate>>,
    ready: ReadinessFlag,
}

/// An ingress with its sockets bound: whoever connects waits until [`Bound::run`].
pub struct Bound {
    ingress: Ingress,
    sockets: Vec<(TcpListener, Arc<Listener>)>,
    addresses: Vec<(String, SocketAddr)>,
}

impl Ingress {
    /// Checks the configuration and loads the certificate.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub async fn build(config: IngressConfig, with: Collaborators) -> Result<Self, BuildError> {
        check(&config)?;
        let certificate = match (&config.certificate_file, &config.key_file) {
            (Some(certificate), Some(key)) => Some(ServerCertificate::from_files(certificate, key).await?),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(BuildError::HalfACertificate),
        };
        let acceptor = match &certificate {
            Some(certificate) => Some(TlsAcceptor::from(server_config(Arc::clone(certificate))?)),
            None => None,
        };
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let built = Listener::new(listener, &config.host_name, acceptor.as_ref())?;
            listeners.push((listener.address, Arc::new(built)));
        }
        let shared = Shared {
            bounds: Bounds {
                text_line_bytes: config.bounds.line_bytes,
                message_bytes: config.bounds.message_bytes,
                recipients: config.bounds.recipients,
                errors_per_session: config.bounds.errors_per_session,
                auth_failures_per_session: config.auth.failures_per_session,
                ..Bounds::default()
            },
            spool: with.spool,
            snapshot: with.snapshot,
            cluster_key: with.cluster_key,
            sites: with.sites,
            metrics: Metrics::register(&with.registry, &config)?,
            failures: Failures::new(config.auth.failures_per_address, config.auth.failure_window()),
            strain: Strain::new(config.timeouts.patience()),
            room: Room::new(config.bounds.bytes_in_flight, Duration::from_secs(config.timeouts.room_secs)),
            config,
        };
        let ready = with.readiness.flag("ingress");
        Ok(Self { shared: Arc::new(shared), listeners, certificate, ready })
    }

    /// Binds all listeners, or none.
    ///
    /// # Errors
    /// The first address that cannot be bound.
    pub async fn bind(self) -> Result<Bound, BindError> {
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for (address, listener) in &self.listeners {
            let failed = |source| BindError { name: listener.name.to_string(), address: *address, source };
            let socket = TcpListener::bind(address).await.map_err(failed)?;
            addresses.push((listener.name.to_string(), socket.local_addr().map_err(failed)?));
            sockets.push((socket, Arc::clone(listener)));
        }
        Ok(Bound { ingress: self, sockets, addresses })
    }

    /// Binds and runs.
    ///
    /// # Errors
    /// As [`Ingress::bind`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), BindError> {
        self.bind().await?.run(shutdown).await;
        Ok(())
    }
}

fn check(config: &IngressConfig) -> Result<(), BuildError> {
    if config.listeners.is_empty() {
        return Err(BuildError::NoListeners);
    }
    let mut names = BTreeSet::new();
    if let Some(listener) = config.listeners.iter().find(|listener| !names.insert(&listener.name)) {
        return Err(BuildError::SameName(listener.name.clone()));
    }
    let bounds = &config.bounds;
    let too_large = bounds.message_bytes > postrider_nats::LARGEST_MESSAGE / 2;
    match () {
        () if bounds.message_bytes == 0 || too_large => {
            Err(BuildError::Bounds("bounds.message_bytes must be 1 to 128 MiB"))
        }
        () if bounds.bytes_in_flight < bounds.message_bytes => {
            Err(BuildError::Bounds("bounds.bytes_in_flight must be at least bounds.message_bytes"))
        }
        () if bounds.recipients == 0 || bounds.connections == 0 || bounds.connections_per_address == 0 => {
            Err(BuildError::Bounds("bounds.recipients, connections and connections_per_address must be at least 1"))
        }
        () if config.expiry_secs == 0 || config.expiry_secs > 7 * 86_400 => {
            Err(BuildError::Bounds("expiry_secs must be 1 second to 7 days"))
        }
        () if bounds.line_bytes < 1_000 => Err(BuildError::Bounds("bounds.line_bytes must be at least 1000")),
        () => Ok(()),
    }
}

impl Bound {
    /// Where each listener listens, by name.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// Takes mail until `shutdown`; then stops listening, lets each session end its message, and cuts those that do not end
    /// within the time for draining.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { ingress, sockets, addresses } = self;
        let Ingress { shared, certificate, ready, .. } = ingress;
        for (listener, address) in &addresses {
            tracing::info!(listener, %address, "taking mail");
        }
        let (sessions, cut) = (TaskTracker::new(), CancellationToken::new());
        let bounds = &shared.config.bounds;
        let admission = Admission::new(bounds.connections, bounds.connections_per_address);
        let accepting = TaskTracker::new();
        for (socket, listener) in sockets {
            let door = Door {
                socket,
                listener,
                shared: Arc::clone(&shared),
                admission: Arc::clone(&admission),
                sessions: sessions.clone(),
                cut: cut.clone(),
            };
            accepting.spawn(door.run(shutdown.clone()));
        }
        let watch = async {
            tokio::join!(watch_readiness(&shared, &ready), watch_certificate(certificate.as_deref()));
        };
        tokio::select! {
            () = watch => {}
            () = shutdown.cancelled() => {}
        }
        ready.unmet("shutting down");
        accepting.close();
        accepting.wait().await;
        sessions.close();
        tracing::info!(sessions = sessions.len(), "ingress is draining");
        let patience = Duration::from_secs(shared.config.timeouts.drain_secs);
        if tokio::time::timeout(patience, sessions.wait()).await.is_err() {
            tracing::warn!(sessions = sessions.len(), "cutting sessions that did not end in time");
            cut.cancel();
            sessions.wait().await;
        }
        tracing::info!("ingress has stopped");
    }
}

/// A bound socket and what happens to those who knock.
struct Door {
    socket: TcpListener,
    listener: Arc<Listener>,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    sessions: TaskTracker,
    cut: CancellationToken,
}

impl Door {
    async fn run(self, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &shutdown),
                Err(error) => {
                    // Out of file descriptors, mostly: those who are here must leave first.
                    tracing::warn!(listener = &*self.listener.name, %error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, shutdown: &CancellationToken) {
        let admitted = match self.admission.enter(peer.ip().into()) {
            Ok(admitted) => admitted,
            Err(crowded) => {
                self.shared.metrics.refused(&self.listener.name, Because::Connections);
                tracing::debug!(listener = &*self.listener.name, %peer, ?crowded, "turned away");
                if !self.listener.is_implicit() {
                    turn_away(stream, &self.shared.config, crowded);
                }
                return;
            }
        };
        let counted = self.shared.metrics.session(&self.listener.name);
        let session = Session::new(Arc::clone(&self.shared), Arc::clone(&self.listener), peer, shutdown.clone());
        let cut = self.cut.clone();
        self.sessions.spawn(async move {
            tokio::select! {
                () = session.run(stream) => {}
                () = cut.cancelled() => {}
            }
            drop((admitted, counted));
        });
    }
}

/// Says no without a session: one write that either fits the fresh socket or is lost.
fn turn_away(stream: TcpStream, config: &IngressConfig, crowded: Crowded) {
    let whose = match crowded {
        Crowded::Everybody => "",
        Crowded::Origin => " from your address",
    };
    let line = format!("421 4.7.0 {} Too many connections{whose}, try again later\r\n", config.host_name);
    let written = stream.into_std().and_then(|mut stream| stream.write(line.as_bytes()));
    if let Err(error) = written {
        tracing::trace!(%error, "left before it was turned away");
    }
}

async fn watch_readiness(shared: &Shared, ready: &ReadinessFlag) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let oldest = shared.strain.oldest(now);
        let silent = shared.spool.silent_for();
        let strained = shared.strain.observe(oldest.max(silent), now);
        let fullness = shared.spool.fullness_for(Duration::from_secs(shared.config.expiry_secs));
        shared.metrics.watched(shared.room.held_bytes(), oldest, fullness);
        // Full streams leave it ready: 452 tells senders more than a refused connection. A lost connection is a queue that says
        // nothing: one that comes back within `strain_secs` takes no ingress out of service, though mail hears 451 meanwhile.
        if let Some(error) = shared.spool.broken() {
            ready.unmet(format!(
                "{error}: mail is answered with 451 until the disk is looked after and this is started again"
            ));
        } else if strained && !shared.spool.connected() {
            ready.unmet(format!("no answer of NATS for {:.1} s: mail is answered with 451", silent.as_secs_f64()));
        } else if strained {
            ready.unmet(format!(
                "the queue does not keep up (oldest publish {:.1} s, JetStream silent for {:.1} s): mail waits, then hears 452",
                oldest.as_secs_f64(),
                silent.as_secs_f64()
            ));
        } else {
            ready.met();
        }
    }
}

async fn watch_certificate(certificate: Option<&ServerCertificate>) {
    let Some(certificate) = certificate else { return std::future::pending().await };
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        match certificate.reload().await {
            Ok(Reload::Replaced) => tracing::info!("a new certificate is in force"),
            Ok(Reload::Unchanged) => {}
            Err(error) => tracing::warn!(%error, "the certificate cannot be read again; the old one stays in force"),
        }
    }
}
