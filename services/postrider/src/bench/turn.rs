//! One turn: a load through a system that is started for it, or through one that runs already, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use postrider_net::tls;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::figures::{millis, percentile, rate};
use super::group::{Group, Machine, Memory};
use super::ledger::Ledger;
use super::load::Load;
use super::messages::Corpus;
use super::sink::Sink;
use super::system::{Peer, Setup, System};

/// What was measured in one turn.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// Who carried the load.
    pub peer: Peer,
    /// Bytes of a message.
    pub size: usize,
    /// Messages.
    pub messages: usize,
    /// Messages a second, until the last `250`.
    pub accept_rate: f64,
    /// Messages a second, until the last one was at the sink.
    pub end_to_end_rate: f64,
    /// From the end of data to its `250`, milliseconds.
    pub accept_p50_ms: Option<f64>,
    /// The same, all but the slowest hundredth.
    pub accept_p99_ms: Option<f64>,
    /// From the `250` to the sink's end of data, milliseconds.
    pub latency_p50_ms: Option<f64>,
    /// The same, all but the slowest hundredth.
    pub latency_p99_ms: Option<f64>,
    /// CPU of all processes of the system per 1,000 messages, milliseconds, up to a second after the last arrival.
    pub cpu_ms_per_1000: Option<f64>,
    /// Peak of the memory of all processes together, MiB, proportional.
    pub peak_pss_mib: Option<f64>,
    /// The same, resident.
    pub peak_rss_mib: Option<f64>,
    /// Share of the machine's CPU that others than system, load and sink took meanwhile.
    pub others_share: f64,
    /// How CPU was counted.
    pub counted_by: Option<&'static str>,
    /// Messages that arrived more than once.
    pub repeats: usize,
    /// Messages that nobody sent in this turn.
    pub foreign: usize,
    /// Answers 4xx; each of these messages was tried again.
    pub deferred: usize,
}

/// What all turns of a comparison have in common.
pub struct Course<'a> {
    /// How systems are set up.
    pub setup: Setup,
    /// The messages.
    pub corpus: Arc<Corpus>,
    /// Bytes of a message.
    pub size: usize,
    /// Messages that count.
    pub messages: usize,
    /// Sessions at the same time.
    pub sessions: usize,
    /// Messages a second; as many as go if there is none.
    pub rate: Option<f64>,
    /// Commands in one write.
    pub pipelining: bool,
    /// Bodies are not ASCII.
    pub eight_bit: bool,
    /// How long a turn may take.
    pub limit: Duration,
    /// A system that runs already.
    pub to: Option<std::net::SocketAddr>,
    /// The receiver.
    pub sink: &'a Sink,
    /// Ends all of it.
    pub stop: &'a CancellationToken,
}

/// Messages before those that count: processes are started, connections opened, caches filled.
const WARM_UP: usize = 200;

/// How long is counted what the system has left to do after the last arrival.
const AFTERWARDS: Duration = Duration::from_secs(1);

