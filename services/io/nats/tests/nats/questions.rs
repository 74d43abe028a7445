//! Questions between processes.

use std::time::Duration;

use postrider_nats::{AskError, Spool};
use postrider_proto::control::v1::{DeliveryAnswer, DeliveryQuery, SummaryRow, delivery_query};

use crate::mail::shard;
use crate::server::Server;

const TIMEOUT: Duration = Duration::from_millis(500);

async fn member(spool: &Spool, name: &'static str, rows: usize) -> tokio::task::JoinHandle<()> {
    let mut questions = spool.delivery_questions().await.unwrap();
    let spool = spool.clone();
    // The subscription is at the server once another round trip is over.
    spool.ensure().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            question.delivery_query().unwrap();
            let row = SummaryRow { site: "x".repeat(1_000), ..SummaryRow::default() };
            let answer = DeliveryAnswer { member: name.to_owned(), rows: vec![row; rows], ..Default::default() };
            question.answer_delivery(answer).await;
        }
    })
}

fn summary() -> DeliveryQuery {
    DeliveryQuery { ask: Some(delivery_query::Ask::Summary(Default::default())) }
}

#[tokio::test]
async fn all_members_are_asked_and_those_that_answer_are_heard() {
    let server = Server::start();
    let spool = server.spool().await;
    let members = [member(&spool, "a", 0).await, member(&server.spool().await, "b", 0).await];
    let answers = spool.ask_delivery(&summary(), 2, Duration::from_secs(10)).await.unwrap();
    let mut names: Vec<String> = answers.into_iter().map(|answer| answer.member).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    let begun = tokio::time::Instant::now();
    assert_eq!(spool.ask_delivery(&summary(), 3, TIMEOUT).await.unwrap().len(), 2);
    assert!(begun.elapsed() >= TIMEOUT);
    members.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn nobody_there_is_no_answer_at_once() {
    let server = Server::start();
    let spool = server.spool().await;
    assert!(spool.ask_delivery(&summary(), 1, Duration::from_secs(60)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_cut() {
    let server = Server::start();
    let spool = server.spool().await;
    let member = member(&spool, "a", 3_000).await;
    let answers = spool.ask_delivery(&summary(), 1, Duration::from_secs(10)).await.unwrap();
    assert_eq!(answers[0].rows.len(), 750);
    member.abort();
}

#[tokio::test]
async fn a_limit_without_an_owner_is_said_to_have_none() {
    let server = Server::start();
    let spool = server.spool().await;
    let asked = spool.ask_limit(shard("b01"), "acquire".into(), Duration::from_secs(60)).await;
    assert!(matches!(asked, Err(AskError::NoResponders { .. })), "{asked:?}");
}

#[tokio::test]
async fn the_owner_of_a_limit_answers() {
    let server = Server::start();
    let spool = server.spool().await;
    let mut questions = spool.limit_questions(shard("b01")).await.unwrap();
    spool.ensure().await.unwrap();
    let asker = server.spool().await;
    let asking = asker.ask_limit(shard("b01"), "acquire".into(), Duration::from_secs(10));
    let answering = async {
        let question = questions.next().await.unwrap();
        assert_eq!(question.payload, "acquire");
        question.answer("granted".into()).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap(), "granted");
}
