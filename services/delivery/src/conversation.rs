//! The task of one conversation: reaches an exchanger, sends the messages it is ordered to, and reports. It never chooses
//! what to send, and never retries.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_dispatch::dispatcher::{AttemptResult, Conversation, Failure, FailureScope, Ticket};
use postrider_model::{Attempt, Body, EnhancedCode, Envelope, Reply, Timestamp};
use postrider_nats::decode_body;
use postrider_net::ExchangePlan;
use postrider_runtime::clock;
use postrider_smtp::{RecipientResult, Transaction};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::connect::{Connector, Unreached, closed};
use crate::fence::SharedFence;
use crate::finish::Finisher;
use crate::session::{Progress, Session};

/// Work that outlasts this renews the lease of its message.
const RENEW_AFTER: Duration = Duration::from_secs(8 * 60);

/// What a conversation is told to do.
pub enum Order {
    /// Send this.
    Transmit(Box<Job>),
    /// QUIT.
    Close,
}

/// One message to send.
pub struct Job {
    /// The envelope's name in the index.
    pub ticket: Ticket,
    /// The envelope.
    pub envelope: Envelope,
    /// Where the body is.
    pub body: Body,
    /// The message, if it was read from BODY.
    pub message: Option<Bytes>,
    /// The recipients to try, by their position in the envelope.
    pub recipients: Vec<u32>,
}

/// What a conversation reports.
#[derive(Debug)]
pub enum Report {
    /// Greeted, or a message has ended: ready for another.
    Ready,
    /// A message has been tried.
    Attempted {
        /// Which.
        ticket: Ticket,
        /// What became of its recipients.
        results: Vec<(u32, AttemptResult)>,
        /// The conversation as the record shows it; its number is filled in later.
        attempt: Attempt,
    },
    /// The body of a message cannot be made whole.
    Damaged(Ticket),
    /// A message takes so long that its lease has to be renewed.
    Prolong(Ticket),
    /// Nobody was reached; the attempt is that of the envelope it was opened for.
    Unreached {
        /// Why.
        failure: Failure,
        /// Nothing will change that.
        permanent: bool,
        /// Where it was tried.
        attempt: Attempt,
    },
    /// It is over.
    Ended {
        /// What went wrong, if something did.
        failure: Option<Failure>,
    },
}

/// Everything a conversation needs.
pub struct ConversationTask {
    /// Its name.
    pub conversation: Conversation,
    /// The exchangers.
    pub plan: Arc<ExchangePlan>,
    /// The local address, if it matters.
    pub source: Option<IpAddr>,
    /// How the source is called in records.
    pub source_name: String,
    /// Dice for the order of exchangers.
    pub seed: u64,
    /// Reaches exchangers.
    pub connector: Connector,
    /// Puts the last touch to messages.
    pub finisher: Finisher,
    /// Looked at before each body.
    pub fence: SharedFence,
    /// What to do.
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// Where to report.
    pub reports: mpsc::Sender<(Conversation, Report)>,
    /// Cuts it.
    pub cut: CancellationToken,
}

/// Waits until a conversation that is not greeted yet is to be closed: nothing else is ordered before.
async fn closed_early(orders: &mut mpsc::UnboundedReceiver<Order>) {
    while let Some(Order::Transmit(_)) = orders.recv().await {}
}

impl ConversationTask {
    /// Runs until it is over; the last report is always `Ended`.
    pub async fn run(mut self) {
        let cut = self.cut.clone();
        let failure = tokio::select! {
            failure = self.converse() => failure,
            () = cut.cancelled() => None,
        };
        self.report(Report::Ended { failure }).await;
    }

    async fn report(&self, report: Report) {
        if self.reports.send((self.conversation, report)).await.is_err() {
            tracing::debug!(conversation = self.conversation.0, "nobody listens any more");
        }
    }

    fn attempt(&self, began: Timestamp, exchanger: &str, address: String, tls: &str) -> Attempt {
        Attempt {
            number: 0,
            source: self.source_name.clone(),
            exchanger: exchanger.to_owned(),
            address,
            tls: tls.to_owned(),
            began,
        }
    }

