//! An ingress with everything it needs: nats-server in a folder of its own, tenants `acme` (acme.example, user alice) and
//! `other` (other.example), four listeners on free ports of loopback. All of it ends with the test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postrider_ingress::{Collaborators, Ingress, IngressConfig, ListenerConfig, ListenerKind};
use postrider_model::{Class, Credential, Route, SendingDomain, ShardLayout, Snapshot, Tenant, TenantId, TenantWeight};
use postrider_nats::{NatsConfig, Spool};
use postrider_net::tls::self_signed;
use postrider_net::{Dns, DnsConfig, SiteResolver, SiteResolverConfig};
use postrider_proto::Packet;
use postrider_runtime::{ClusterKey, Readiness};
use prometheus::{Registry, TextEncoder};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::smtp::Smtp;

/// What a test may change before the start.
pub struct Setup {
    pub ingress: IngressConfig,
    pub nats: NatsConfig,
    pub dns: DnsConfig,
    pub snapshot: Snapshot,
}

pub struct World {
    _folder: TempDir,
    nats: Child,
    pub spool: Spool,
    pub snapshot: watch::Sender<Arc<Snapshot>>,
    pub registry: Registry,
    pub readiness: Readiness,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<()>,
    addresses: BTreeMap<String, SocketAddr>,
}

pub const PASSWORD: &str = "correct horse";

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Setup)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (nats, url) = start_nats(folder.path()).await;
        let mut setup = Setup {
            ingress: ingress_config(folder.path()),
            nats: NatsConfig {
                urls: vec![url],
                storage_bytes: 512 << 20,
                publish_budget_secs: 2,
                ..NatsConfig::default()
            },
            dns: DnsConfig { servers: Some(vec!["127.0.0.1:9".parse().unwrap()]), ..DnsConfig::default() },
            snapshot: snapshot(),
        };
        change(&mut setup);
        let spool = Spool::open(&setup.nats, "ingress-test", ShardLayout::SINGLE).await.unwrap();
        let (snapshot, watched) = watch::channel(Arc::new(setup.snapshot));
        let (registry, readiness) = (Registry::new(), Readiness::new());
        let with = Collaborators {
            spool: spool.clone(),
            snapshot: watched,
            cluster_key: key(),
            sites: SiteResolver::new(Dns::new(&setup.dns).unwrap(), &SiteResolverConfig::default()),
            registry: registry.clone(),
            readiness: readiness.clone(),
        };
        let bound = Ingress::build(setup.ingress, with).await.unwrap().bind().await.unwrap();
        let addresses = bound.addresses().iter().cloned().collect();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(bound.run(shutdown.clone()));
        Self { _folder: folder, nats, spool, snapshot, registry, readiness, shutdown, running, addresses }
    }

    /// What somebody hears who wants an address that is taken.
    pub async fn try_bind(taken: SocketAddr, world: &Self) -> String {
        let mut config = IngressConfig::new("mx.example".parse().unwrap());
        config.listeners = vec![ListenerConfig::new("relay", taken, ListenerKind::Relay)];
        let with = Collaborators {
            spool: world.spool.clone(),
            snapshot: world.snapshot.subscribe(),
            cluster_key: key(),
            sites: SiteResolver::new(Dns::new(&DnsConfig::default()).unwrap(), &SiteResolverConfig::default()),
            registry: Registry::new(),
            readiness: Readiness::new(),
        };
        let bound = Ingress::build(config, with).await.unwrap().bind().await;
        bound.map(|_| ()).unwrap_err().to_string()
    }

    pub fn address(&self, listener: &str) -> SocketAddr {
        self.addresses[listener]
    }

    /// A session that has been greeted and has said EHLO.
    pub async fn greeted(&self, listener: &str) -> Smtp {
        let mut smtp = Smtp::connect(self.address(listener)).await;
        smtp.expect("220 mx.example").await;
        smtp.say("EHLO client.example", "250").await;
        smtp
    }

    /// A session of alice, in plain text.
    pub async fn alice(&self) -> Smtp {
        let mut smtp = self.greeted("plain").await;
        smtp.log_in("alice", PASSWORD).await;
        smtp
    }

    /// Everything that lies in READY, once there are so many; fails if there are more.
    pub async fn ready(&self, count: usize) -> Vec<Packet> {
        let mut pullers: Vec<_> = self.spool.shards().map(|shard| self.spool.puller(shard)).collect();
        let mut packets = Vec::new();
        while packets.len() < count {
            let patience = Duration::from_millis(300);
            // An empty shard answers only when its pull expires; one that is given up loses nothing.
            let pulls = pullers.iter_mut().map(|puller| tokio::time::timeout(patience, puller.pull(1_000, 64 << 20)));
            let leases = join_all(pulls).await.into_iter().flatten().flatten();
            packets.extend(leases.map(|lease| lease.unwrap().packet));
        }
        assert_eq!(packets.len(), count);
        packets.sort_by_key(Packet::id);
        packets
    }

    /// Splits what lies in INTAKE, until there are so many in READY.
    pub async fn split(&self, count: usize) -> Vec<Packet> {
        let stop = CancellationToken::new();
        let (spool, stopped) = (self.spool.clone(), stop.clone());
        let splitter = tokio::spawn(async move { spool.run_splitter(stopped, |_| {}).await });
        let packets = self.ready(count).await;
        stop.cancel();
        splitter.await.unwrap();
        packets
    }

    /// The message in a packet.
    pub async fn text(&self, packet: &Packet) -> String {
        String::from_utf8(self.spool.read_body(packet.body()).await.unwrap().to_vec()).unwrap()
    }

    /// Kills nats-server, and waits until that is noticed.
    pub async fn kill_nats(&mut self) {
        self.nats.kill().await.unwrap();
        until(|| !self.spool.connected()).await;
    }

    /// The process id of nats-server.
    pub fn nats_pid(&self) -> String {
        self.nats.id().unwrap().to_string()
    }

    pub fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

