//! Three servers, three replicas: the leader of a stream dies as by `kill -9`, and nothing is lost.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Child;
use std::time::Duration;

use postrider_model::{EnvelopeId, ShardLayout};
use postrider_nats::{NatsConfig, Replayed, Sharing, Spool};
use tempfile::TempDir;

use crate::mail::{record, shard, transactional};
use crate::server::{eventually, run};

struct Cluster {
    servers: Vec<(Child, TempDir)>,
    ports: Vec<u16>,
}

impl Cluster {
    fn start() -> Self {
        // All are held at once, so that all differ.
        let held: Vec<TcpListener> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        let (ports, routes) = ports.split_at(3);
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let all_routes = routes.iter().map(route).collect::<Vec<_>>().join(",");
        let servers = (0..3).map(|n| {
            let directory = TempDir::new().unwrap();
            let (port, name, cluster) = (ports[n].to_string(), format!("n{n}"), route(&routes[n]));
            let arguments = ["--port", &port, "--name", &name, "--cluster_name", "test", "--cluster", &cluster];
            let child = run(directory.path(), &[&arguments[..], &["--routes", &all_routes]].concat());
            (child, directory)
        });
        Self { servers: servers.collect(), ports: ports.to_vec() }
    }

    fn config(&self) -> NatsConfig {
        let urls = self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        NatsConfig { urls, replicas: 3, storage_bytes: 1 << 30, ..NatsConfig::default() }
    }

    /// As `kill -9` of the server that leads a stream.
    async fn kill_leader(&mut self, stream: &str) {
        let urls: Vec<async_nats::ServerAddr> = self.config().urls.iter().map(|url| url.parse().unwrap()).collect();
        let jetstream = async_nats::jetstream::new(async_nats::connect(urls).await.unwrap());
        let info = jetstream.get_stream(stream).await.unwrap().cached_info().clone();
        let leader: usize = info.cluster.unwrap().leader.unwrap().strip_prefix('n').unwrap().parse().unwrap();
        self.servers[leader].0.kill().unwrap();
        self.servers[leader].0.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (server, _) in &mut self.servers {
            // It may be dead already.
            server.kill().and_then(|()| server.wait()).ok();
        }
    }
}

#[tokio::test]
async fn the_death_of_a_leader_loses_nothing() {
    let mut cluster = Cluster::start();
    let config = cluster.config();
    let open = async || Spool::open(&config, "test", ShardLayout::SINGLE).await.ok();
    let spool = eventually("the cluster has a leader", open).await;
    let t00 = shard("t00");

    let body = spool.place_body(vec![7; 3 << 20].into(), Sharing::Shared).await.unwrap();
    let publish = async |numbers: std::ops::Range<u64>| {
        for n in numbers {
            spool.publish_ready(&transactional(n)).await.unwrap();
            spool.publish_events(t00, &[record(n, t00, spool.server_now())], &format!("flush-{n}")).await.unwrap();
        }
    };
    publish(0..100).await;
    cluster.kill_leader("READY_T").await;
    publish(100..200).await;

    let expected: BTreeSet<EnvelopeId> = (0..200).map(|n| transactional(n).id()).collect();
    let mut found = BTreeSet::new();
    let mut puller = spool.puller(t00);
    while found.len() < expected.len() {
        for leased in puller.pull(100, 8 << 20).await {
            let leased = leased.unwrap();
            found.insert(leased.packet.id());
            leased.handle.ack_confirmed(Duration::from_secs(20)).await.unwrap();
        }
    }
    assert_eq!(found, expected);

    let mut replayed = BTreeSet::new();
    eventually("a replay", async || {
        replayed.clear();
        let see = |_, record: Replayed| {
            replayed.insert(record.hop);
        };
        spool.replay_events(t00, 0, see).await.ok()
    })
    .await;
    assert_eq!(replayed, expected);
    assert_eq!(spool.read_body(&body).await.unwrap().len(), 3 << 20);
}