impl Course<'_> {
    /// Starts a system, loads it, ends it.
    ///
    /// # Errors
    /// If it does not start, refuses mail, or does not deliver all of it in time.
    pub fn turn(&self, peer: Peer) -> anyhow::Result<Turn> {
        if let Some(server) = self.to {
            return self.load(peer, server, None);
        }
        let system = System::start(peer, &self.setup, self.stop)?;
        self.load(peer, system.address, Some(&system.group))
    }

    /// Loads a system that runs.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn load(&self, peer: Peer, server: std::net::SocketAddr, group: Option<&Group>) -> anyhow::Result<Turn> {
        let load = Load {
            server,
            corpus: Arc::clone(&self.corpus),
            sessions: self.sessions,
            rate: self.rate,
            tls: if self.setup.tls { Some(tls::opportunistic_client()?) } else { None },
            pipelining: self.pipelining,
            eight_bit: self.eight_bit,
        };
        let warming = Arc::new(Ledger::new(0));
        self.sink.count_into(&warming);
        let warm_up = WARM_UP.min(self.messages.div_ceil(10));
        load.warm_up(warm_up, self.stop)?;
        self.wait(Duration::from_secs(60), || warming.warm() >= warm_up)?;
        self.check(&warming, warm_up)?;
        std::thread::sleep(Duration::from_millis(500));

        let sampler = Sampler::default();
        std::thread::scope(|scope| {
            let sampling = group.map(|group| scope.spawn(|| sampler.run(group)));
            let measured = self.measure(peer, &load, group);
            sampler.done.store(true, Ordering::Relaxed);
            let peak = sampling.and_then(|thread| thread.join().ok());
            measured.map(|mut turn| {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                turn.peak_pss_mib = peak.map(|peak| mib(peak.pss));
                turn.peak_rss_mib = peak.map(|peak| mib(peak.rss));
                turn
            })
        })
    }

    /// Whether mail comes as it was asked for.
    fn check(&self, warming: &Ledger, count: usize) -> anyhow::Result<()> {
        let (signed, encrypted) = warming.noted();
        if self.to.is_none() {
            // A field that falls on the edge of two reads is not seen.
            let as_asked = self.setup.dkim == (signed * 2 > count);
            anyhow::ensure!(as_asked, "{signed} of {count} messages to warm up are signed");
        }
        let as_asked = encrypted == if self.setup.tls { count } else { 0 };
        anyhow::ensure!(as_asked, "{encrypted} of {count} messages to warm up came by TLS");
        Ok(())
    }

    fn measure(&self, peer: Peer, load: &Load, group: Option<&Group>) -> anyhow::Result<Turn> {
        let before = (group.map(Group::cpu), Machine::own_cpu(), Machine::now());
        let ledger = Arc::new(Ledger::new(self.messages));
        self.sink.count_into(&ledger);
        let began = Instant::now();
        let sent = load.run(&ledger, self.stop)?;
        let left = self.limit.saturating_sub(began.elapsed());
        self.wait(left, || ledger.arrived() >= self.messages).map_err(|error| {
            error.context(format!("{} of {} messages arrived at the sink", ledger.arrived(), self.messages))
        })?;
        std::thread::sleep(AFTERWARDS);
        let used = group.map(|group| group.cpu().saturating_sub(before.0.unwrap_or_default()));
        let ours = used.unwrap_or_default() + Machine::own_cpu().saturating_sub(before.1);
        let (accepted, arrived) = ledger.last();
        let (mut answers, mut latencies) = (ledger.answers(), ledger.latencies());
        let mut at =
            |share| (percentile(&mut answers, share).map(millis), percentile(&mut latencies, share).map(millis));
        let ((accept_p50_ms, latency_p50_ms), (accept_p99_ms, latency_p99_ms)) = (at(0.5), at(0.99));
        Ok(Turn {
            peer,
            size: self.size,
            messages: self.messages,
            accept_rate: rate(self.messages, accepted),
            end_to_end_rate: rate(self.messages, arrived),
            accept_p50_ms,
            accept_p99_ms,
            latency_p50_ms,
            latency_p99_ms,
            cpu_ms_per_1000: used.map(|used| millis(used) * 1e3 / self.messages as f64),
            peak_pss_mib: None,
            peak_rss_mib: None,
            others_share: Machine::now().others_since(before.2, ours),
            counted_by: group.map(Group::method),
            repeats: ledger.repeats(),
            foreign: ledger.foreign(),
            deferred: sent.deferred,
        })
    }

    /// Does nothing for a while.
    ///
    /// # Errors
    /// If the bench is stopped meanwhile.
    pub fn rest(&self, time: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while let left = time.saturating_sub(began.elapsed())
            && !left.is_zero()
        {
            anyhow::ensure!(!self.stop.is_cancelled(), "stopped");
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
        Ok(())
    }

    fn wait(&self, within: Duration, until: impl Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !until() {
            if self.stop.is_cancelled() {
                bail!("stopped");
            }
            if began.elapsed() > within {
                bail!("it takes too long (--limit)");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// Looks at the memory now and then.
#[derive(Default)]
struct Sampler {
    done: AtomicBool,
}

impl Sampler {
    fn run(&self, group: &Group) -> Memory {
        let mut peak = Memory::default();
        loop {
            let done = self.done.load(Ordering::Relaxed);
            peak = peak.max(group.memory());
            if done {
                return peak;
            }
            // Seldom: each look walks page tables, and the load would feel it.
            for _ in 0..20 {
                if !self.done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}
