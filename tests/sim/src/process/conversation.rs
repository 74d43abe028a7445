//! The task of one conversation. The shape of `services/delivery/src/conversation.rs`.

use postrider_dispatch::dispatcher::{AttemptResult, Conversation, Failure, FailureScope, Ticket};
use postrider_model::{EnvelopeId, ShardId, SiteName, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Here;
use super::worker::{Input, unreached};
use crate::exchangers::Ending;

/// What a conversation is told to do.
pub enum Word {
    Transmit(Job),
    Close,
}

/// One message to send.
pub struct Job {
    pub ticket: Ticket,
    pub id: EnvelopeId,
    pub shard: ShardId,
    pub epoch: u64,
    pub recipients: Vec<u32>,
    /// When the dispatcher decided it.
    pub ordered: Timestamp,
}

/// What a conversation reports.
#[derive(Debug)]
pub enum Report {
    Ready,
    Attempted { ticket: Ticket, results: Vec<(u32, AttemptResult)> },
    Ended { failure: Option<Failure> },
}

/// Runs until it is over; the last report is always `Ended`.
pub async fn run(
    here: Here,
    (conversation, permitted_until): (Conversation, Timestamp),
    site: SiteName,
    mut orders: mpsc::UnboundedReceiver<Word>,
    inputs: mpsc::UnboundedSender<Input>,
    cut: CancellationToken,
) {
    here.judge.connects((here.life, conversation), &site, permitted_until);
    let report = |report| drop(inputs.send(Input::Reported(conversation, report)));
    let converse = converse(&here, conversation, &site, &mut orders, &report);
    let failure = cut.run_until_cancelled(converse).await.flatten();
    here.judge.disconnects(here.life, conversation);
    report(Report::Ended { failure });
}

async fn converse(
    here: &Here,
    conversation: Conversation,
    site: &SiteName,
    orders: &mut mpsc::UnboundedReceiver<Word>,
    report: &impl Fn(Report),
) -> Option<Failure> {
    let greeted = tokio::select! {
        biased;
        () = closed_early(orders) => return None,
        greeted = here.world.exchangers.greet(site) => greeted,
    };
    if let Err(reply) = greeted {
        return Some(unreached(reply));
    }
    report(Report::Ready);
    loop {
        let patience = here.world.exchangers.patience();
        let job = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Word::Transmit(job)) => job,
                Some(Word::Close) | None => {
                    here.sim.sleep(here.sim.some_time(10)).await;
                    return None;
                }
            },
            () = here.sim.sleep(patience) => return None,
        };
        if !here.fence.may_act() {
            let text = "behind the fence".to_owned();
            return Some(Failure { scope: FailureScope::Ourselves, reply: None, text });
        }
        here.judge.acts(here.life, job.shard, job.epoch, "a message");
        here.judge.mails(here.life, site, u32::try_from(job.recipients.len()).unwrap(), job.ordered);
        here.judge.attempts(here.life, job.id, (job.shard, job.epoch));
        here.judge.is_busy(here.life, conversation, true);
        let ending = here.world.exchangers.take(here.life, job.id, job.recipients.clone()).await;
        here.judge.is_busy(here.life, conversation, false);
        let (results, goes_on) = match ending {
            Ok(Ending::Told(results)) => (results, true),
            Ok(Ending::Broken { after_end_of_data }) => (lost(&job.recipients, after_end_of_data), false),
            Err(_) => (lost(&job.recipients, false), false),
        };
        report(Report::Attempted { ticket: job.ticket, results });
        if !goes_on {
            return None;
        }
        report(Report::Ready);
    }
}

async fn closed_early(orders: &mut mpsc::UnboundedReceiver<Word>) {
    while let Some(Word::Transmit(_)) = orders.recv().await {}
}

fn lost(recipients: &[u32], after_end_of_data: bool) -> Vec<(u32, AttemptResult)> {
    let lost = |&index| (index, AttemptResult::Lost { text: "reset".to_owned(), after_end_of_data });
    recipients.iter().map(lost).collect()
}
