//! Lives of messages, over what lies in the journal and what members say.

use std::time::Duration;

use postrider_model::{MessageId, Move, Outcome, Tier};
use postrider_proto::control::v1 as api;
use postrider_proto::control::v1::delivery_query::Ask;
use tonic::Code;

use crate::audit::packet;
use crate::cluster::Cluster;
use crate::events::{accepted, attempted, message, retry, write};

async fn show(cluster: &Cluster, id: &str) -> Result<Vec<api::MessageLife>, tonic::Status> {
    let request = api::GetMessagesRequest { id: id.to_owned(), since: None };
    Ok(cluster.messages().get_messages(request).await?.into_inner().messages)
}

/// A delivery member that holds part 0 of `message` at hop 1.
async fn holder(cluster: &Cluster, message: MessageId) -> tokio::task::JoinHandle<()> {
    let mut questions = cluster.spool.delivery_questions().await.unwrap();
    // The subscription is at the server once another round trip is over.
    cluster.spool.ensure().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let asked = Some(Ask::Waiting(message.as_bytes().to_vec().into()));
            assert_eq!(question.delivery_query().unwrap().ask, asked);
            let part = api::WaitingPart {
                part: 0,
                hop: 1,
                site: "example.net".into(),
                reason: "rate-limit".into(),
                until_ms: 4_000_000_000_000,
                lifted_by: "the limit of the path".into(),
            };
            let answer = api::DeliveryAnswer { member: "delivery-0".into(), parts: vec![part], ..Default::default() };
            question.answer_delivery(answer).await;
        }
    })
}

#[tokio::test]
async fn a_deferred_message_is_shown_by_our_id_with_its_next_turn() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now();
    let accepted = accepted(1, now);
    let until = now.after(Duration::from_secs(300));
    write(&cluster, &[accepted.clone(), attempted(&accepted, Outcome::Deferred, 451, retry(until))]).await;
    cluster.spool.copy_to_tier(&packet(&accepted, 1), Tier::M5).await.unwrap();
    let lives = show(&cluster, &accepted.id.message.to_string()).await.unwrap();
    let waiting = lives[0].parts[0].waiting.as_ref().unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.tier.as_str(), waiting.member.as_str()), ("retry", "5m", ""));
    assert!(lives[0].notes.is_empty(), "{:?}", lives[0].notes);
    let attempt = lives[0].happenings[1].attempt.as_ref().unwrap();
    assert_eq!((attempt.exchanger.as_str(), attempt.tls.as_str()), ("mx.example.net", "TLSv1.3"));
    assert_eq!(lives[0].parts[0].recipients[0].reply.as_ref().unwrap().code, 451);
}

#[tokio::test]
async fn a_message_that_somebody_deleted_in_jetstream_is_missing_and_not_on_its_way() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now();
    let [due, waiting, moved] = [1, 2, 3].map(|n| accepted(n, now));
    let of = |record| attempted(record, Outcome::Deferred, 451, retry(now.after(Duration::from_secs(300))));
    let past = attempted(&due, Outcome::Deferred, 451, retry(now));
    write(&cluster, &[due.clone(), past, waiting.clone(), of(&waiting), moved.clone(), of(&moved)]).await;
    for (part, tier) in [(&waiting, Tier::M5), (&moved, Tier::H1)] {
        cluster.spool.copy_to_tier(&packet(part, 1), tier).await.unwrap();
    }
    let context = async_nats::jetstream::new(async_nats::connect(cluster.server.url()).await.unwrap());
    context.get_stream("RETRY_5m").await.unwrap().delete_message(1).await.unwrap();
    let told = async |record: &postrider_model::Record| {
        let life = show(&cluster, &record.id.message.to_string()).await.unwrap().remove(0);
        (life.parts[0].waiting.clone().unwrap().reason, life.notes.join(" "))
    };
    for gone in [&due, &waiting] {
        let (reason, notes) = told(gone).await;
        assert_eq!(reason, "missing");
        assert!(notes.contains("lies in no stream") && !notes.contains("on its way"), "{notes}");
    }
    assert_eq!(told(&moved).await, ("retry".to_owned(), String::new()), "promoters put it into another tier");
}

