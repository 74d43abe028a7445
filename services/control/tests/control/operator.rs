//! Operators: dead letters, orders about mail, and the audit trail.

use std::time::Duration;

use postrider_model::{MessageId, Outcome, Tier};
use postrider_proto::control::v1 as api;
use tonic::Code;

use crate::audit::{audit, packet, sums};
use crate::cluster::Cluster;
use crate::events::{accepted, attempted, retry, write};

fn by_tenant(tenant: &str) -> Option<api::QueueFilter> {
    Some(api::QueueFilter { tenant: tenant.into(), ..api::QueueFilter::default() })
}

async fn letters(cluster: &Cluster, filter: Option<api::QueueFilter>) -> Vec<api::DeadLetter> {
    let request = api::ListDeadLettersRequest { filter, ..Default::default() };
    cluster.dead_letters().list_dead_letters(request).await.unwrap().into_inner().letters
}

async fn trail(cluster: &Cluster) -> Vec<String> {
    let request = api::ListOperationsRequest::default();
    let listed = cluster.operations().list_operations(request).await.unwrap().into_inner().operations;
    let told = listed.into_iter().rev().map(|entry| {
        let count: u64 = entry.counts.iter().map(|at| at.count).sum();
        format!("{}: {} {} {count} {}", entry.who, entry.command, entry.filter, entry.outcome)
    });
    told.collect()
}

/// One dead letter that can be read, and one that cannot.
async fn bury(cluster: &Cluster) -> postrider_model::Record {
    let record = accepted(1, cluster.spool.server_now());
    let dead = attempted(&record, Outcome::Dead, 0, postrider_model::Move::Dead { reason: "body-lost".into() });
    write(cluster, &[record.clone(), dead]).await;
    let raw = packet(&record, 0).encode();
    cluster.spool.bury("body-lost", &record.id.to_string(), "no chunk 3", raw).await.unwrap();
    let junk = bytes::Bytes::from_static(b"junk");
    cluster.spool.bury("undecodable", "x:1", "not a packet", junk).await.unwrap();
    record
}

#[tokio::test]
async fn dead_letters_are_listed_and_shown() {
    let cluster = Cluster::start().await;
    let record = bury(&cluster).await;
    let told: Vec<_> = letters(&cluster, None).await.into_iter().map(|l| (l.number, l.reason, l.decodable)).collect();
    assert_eq!(told, [(1, "body-lost".to_owned(), true), (2, "undecodable".to_owned(), false)]);
    assert_eq!(letters(&cluster, by_tenant("acme")).await.len(), 1);
    let of_reason = |reason: &str| Some(api::QueueFilter { reason: reason.into(), ..api::QueueFilter::default() });
    assert_eq!(letters(&cluster, of_reason("undecodable")).await.len(), 1);
    let request = api::ListDeadLettersRequest { filter: of_reason("nonsense"), ..Default::default() };
    let refusal = cluster.dead_letters().list_dead_letters(request).await.unwrap_err();
    assert!(refusal.message().contains("none of body-lost undecodable"), "{}", refusal.message());
    let shown = cluster.dead_letters().get_dead_letter(api::GetDeadLetterRequest { number: 1 }).await.unwrap();
    let shown = shown.into_inner();
    assert_eq!((shown.message_id, shown.why.as_str()), (record.id.message.to_string(), "no chunk 3"));
    let absent = cluster.dead_letters().get_dead_letter(api::GetDeadLetterRequest { number: 9 }).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
}

#[tokio::test]
async fn what_can_be_decoded_goes_back_to_ready_and_is_open_again() {
    let cluster = Cluster::start().await;
    bury(&cluster).await;
    assert_eq!(sums(&audit(&cluster).await), [1, 1, 0, 0, 0]);
    let all = api::ChangeDeadLettersRequest { all: true, dry_run: true, ..Default::default() };
    let would = cluster.dead_letters().requeue_dead_letters(all.clone()).await.unwrap().into_inner();
    assert_eq!((would.changed, would.undecodable), (1, 1));
    assert_eq!(letters(&cluster, None).await.len(), 2);
    let all = api::ChangeDeadLettersRequest { dry_run: false, ..all };
    let did = cluster.dead_letters().requeue_dead_letters(all).await.unwrap().into_inner();
    assert_eq!((did.changed, did.undecodable), (1, 1));
    assert_eq!(letters(&cluster, None).await.len(), 1);
    let mail = cluster.orders().list_mail(api::ListMailRequest::default()).await.unwrap().into_inner().mail;
    assert_eq!((mail.len(), mail[0].place.as_str()), (1, "ready"));
    let report = audit(&cluster).await;
    assert_eq!(sums(&report), [1, 0, 1, 0, 0], "{report:?}");
    assert_eq!(
        trail(&cluster).await,
        [
            "token 2: dead-letter requeue everything 1 counted",
            "token 2: dead-letter requeue everything 1 begun",
            "token 2: dead-letter requeue everything 1 ok",
        ]
    );
}

