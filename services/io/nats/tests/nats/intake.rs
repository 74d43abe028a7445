//! INTAKE and the splitter.

use postrider_model::{Class, Envelope};
use postrider_nats::{NatsConfig, Sharing, SplitterEvent, Spool};
use postrider_proto::Packet;
use tokio_util::sync::CancellationToken;

use crate::mail::{envelope, message};
use crate::server::{Server, eventually};

async fn parts(spool: &Spool, n: u64, count: u32) -> Vec<Packet> {
    let body = spool.place_body("hello".into(), Sharing::Shared).await.unwrap();
    let part = |number| Envelope { part: number, ..envelope(n, Class::Bulk, &format!("site{number}.example")) };
    (0..count).map(|number| Packet::new(part(number), body.clone())).collect()
}

async fn ready(spool: &Spool) -> u64 {
    spool.depths().await.unwrap().iter().map(|depth| depth.count).sum()
}

fn run(spool: &Spool, shutdown: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let (spool, shutdown) = (spool.clone(), shutdown.clone());
    tokio::spawn(async move { spool.run_splitter(shutdown, |_| {}).await })
}

async fn intake(server: &Server) -> u64 {
    server.jetstream().await.get_stream("INTAKE").await.unwrap().cached_info().state.messages
}

#[tokio::test]
async fn a_message_of_many_parts_becomes_ready_mail() {
    let server = Server::start();
    let spool = server.spool().await;
    let shutdown = CancellationToken::new();
    let splitter = run(&spool, &shutdown);
    spool.publish_intake(&message(1), Class::Bulk, &parts(&spool, 1, 250).await).await.unwrap();
    eventually("all parts are in READY", async || (ready(&spool).await == 250).then_some(())).await;
    eventually("INTAKE is empty", async || (intake(&server).await == 0).then_some(())).await;
    shutdown.cancel();
    splitter.await.unwrap();
}

#[tokio::test]
async fn a_transactional_message_does_not_wait_behind_bulk_mail() {
    let server = Server::start();
    let spool = server.spool().await;
    for n in 0..200 {
        spool.publish_intake(&message(n), Class::Bulk, &parts(&spool, n, 250).await).await.unwrap();
    }
    let body = spool.place_body("hello".into(), Sharing::Shared).await.unwrap();
    let part = |number| Envelope { part: number, ..envelope(500, Class::Transactional, &format!("t{number}.example")) };
    let urgent: Vec<Packet> = (0..2).map(|number| Packet::new(part(number), body.clone())).collect();
    spool.publish_intake(&message(500), Class::Transactional, &urgent).await.unwrap();
    let shutdown = CancellationToken::new();
    let splitter = run(&spool, &shutdown);
    let ready = |class| {
        let spool = &spool;
        async move {
            // A loaded machine may be too slow for one look: there is another.
            let depths = spool.depths().await.unwrap_or_default();
            depths.iter().filter(|depth| depth.class == class).map(|depth| depth.count).sum::<u64>()
        }
    };
    eventually("the transactional parts are in READY", async || (ready(Class::Transactional).await == 2).then_some(()))
        .await;
    assert!(intake(&server).await > 0, "the bulk mail before it is still being split");
    shutdown.cancel();
    splitter.await.unwrap();
}

#[tokio::test]
async fn thousands_of_recipients_fit_into_one_record() {
    let server = Server::start();
    let spool = server.spool().await;
    spool.publish_intake(&message(1), Class::Bulk, &parts(&spool, 1, 5_000).await).await.unwrap();
    assert_eq!(intake(&server).await, 1);
}

#[tokio::test]
async fn a_splitter_that_dies_half_way_is_followed_by_one_that_does_the_same() {
    let server = Server::start();
    let spool = server.spool().await;
    spool.publish_intake(&message(1), Class::Bulk, &parts(&spool, 1, 250).await).await.unwrap();

    // Dies, with all it holds, after the first parts.
    let dying = server.spool().await;
    let first = tokio::spawn(async move {
        let died = CancellationToken::new();
        let tell = |event| {
            assert_eq!(event, SplitterEvent::Published);
            died.cancel();
        };
        tokio::select! {
            biased;
            () = died.cancelled() => {}
            () = dying.run_splitter(CancellationToken::new(), tell) => {}
        }
    });
    first.await.unwrap();
    assert_eq!(intake(&server).await, 1);
    let done = ready(&spool).await;
    assert!((1..250).contains(&done), "{done}");

    // What the dead one held comes again; here at once instead of after the ack wait.
    let stream = server.jetstream().await.get_stream("INTAKE").await.unwrap();
    stream.reset_consumer("split-b", None).await.unwrap();
    let shutdown = CancellationToken::new();
    let splitter = run(&spool, &shutdown);
    eventually("INTAKE is empty", async || (intake(&server).await == 0).then_some(())).await;
    assert_eq!(ready(&spool).await, 250);
    shutdown.cancel();
    splitter.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_consumer_was_made_again_leaves_intake_by_its_sequence() {
    let server = Server::start();
    // A confirmation that never comes is not waited for as long as this.
    let spool = server.spool_of(&NatsConfig { publish_budget_secs: 600, ..server.config() }).await;
    spool.publish_intake(&message(1), Class::Bulk, &parts(&spool, 1, 3).await).await.unwrap();
    let (published, mut is_published) = tokio::sync::mpsc::unbounded_channel();
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let shutdown = CancellationToken::new();
    let splitter = {
        let (spool, shutdown) = (spool.clone(), shutdown.clone());
        let tell = move |event| {
            if event == SplitterEvent::Published {
                published.send(()).unwrap();
                // The second time nobody sends any more.
                tokio::task::block_in_place(|| may_go.lock().unwrap().recv().ok());
            }
        };
        tokio::spawn(async move { spool.run_splitter(shutdown, tell).await })
    };
    is_published.recv().await.unwrap();
    let stream = server.jetstream().await.get_stream("INTAKE").await.unwrap();
    stream.delete_consumer("split-b").await.unwrap();
    drop(go);
    eventually("INTAKE is empty", async || (intake(&server).await == 0).then_some(())).await;
    assert_eq!(ready(&spool).await, 3);
    shutdown.cancel();
    splitter.await.unwrap();
}

#[tokio::test]
async fn a_record_that_is_no_message_is_buried() {
    let server = Server::start();
    let spool = server.spool().await;
    let jetstream = server.jetstream().await;
    jetstream.publish("intake.b", "nonsense".into()).await.unwrap().await.unwrap();
    let shutdown = CancellationToken::new();
    let splitter = run(&spool, &shutdown);
    eventually("INTAKE is empty", async || (intake(&server).await == 0).then_some(())).await;
    let dead = jetstream.get_stream("DEAD").await.unwrap();
    assert_eq!(dead.cached_info().state.messages, 1);
    shutdown.cancel();
    splitter.await.unwrap();
}
