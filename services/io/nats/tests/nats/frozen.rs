//! Promoters and a splitter that stand still for longer than their leases live, and go on. Another has moved what they held by
//! then, and it may have been delivered: nobody would know it for a repeat any more.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use postrider_model::{Class, Envelope, Tier};
use postrider_nats::{NatsConfig, Sharing, SplitterEvent, Spool};
use postrider_proto::Packet;
use tokio_util::sync::CancellationToken;

use crate::mail::{envelope, message, moved, transactional};
use crate::server::{Server, eventually};

fn config(server: &Server) -> NatsConfig {
    NatsConfig { tier_delays_secs: [0.2, 300.0, 900.0, 3_600.0, 14_400.0], ..server.config() }
}

/// Where a process stands still for once.
#[derive(Clone)]
struct Spot {
    stands: Arc<Mutex<Option<Stand>>>,
}

/// Says that it stands, and waits until it may go.
type Stand = (Sender<()>, Receiver<()>);

impl Spot {
    fn new() -> (Self, Receiver<()>, Sender<()>) {
        let ((stands, is_standing), (go, may_go)) = (channel(), channel());
        (Self { stands: Arc::new(Mutex::new(Some((stands, may_go)))) }, is_standing, go)
    }

    fn stand_still(&self) {
        if let Some((stands, may_go)) = self.stands.lock().unwrap().take() {
            stands.send(()).unwrap();
            may_go.recv().unwrap();
        }
    }
}

/// A process that moves mail: a thread with a runtime and a connection of its own, all of which stand still together.
fn process(server: &Server, splits: bool, spot: Spot, stop: &CancellationToken) -> JoinHandle<()> {
    let (config, stop) = (config(server), stop.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let spool = Spool::open(&config, "frozen", postrider_model::ShardLayout::SINGLE).await.unwrap();
            if splits {
                let tell = |event| {
                    if event == SplitterEvent::Published {
                        spot.stand_still();
                    }
                };
                return spool.run_splitter(stop, tell).await;
            }
            let between_pull_and_publish = move |_: &Envelope| {
                spot.stand_still();
                false
            };
            spool.run_promoters(stop, || 1, between_pull_and_publish, |_| {}).await;
        });
    })
}

async fn parts(spool: &Spool, n: u64, count: u32) -> Vec<Packet> {
    let body = spool.place_body("hello".into(), Sharing::Shared).await.unwrap();
    let part = |number| Envelope { part: number, ..envelope(n, Class::Bulk, &format!("site{number}.example")) };
    (0..count).map(|number| Packet::new(part(number), body.clone())).collect()
}

async fn is_ready(spool: &Spool, class: Class, count: u64) {
    let ready = async || {
        let depths = spool.depths().await.ok()?;
        let ready = depths.iter().filter(|depth| depth.tier.is_none() && depth.class == class);
        (ready.map(|depth| depth.count).sum::<u64>() == count).then_some(())
    };
    eventually(&format!("{count} of {class:?} in READY"), ready).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_has_moved_meanwhile_is_not_moved_again() {
    let server = Server::start();
    let spool = server.spool_of(&config(&server)).await;
    let jetstream = server.jetstream().await;
    let stop = CancellationToken::new();
    let (promoter_stands, promoter_is_standing, thaw_promoter) = Spot::new();
    let (splitter_stands, splitter_is_standing, thaw_splitter) = Spot::new();
    let frozen = [process(&server, false, promoter_stands, &stop), process(&server, true, splitter_stands, &stop)];
    for n in 0..5 {
        spool.copy_to_tier(&moved(&transactional(n)), Tier::M1).await.unwrap();
    }
    spool.publish_intake(&message(10), Class::Bulk, &parts(&spool, 10, 250).await).await.unwrap();
    let wait = || (promoter_is_standing.recv().unwrap(), splitter_is_standing.recv().unwrap());
    tokio::task::block_in_place(wait);

    // Another gets it all when the leases are over.
    let other = CancellationToken::new();
    let others = tokio::spawn({
        let (spool, other) = (spool.clone(), other.clone());
        async move {
            tokio::join!(
                spool.run_promoters(other.clone(), || 1, |_| false, |_| {}),
                spool.run_splitter(other, |_| {})
            );
        }
    });
    eventually("INTAKE and the tier are empty", async || {
        let intake = jetstream.get_stream("INTAKE").await.ok()?.cached_info().state.messages;
        let tier = jetstream.get_stream("RETRY_1m").await.ok()?.cached_info().state.messages;
        (intake + tier == 0).then_some(())
    })
    .await;
    is_ready(&spool, Class::Transactional, 5).await;
    is_ready(&spool, Class::Bulk, 250).await;
    other.cancel();
    others.await.unwrap();

    // It is delivered, and the server and the owner of the shard have forgotten it.
    for name in ["READY_T", "READY_B0"] {
        let ready = jetstream.get_stream(name).await.unwrap();
        let mut forgetful = ready.cached_info().config.clone();
        forgetful.duplicate_window = Duration::from_millis(100);
        jetstream.update_stream(forgetful).await.unwrap();
        ready.purge().await.unwrap();
    }
    thaw_promoter.send(()).unwrap();
    thaw_splitter.send(()).unwrap();
    spool.copy_to_tier(&moved(&transactional(20)), Tier::M1).await.unwrap();
    spool.publish_intake(&message(21), Class::Bulk, &parts(&spool, 21, 3).await).await.unwrap();
    is_ready(&spool, Class::Transactional, 1).await;
    is_ready(&spool, Class::Bulk, 3).await;
    stop.cancel();
    eventually("the end of both", async || frozen.iter().all(JoinHandle::is_finished).then_some(())).await;
    is_ready(&spool, Class::Transactional, 1).await;
    is_ready(&spool, Class::Bulk, 3).await;
}