#[tokio::test]
async fn dead_letters_are_deleted_by_number_and_all_of_them_only_if_that_is_meant() {
    let cluster = Cluster::start().await;
    bury(&cluster).await;
    let refusal = cluster.dead_letters().delete_dead_letters(api::ChangeDeadLettersRequest::default()).await;
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("--all"), "{}", refusal.message());
    let request = api::ChangeDeadLettersRequest { numbers: vec![2, 7], ..Default::default() };
    let did = cluster.dead_letters().delete_dead_letters(request).await.unwrap().into_inner();
    assert_eq!((did.changed, did.absent), (1, vec![7]));
    assert_eq!(letters(&cluster, None).await.len(), 1);
    let entries = trail(&cluster).await;
    assert_eq!(entries.last().unwrap(), "token 2: dead-letter delete dead letters 2, 7 1 ok");
}

/// What is said of all dead letters.
async fn store(cluster: &Cluster) -> api::DeadLetterStore {
    let request = api::ListDeadLettersRequest { page_size: 1, ..Default::default() };
    cluster.dead_letters().list_dead_letters(request).await.unwrap().into_inner().store.unwrap()
}

#[tokio::test]
async fn letters_for_which_there_was_no_room_are_counted_and_those_of_orders_are_not() {
    let cluster = Cluster::start().await;
    let jetstream = async_nats::jetstream::new(async_nats::connect(cluster.server.url()).await.unwrap());
    let mut config = jetstream.get_stream("DEAD").await.unwrap().cached_info().config.clone();
    config.max_bytes = 1_000_000;
    jetstream.update_stream(&config).await.unwrap();
    let bury = async |numbers: std::ops::Range<u32>, size: usize| {
        for number in numbers {
            let raw = bytes::Bytes::from(vec![b'x'; size]);
            cluster.spool.bury("undecodable", &format!("x:{number}"), "not a packet", raw).await.unwrap();
        }
    };
    // More than a page.
    bury(0..600, 10).await;
    let first = api::ChangeDeadLettersRequest { numbers: vec![1, 2, 600], ..Default::default() };
    cluster.dead_letters().delete_dead_letters(first).await.unwrap();
    let all = api::ChangeDeadLettersRequest { all: true, ..Default::default() };
    let would = api::ChangeDeadLettersRequest { dry_run: true, ..all.clone() };
    assert_eq!(cluster.dead_letters().delete_dead_letters(would).await.unwrap().into_inner().changed, 597);
    assert_eq!(cluster.dead_letters().delete_dead_letters(all).await.unwrap().into_inner().changed, 597);
    let empty = store(&cluster).await;
    assert_eq!((empty.letters, empty.bytes_limit, empty.discarded), (0, 1_000_000, 0));

    bury(600..640, 50_000).await;
    let full = store(&cluster).await;
    assert!(full.letters < 20 && full.bytes > 900_000, "{full:?}");
    assert_eq!(full.discarded, 40 - full.letters);
}