/// Waits until something holds; fails after ten seconds.
pub async fn until(holds: impl Fn() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "did not come to hold");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn key() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

fn nats_server() -> PathBuf {
    std::env::var_os("NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}

async fn start_nats(folder: &Path) -> (Child, String) {
    let (store, ports) = (folder.join("nats"), folder.join("ports"));
    std::fs::create_dir(&ports).unwrap();
    let config = folder.join("nats.conf");
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nports_file_dir: {ports:?}\njetstream {{ store_dir: {store:?}, max_file_store: 4G }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Command::new(nats_server())
        .arg("--config")
        .arg(&config)
        .arg("--log")
        .arg(folder.join("nats.log"))
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server: set NATS_SERVER to its path, deploy/local/nats-server fetches one");
    let file = ports.join(format!("nats-server_{}.ports", server.id().unwrap()));
    let url = || -> Option<String> {
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        Some(ports["nats"][0].as_str()?.to_owned())
    };
    until(|| url().is_some()).await;
    (server, url().unwrap())
}

fn ingress_config(folder: &Path) -> IngressConfig {
    let mut config = IngressConfig::new("mx.example".parse().unwrap());
    let any = "127.0.0.1:0".parse().unwrap();
    config.listeners = vec![
        ListenerConfig::new("relay", any, ListenerKind::Relay),
        ListenerConfig::new("submission", any, ListenerKind::Submission),
        ListenerConfig::new("submissions", any, ListenerKind::Submissions),
        ListenerConfig { allow_auth_without_tls: true, ..ListenerConfig::new("plain", any, ListenerKind::Submission) },
    ];
    let made = self_signed(&["mx.example".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.certificate_pem).unwrap();
    std::fs::write(&key, made.key_pem).unwrap();
    (config.certificate_file, config.key_file) = (Some(certificate), Some(key));
    config.auth.failure_delay_ms = 200;
    config
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (tenant, domain) in [("acme", "acme.example"), ("other", "other.example")] {
        let id: TenantId = tenant.parse().unwrap();
        let domain: postrider_model::Domain = domain.parse().unwrap();
        snapshot.tenants.insert(
            id.clone(),
            Tenant { id: id.clone(), display_name: tenant.to_owned(), weight: TenantWeight::default() },
        );
        snapshot.domains.insert(domain.clone(), SendingDomain { domain, tenant: id, dkim: None });
    }
    let alice = Credential {
        name: "alice".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        secret_mac: key().mac("credential", &[b"alice", PASSWORD.as_bytes()]).to_vec(),
        default_class: Class::Transactional,
        default_campaign: None,
        default_pool: None,
        allowed_classes: BTreeSet::from(Class::ALL),
        may_choose_campaign: true,
        allowed_pools: BTreeSet::new(),
    };
    snapshot.credentials.insert(alice.name.clone(), alice);
    snapshot.default_route =
        Some(Route { domain: None, next_hops: vec!["127.0.0.1:26".parse().unwrap()], origin: "operator".to_owned() });
    snapshot
}