#[tokio::test]
async fn a_message_that_a_member_holds_is_shown_with_what_the_member_says() {
    let cluster = Cluster::start().await;
    let _member = cluster.member("delivery-0", true).await;
    let now = cluster.spool.server_now();
    let accepted = accepted(1, now);
    write(&cluster, &[accepted.clone(), attempted(&accepted, Outcome::Deferred, 451, retry(now))]).await;
    let holder = holder(&cluster, accepted.id.message).await;
    let lives = show(&cluster, &accepted.id.message.to_string()).await.unwrap();
    let waiting = lives[0].parts[0].waiting.as_ref().unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.member.as_str()), ("rate-limit", "delivery-0"));
    holder.abort();
}

#[tokio::test]
async fn a_message_is_shown_by_its_header_with_and_without_brackets() {
    let cluster = Cluster::start().await;
    let first = accepted(1, cluster.spool.server_now());
    let mut second = accepted(2, cluster.spool.server_now());
    second.header_message_id = "1@acme.example".into();
    write(&cluster, &[first, accepted(3, cluster.spool.server_now()), second]).await;
    for id in ["1@acme.example", "<1@acme.example>"] {
        assert_eq!(show(&cluster, id).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_message_of_a_process_whose_clock_is_ahead_is_shown_and_found() {
    let cluster = Cluster::start().await;
    let ahead = cluster.spool.server_now().after(Duration::from_secs(3_600));
    let accepted = accepted(1, ahead);
    let until = ahead.after(Duration::from_secs(300));
    write(&cluster, &[accepted.clone(), attempted(&accepted, Outcome::Deferred, 451, retry(until))]).await;
    for id in [accepted.id.message.to_string(), "1@acme.example".to_owned()] {
        let lives = show(&cluster, &id).await.unwrap();
        assert_eq!(lives[0].happenings.len(), 2, "{id}");
    }
    let to = accepted.outcomes[0].recipient.to_string();
    let request = api::FindMessagesRequest { to, ..Default::default() };
    let found = cluster.messages().find_messages(request).await.unwrap().into_inner();
    assert_eq!(found.messages.len(), 1);
}

#[tokio::test]
async fn a_message_that_nothing_is_recorded_about_says_so() {
    let cluster = Cluster::start().await;
    let id = message(9, cluster.spool.server_now());
    let refusal = show(&cluster, &id.to_string()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
    assert!(refusal.message().contains("nothing is recorded"), "{}", refusal.message());
    assert!(refusal.message().contains("no delivery process is alive"), "{}", refusal.message());
    let refusal = show(&cluster, "<unknown@acme.example>").await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
}

#[tokio::test]
async fn messages_to_an_address_are_found_with_their_last_event() {
    let cluster = Cluster::start().await;
    let now = cluster.spool.server_now();
    let mut early = accepted(1, now.before(Duration::from_secs(5)));
    early.outcomes[0].recipient = "ann@example.net".parse().unwrap();
    let mut late = accepted(2, now);
    late.outcomes[0].recipient = "ann@example.net".parse().unwrap();
    write(
        &cluster,
        &[early.clone(), attempted(&early, Outcome::Delivered, 250, Move::Finished), accepted(3, now), late.clone()],
    )
    .await;
    let request = api::FindMessagesRequest { to: "Ann@example.NET".into(), ..Default::default() };
    let found = cluster.messages().find_messages(request.clone()).await.unwrap().into_inner();
    let told: Vec<_> = found.messages.iter().map(|m| format!("{} {}", m.message_id, m.event)).collect();
    assert_eq!(told, [format!("{} accepted", late.id.message), format!("{} delivered", early.id.message)]);
    assert!(!found.truncated);
    let request = api::FindMessagesRequest { limit: 1, ..request };
    let found = cluster.messages().find_messages(request).await.unwrap().into_inner();
    assert_eq!((found.messages.len(), found.truncated), (1, true));
}