async fn fill(cluster: &Cluster) {
    let now = cluster.spool.server_now().before(Duration::from_secs(1));
    let [ready, later] = [1, 2].map(|n| accepted(n, now));
    let moved = attempted(&later, Outcome::Deferred, 451, retry(now));
    write(cluster, &[ready.clone(), later.clone(), moved]).await;
    cluster.spool.publish_ready(&packet(&ready, 0)).await.unwrap();
    cluster.spool.copy_to_tier(&packet(&later, 1), Tier::M5).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_counts_by_place_and_orders_nothing() {
    let cluster = Cluster::start().await;
    fill(&cluster).await;
    let request = api::OrderRequest {
        action: "delete".into(),
        filter: by_tenant("acme"),
        dry_run: true,
        command: "queue delete".into(),
        ..Default::default()
    };
    let answer = cluster.orders().order(request).await.unwrap().into_inner();
    let counts: Vec<_> =
        answer.counts.iter().filter(|at| at.count > 0).map(|at| (at.place.as_str(), at.count)).collect();
    assert_eq!(counts, [("ready", 1), ("5m", 1)]);
    let orders = cluster.orders().list_orders(api::ListOrdersRequest::default()).await.unwrap().into_inner();
    assert!(orders.orders.is_empty());
    let entries = trail(&cluster).await;
    assert!(entries[0].starts_with("token 2: queue delete --tenant acme --arrived-before "), "{entries:?}");
    assert!(entries[0].ends_with(" 2 counted"), "{entries:?}");
}

#[tokio::test]
async fn an_order_stands_until_it_is_removed_and_both_are_in_the_trail() {
    let cluster = Cluster::start().await;
    cluster.tenant("acme").await;
    let request = api::OrderRequest {
        action: "suspend".into(),
        filter: by_tenant("acme"),
        id: "pause".into(),
        command: "hold add".into(),
        comment: "ticket 17".into(),
        ..Default::default()
    };
    cluster.orders().order(request.clone()).await.unwrap();
    assert_eq!(cluster.orders().order(request).await.unwrap_err().code(), Code::AlreadyExists);
    let list = api::ListOrdersRequest { action: "suspend".into() };
    let orders = cluster.orders().list_orders(list.clone()).await.unwrap().into_inner().orders;
    assert_eq!((orders.len(), orders[0].filter.as_str(), orders[0].made_by.as_str()), (1, "--tenant acme", "token 2"));
    let remove = api::RemoveOrderRequest { id: "pause".into(), ..Default::default() };
    cluster.orders().remove_order(remove.clone()).await.unwrap();
    assert_eq!(cluster.orders().remove_order(remove).await.unwrap_err().code(), Code::NotFound);
    assert!(cluster.orders().list_orders(list).await.unwrap().into_inner().orders.is_empty());
    let entries = trail(&cluster).await;
    let told: Vec<_> = entries.iter().map(|entry| entry.split(": ").nth(1).unwrap_or_default()).collect();
    assert_eq!(told[0], "hold add --tenant acme 0 ordered");
    assert!(told[2].starts_with("hold add --tenant acme 0 not carried out"), "{told:?}");
    assert_eq!(told[3], "hold remove --tenant acme 0 ordered");
}

fn of_message(id: &str) -> Option<api::QueueFilter> {
    Some(api::QueueFilter { message_id: id.into(), ..api::QueueFilter::default() })
}

#[tokio::test]
async fn what_matches_nothing_says_so_and_unknown_names_are_refused() {
    let cluster = Cluster::start().await;
    fill(&cluster).await;
    let order = |action: &str, filter| api::OrderRequest { action: action.into(), filter, ..Default::default() };
    let nobody = MessageId::new(cluster.spool.server_now(), [9; 10]).to_string();
    for filter in [by_tenant("nosuch"), of_message(&nobody)] {
        for dry_run in [true, false] {
            let request = api::OrderRequest { dry_run, ..order("delete", filter.clone()) };
            let refusal = cluster.orders().order(request).await.unwrap_err();
            assert_eq!(refusal.code(), Code::NotFound, "{}", refusal.message());
        }
    }
    let misspelt = Some(api::QueueFilter { site: "exmaple.net".into(), ..api::QueueFilter::default() });
    let answer = cluster.orders().order(order("suspend", misspelt)).await.unwrap().into_inner();
    assert!(answer.counted && answer.counts.iter().all(|at| at.count == 0), "{answer:?}");
    // Mail of a tenant that is deleted can still be dealt with.
    let answer = cluster.orders().order(order("bounce", by_tenant("acme"))).await.unwrap().into_inner();
    assert_eq!(answer.counts.iter().map(|at| at.count).sum::<u64>(), 2, "{answer:?}");
    assert!(trail(&cluster).await.last().unwrap().ends_with(" 2 ordered"));
}

#[tokio::test]
async fn what_is_on_hold_is_not_flushed_and_counted_apart() {
    let cluster = Cluster::start().await;
    fill(&cluster).await;
    // An order counts what arrived before it, to the millisecond.
    let held = accepted(3, cluster.spool.server_now().before(Duration::from_secs(1)));
    cluster.spool.copy_to_hold(&packet(&held, 1)).await.unwrap();
    for dry_run in [true, false] {
        let request =
            api::OrderRequest { action: "flush".into(), filter: by_tenant("acme"), dry_run, ..Default::default() };
        let answer = cluster.orders().order(request).await.unwrap().into_inner();
        let counts: Vec<_> = answer.counts.iter().filter(|at| at.count > 0).map(|at| at.place.as_str()).collect();
        assert_eq!((counts, answer.held), (vec!["ready", "5m"], 1));
    }
}

#[tokio::test]
async fn a_message_names_the_order_that_it_has_not_met() {
    let cluster = Cluster::start().await;
    fill(&cluster).await;
    let request = api::OrderRequest { action: "delete".into(), filter: by_tenant("acme"), ..Default::default() };
    let id = cluster.orders().order(request).await.unwrap().into_inner().id;
    let found = cluster.orders().list_mail(api::ListMailRequest::default()).await.unwrap().into_inner().mail;
    let waits = found.iter().find(|mail| mail.place == "5m").unwrap().message_id.clone();
    let request = api::GetMessagesRequest { id: waits, since: None };
    let told = cluster.messages().get_messages(request).await.unwrap().into_inner().messages;
    let ordered = told[0].parts[0].waiting.clone().unwrap().ordered;
    assert!(ordered.contains(&format!("by order {id} ")), "{ordered}");
    let orders = cluster.orders().list_orders(api::ListOrdersRequest::default()).await.unwrap().into_inner().orders;
    assert_eq!((orders[0].action.as_str(), orders[0].state.as_str()), ("delete", "in force"));
}

#[tokio::test]
async fn a_filter_that_says_nothing_is_refused() {
    let cluster = Cluster::start().await;
    let request = api::OrderRequest { action: "delete".into(), ..Default::default() };
    let refusal = cluster.orders().order(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("--all"), "{}", refusal.message());
}
