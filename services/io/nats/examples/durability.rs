//! What each way of making mail durable costs: starts nats-servers of its own on a folder, publishes for some seconds with so
//! many in flight, and prints rate, latency and the servers' CPU time. The figures of the decision on class `disk` come from here.
//!
//! `NATS_SERVER=... cargo run --release -p postrider-nats --example durability -- FOLDER [SECONDS] [WAY...]`

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a measurement, not a service"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

const WAYS: [(&str, usize, bool, usize); 8] = [
    // name, servers, sync always, batches at a time (0: every message by itself)
    ("process", 1, false, 0),
    ("one-always", 1, true, 0),
    ("one-batches-1", 1, true, 1),
    ("one-batches-4", 1, true, 4),
    ("one-always-4-streams", 1, true, 0),
    ("three-always", 3, true, 0),
    ("three", 3, false, 0),
    ("three-batches-4", 3, true, 4),
];

struct Servers {
    children: Vec<Child>,
    urls: Vec<String>,
    folder: PathBuf,
}

impl Servers {
    fn start(folder: &Path, count: usize, always: bool) -> Self {
        let folder = folder.join(format!("durability-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ports: Vec<(u16, u16)> = {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap();
            let held: Vec<_> = (0..count).map(|_| (free(), free())).collect();
            held.iter().map(|(a, b)| (a.local_addr().unwrap().port(), b.local_addr().unwrap().port())).collect()
        };
        let routes: Vec<String> = ports.iter().map(|(_, route)| format!("\"nats://127.0.0.1:{route}\"")).collect();
        let sync = if always { "sync_interval: always" } else { "" };
        let children = ports.iter().enumerate().map(|(n, (port, route))| {
            let cluster = match count {
                1 => String::new(),
                _ => format!("cluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: [{}] }}", routes.join(", ")),
            };
            let file = folder.join(format!("{n}.conf"));
            let text = format!(
                "listen: \"127.0.0.1:{port}\"\nserver_name: \"s{n}\"\nlog_file: \"{0}/{n}.log\"\nmax_payload: 1MB\n\
                 max_pending: 128MB\njetstream {{\n store_dir: \"{0}/{n}\"\n max_file: 100GB\n max_mem: 1GB\n {sync}\n}}\n{cluster}\n",
                folder.display()
            );
            std::fs::write(&file, text).unwrap();
            let program = std::env::var_os("NATS_SERVER").expect("NATS_SERVER");
            Command::new(program).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        let children = children.collect();
        let urls = ports.iter().map(|(port, _)| format!("nats://127.0.0.1:{port}")).collect();
        Self { children, urls, folder }
    }

    /// User and system time of all servers, in microseconds.
    fn cpu_micros(&self) -> u64 {
        let of = |child: &Child| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            (ticks(11) + ticks(12)) * 10_000
        };
        self.children.iter().map(of).sum()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// What an append of 4 KiB and its fdatasync cost.
fn fsync(folder: &Path) {
    let path = folder.join("fsync-probe");
    let mut file = File::create(&path).unwrap();
    let mut took: Vec<Duration> = (0..400)
        .map(|_| {
            file.write_all(&[1; 4096]).unwrap();
            let began = Instant::now();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("fdatasync of an append of 4 KiB: p50 {:?} p99 {:?} max {:?}", took[200], took[396], took[399]);
    std::fs::remove_file(path).ok();
}

struct Job {
    payload: Bytes,
    id: u64,
    done: oneshot::Sender<()>,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder on the disk to measure"));
    let seconds: u64 = arguments.next().map_or(3, |text| text.parse().expect("seconds"));
    let chosen: Vec<String> = arguments.collect();
    fsync(&folder);
    println!("| way | KiB | in flight | messages/s | p50 ms | p99 ms | server CPU us/message |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (name, count, always, batches) in WAYS {
        if !chosen.is_empty() && !chosen.iter().any(|way| way == name) {
            continue;
        }
        for kib in [1, 10, 100] {
            for in_flight in [20, 200] {
                let servers = Servers::start(&folder, count, always);
                let streams = if name.ends_with("4-streams") { 4 } else { 1 };
                measure(&servers, name, batches, streams, kib, in_flight, Duration::from_secs(seconds)).await;
            }
        }
    }
}

async fn measure(
    servers: &Servers,
    name: &str,
    batches: usize,
    streams: usize,
    kib: usize,
    in_flight: usize,
    lasts: Duration,
) {
    let urls: Vec<async_nats::ServerAddr> = servers.urls.iter().map(|url| url.parse().unwrap()).collect();
    let client = loop {
        match async_nats::ConnectOptions::new().client_capacity(8192).connect(&urls[..]).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let context = jetstream::new(client.clone());
    for n in 0..streams {
        let config = stream::Config {
            name: format!("S{n}"),
            subjects: vec![format!("s{n}.>")],
            retention: stream::RetentionPolicy::WorkQueue,
            discard: stream::DiscardPolicy::New,
            num_replicas: servers.urls.len(),
            duplicate_window: Duration::from_secs(60),
            allow_atomic_publish: batches > 0,
            ..stream::Config::default()
        };
        while let Err(error) = context.create_stream(config.clone()).await {
            eprintln!("{error}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut body = vec![0u8; kib * 1024];
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    body.iter_mut().for_each(|byte| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    });
    let payload = Bytes::from(body);
    let (jobs, queue) = mpsc::channel::<Job>(4096);
    let batcher = (batches > 0).then(|| {
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        (0..batches).map(|_| tokio::spawn(batch(client.clone(), Arc::clone(&queue)))).collect::<Vec<_>>()
    });
    let next = Arc::new(AtomicU64::new(0));
    let (began, cpu) = (Instant::now(), servers.cpu_micros());
    let senders: Vec<_> = (0..in_flight)
        .map(|sender| {
            let (client, payload, next, jobs) = (client.clone(), payload.clone(), Arc::clone(&next), jobs.clone());
            let subject = format!("s{}.x", sender % streams);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < lasts {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let start = Instant::now();
                    if batches > 0 {
                        let (done, answered) = oneshot::channel();
                        jobs.send(Job { payload: payload.clone(), id, done }).await.ok();
                        answered.await.expect("a batch was refused");
                    } else {
                        let mut headers = HeaderMap::new();
                        headers.insert("Nats-Msg-Id", id.to_string());
                        let answer =
                            client.request_with_headers(subject.clone(), headers, payload.clone()).await.unwrap();
                        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{answer:?}");
                    }
                    took.push(start.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for sender in senders {
        took.extend(sender.await.unwrap());
    }
    let (lasted, cpu) = (began.elapsed(), servers.cpu_micros() - cpu);
    drop(batcher);
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "| {name} | {kib} | {in_flight} | {:.0} | {:.1} | {:.1} | {} |",
        took.len() as f64 / lasted.as_secs_f64(),
        at(0.5),
        at(0.99),
        cpu / took.len() as u64
    );
}

/// Everything that waits goes as one atomic batch of at most 1,000 messages; the next when it is committed.
async fn batch(client: async_nats::Client, queue: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>) {
    loop {
        let mut waiting = Vec::new();
        if queue.lock().await.recv_many(&mut waiting, 1_000).await == 0 {
            return;
        }
        let name = format!("b{}", waiting[0].id);
        let last = waiting.len();
        for (n, job) in waiting.iter().enumerate() {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", job.id.to_string());
            headers.insert("Nats-Batch-Id", name.as_str());
            headers.insert("Nats-Batch-Sequence", (n + 1).to_string());
            if n + 1 == last {
                headers.insert("Nats-Batch-Commit", "1");
                let answer = client.request_with_headers("s0.x", headers, job.payload.clone()).await.unwrap();
                assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{answer:?}");
            } else {
                client.publish_with_headers("s0.x", headers, job.payload.clone()).await.unwrap();
            }
        }
        for job in waiting {
            job.done.send(()).ok();
        }
    }
}
