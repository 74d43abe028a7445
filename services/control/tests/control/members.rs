//! Writes that wait for the members, and the queue as members tell it.

use std::time::{Duration, Instant};

use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::delivery_query::Ask;

use crate::cluster::Cluster;

fn tenant(id: &str) -> api::CreateTenantRequest {
    api::CreateTenantRequest { tenant: Some(api::Tenant { id: id.to_owned(), ..Default::default() }) }
}

#[tokio::test]
async fn a_write_is_answered_once_the_members_have_it_in_force() {
    let cluster = Cluster::start().await;
    let _member = cluster.member("delivery-0", true).await;
    let began = Instant::now();
    let applied = cluster.tenants().create_tenant(tenant("acme")).await.unwrap().into_inner().applied.unwrap();
    assert_eq!(applied.lagging_members, [""; 0]);
    assert!(applied.revision > 0);
    assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
    let members = cluster.spool.lease_store().watch_members();
    let mut members = members;
    let reported = members.wait_for(|members| members.values().all(|m| m.config_revision >= applied.revision));
    tokio::time::timeout(crate::server::PATIENCE, reported).await.expect("it has reported").unwrap();
}

#[tokio::test]
async fn members_that_lag_are_named_after_two_seconds() {
    let cluster = Cluster::start().await;
    let _follows = cluster.member("delivery-0", true).await;
    let _stuck = cluster.member("delivery-1", false).await;
    let began = Instant::now();
    let applied = cluster.tenants().create_tenant(tenant("acme")).await.unwrap().into_inner().applied.unwrap();
    assert_eq!(applied.lagging_members, ["delivery-1"]);
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(cluster.counted("postrider_control_lagging_members").as_deref(), Some("1"));
}

#[tokio::test]
async fn the_summary_holds_what_members_say_and_names_the_silent_ones() {
    let cluster = Cluster::start().await;
    let _speaks = cluster.member("delivery-0", true).await;
    let _silent = cluster.member("delivery-1", true).await;
    let mut questions = cluster.spool.delivery_questions().await.unwrap();
    // The subscription is at the server once another round trip is over.
    cluster.spool.ensure().await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            assert_eq!(question.delivery_query().unwrap().ask, Some(Ask::Summary(api::SummaryQuery {})));
            let row = api::SummaryRow {
                site: "google".into(),
                tenant: "acme".into(),
                class: "bulk".into(),
                ready: 3,
                in_flight: 1,
                waiting: vec![api::ReasonCount { reason: "rate-limit".into(), count: 2 }],
                oldest_arrival_ms: 1_000,
            };
            let answer = api::DeliveryAnswer { member: "delivery-0".into(), rows: vec![row], ..Default::default() };
            question.answer_delivery(answer).await;
        }
    });
    let summary = cluster.queue().get_queue_summary(api::GetQueueSummaryRequest::default()).await.unwrap().into_inner();
    assert_eq!(
        (summary.answered_members, summary.silent_members),
        (vec!["delivery-0".into()], vec!["delivery-1".into()])
    );
    let row = &summary.rows[0];
    assert_eq!((row.site.as_str(), row.ready, row.in_flight), ("google", 3, 1));
    assert_eq!(row.waiting, [api::WaitCount { reason: "rate-limit".into(), count: 2 }]);
    answering.abort();
}

#[tokio::test]
async fn without_members_the_summary_says_that_nobody_answers() {
    let cluster = Cluster::start().await;
    let summary = cluster.queue().get_queue_summary(api::GetQueueSummaryRequest::default()).await.unwrap().into_inner();
    assert!(summary.rows.is_empty() && summary.answered_members.is_empty() && summary.silent_members.is_empty());
}