    async fn converse(&mut self) -> Option<Failure> {
        let began = clock::now();
        let reached = tokio::select! {
            biased;
            // Its permit has ended, say: then the connection counts against nobody's limit, and must not come about.
            () = closed_early(&mut self.orders) => return None,
            reached = self.connector.reach(&self.plan, self.source, self.seed) => reached,
        };
        let mut reached = match reached {
            Ok(reached) => reached,
            Err(Unreached { failure, permanent, exchanger, address }) => {
                let attempt = self.attempt(began, &exchanger, address, "");
                self.report(Report::Unreached { failure: failure.clone(), permanent, attempt }).await;
                return Some(failure);
            }
        };
        self.report(Report::Ready).await;
        loop {
            let order = tokio::select! {
                biased;
                order = self.orders.recv() => order,
                progress = reached.session.listen() => match progress {
                    Progress::Ready | Progress::Done(_) => continue,
                    // An idle connection that ends is nobody's fault.
                    Progress::Closed(_) => return None,
                },
            };
            let mut job = match order {
                Some(Order::Transmit(job)) => job,
                Some(Order::Close) | None => {
                    reached.session.quit().await;
                    return None;
                }
            };
            let attempt =
                self.attempt(clock::now(), &reached.exchanger, reached.address.to_string(), &reached.session.tls);
            let ticket = job.ticket;
            let Some(message) = whole(&mut job) else {
                self.report(Report::Damaged(ticket)).await;
                self.report(Report::Ready).await;
                continue;
            };
            let (results, progress) = match self.transmit(&mut reached.session, *job, message).await {
                Ok(done) => done,
                Err(failure) => return Some(failure),
            };
            self.report(Report::Attempted { ticket, results, attempt }).await;
            match progress {
                Progress::Ready | Progress::Done(_) => self.report(Report::Ready).await,
                // The message had its results: what the server thinks of the connection afterwards is told by its next greeting.
                Progress::Closed(_) => return None,
            }
        }
    }

    async fn transmit(
        &self,
        session: &mut Session,
        job: Job,
        message: Bytes,
    ) -> Result<(Vec<(u32, AttemptResult)>, Progress), Failure> {
        let Job { ticket, envelope, recipients, .. } = job;
        let signed = match self.finisher.finish(&envelope, message).await {
            Ok(signed) => signed,
            Err(error) => {
                // The fault of one key: the message waits, the connection is as good as before.
                tracing::error!(message = %envelope.message, error = format!("{error:#}"), "cannot sign a message");
                let reply = Reply::new(451, Some(EnhancedCode(4, 7, 5)), &format!("cannot be signed: {error:#}"));
                let unsigned = |index| (index, AttemptResult::Unsent { permanent: false, reply: reply.clone() });
                return Ok((recipients.into_iter().map(unsigned).collect(), Progress::Ready));
            }
        };
        if !self.fence.may_send().await {
            let text = "this process may not act until its membership is renewed".to_owned();
            return Err(Failure { scope: FailureScope::Ourselves, reply: None, text });
        }
        let wanted: Vec<_> = envelope
            .pending()
            .filter(|(index, _)| recipients.contains(index))
            .map(|(index, recipient)| (index, recipient.clone()))
            .collect();
        let indices: Vec<u32> = wanted.iter().map(|(index, _)| *index).collect();
        let transaction = Transaction {
            sender: envelope.sender,
            recipients: wanted,
            eight_bit: envelope.eight_bit,
            smtputf8: envelope.smtputf8,
            message: signed,
        };
        postrider_runtime::fault::point("data-begun");
        let progress = {
            let transact = session.transact(transaction);
            tokio::pin!(transact);
            loop {
                tokio::select! {
                    progress = &mut transact => break progress,
                    () = tokio::time::sleep(RENEW_AFTER) => self.report(Report::Prolong(ticket)).await,
                }
            }
        };
        postrider_runtime::fault::point("data-answered");
        match progress {
            Progress::Done(result) => {
                let results = result.recipients.into_iter().map(|(index, result)| (index, outcome(result))).collect();
                Ok((results, session.advance().await))
            }
            Progress::Closed(reason) => {
                let text = closed(&reason).text;
                let lost = |index| (index, AttemptResult::Lost { text: text.clone(), after_end_of_data: false });
                Ok((indices.into_iter().map(lost).collect(), Progress::Closed(reason)))
            }
            Progress::Ready => {
                let lost = |index| {
                    let text = "the client machine gave no result".to_owned();
                    (index, AttemptResult::Lost { text, after_end_of_data: false })
                };
                Ok((indices.into_iter().map(lost).collect(), Progress::Ready))
            }
        }
    }
}

/// The message of a job: as it was read, or unfolded from its own record.
fn whole(job: &mut Job) -> Option<Bytes> {
    if let Some(message) = job.message.take() {
        return Some(message);
    }
    let Body::Inline { bytes, compressed } = &job.body else { return None };
    match decode_body(bytes.clone(), *compressed) {
        Ok(message) => Some(message),
        Err(error) => {
            tracing::error!(message = %job.envelope.message, %error, "a body is damaged");
            None
        }
    }
}

fn outcome(result: RecipientResult) -> AttemptResult {
    match result {
        RecipientResult::Accepted(reply) => AttemptResult::Delivered(reply),
        RecipientResult::Refused { reply, .. } => AttemptResult::Refused(reply),
        RecipientResult::Lost { phase, after_end_of_data, why } => {
            AttemptResult::Lost { text: format!("at {}: {why}", phase.as_str()), after_end_of_data }
        }
    }
}
