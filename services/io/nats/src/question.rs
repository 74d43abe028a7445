//! Questions between processes over core NATS: what delivery members know, and what the owner of a limit grants. Nothing
//! here is durable; who does not answer in time has not answered.

use std::time::Duration;

use async_nats::client::Request;
use async_nats::{Client, Message, RequestErrorKind, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use postrider_model::ShardId;
use postrider_proto::control::v1::{DeliveryAnswer, DeliveryQuery};
use prost::Message as _;
use thiserror::Error;
use tokio::time::Instant;

use crate::spool::Spool;

const DELIVERY: &str = "query.delivery";

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens: the shard has no owner now.
    #[error("nobody answers on {subject}")]
    NoResponders {
        /// Where it was asked.
        subject: String,
    },
    /// Somebody listens, and has not answered in time.
    #[error("no answer on {subject} within {timeout:?}")]
    TimedOut {
        /// Where it was asked.
        subject: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// It could not be asked.
    #[error("cannot ask on {subject}: {why}")]
    Unavailable {
        /// Where it should have been asked.
        subject: String,
        /// What was met.
        why: String,
    },
}

/// Questions asked of this process.
pub struct Questions {
    client: Client,
    subscriber: Subscriber,
}

/// One question.
pub struct Question {
    /// What is asked, as it came.
    pub payload: Bytes,
    client: Client,
    reply: Option<Subject>,
}

impl Questions {
    /// The next question; `None` once the connection has ended for good. Safe to drop half way.
    pub async fn next(&mut self) -> Option<Question> {
        let Message { payload, reply, .. } = self.subscriber.next().await?;
        Some(Question { payload, client: self.client.clone(), reply })
    }
}

impl Question {
    /// Reads a question of control.
    ///
    /// # Errors
    /// If it is none.
    pub fn delivery_query(&self) -> Result<DeliveryQuery, prost::DecodeError> {
        DeliveryQuery::decode(self.payload.clone())
    }

    /// Answers. An answer that cannot be sent is logged and forgotten: the asker does not wait for ever.
    pub async fn answer(self, payload: Bytes) {
        let Some(reply) = self.reply else { return };
        if let Err(error) = self.client.publish(reply, payload).await {
            tracing::debug!(%error, "an answer was not sent");
        }
    }

    /// Answers control. Rows that do not fit into one message are cut off.
    pub async fn answer_delivery(self, mut answer: DeliveryAnswer) {
        let limit = self.client.max_payload();
        while answer.encoded_len() > limit && !answer.rows.is_empty() {
            answer.rows.truncate(answer.rows.len() / 2);
            tracing::warn!(rows = answer.rows.len(), "an answer is too long; cut");
        }
        self.answer(answer.encode_to_vec().into()).await;
    }
}

impl Spool {
    /// The questions that control asks of every delivery member.
    ///
    /// # Errors
    /// [`AskError::Unavailable`].
    pub async fn delivery_questions(&self) -> Result<Questions, AskError> {
        self.questions(DELIVERY.to_owned()).await
    }

    /// Asks all delivery members and gathers what they answer, until `expected` have answered or the time is over.
    ///
    /// # Errors
    /// [`AskError::Unavailable`] if it could not be asked at all. No answers are an empty list.
    pub async fn ask_delivery(
        &self,
        query: &DeliveryQuery,
        expected: usize,
        timeout: Duration,
    ) -> Result<Vec<DeliveryAnswer>, AskError> {
        let unavailable = |why: String| AskError::Unavailable { subject: DELIVERY.to_owned(), why };
        let deadline = Instant::now() + timeout;
        let inbox = self.client().new_inbox();
        let asked = async {
            let subscriber = self.client().subscribe(inbox.clone()).await.map_err(|e| unavailable(e.to_string()))?;
            let payload = query.encode_to_vec().into();
            let sent = self.client().publish_with_reply(DELIVERY, inbox.clone(), payload).await;
            sent.map(|()| subscriber).map_err(|e| unavailable(e.to_string()))
        };
        let Ok(subscriber) = tokio::time::timeout_at(deadline, asked).await else {
            return Err(unavailable("not connected".to_owned()));
        };
        let mut subscriber = subscriber?;
        let mut answers = Vec::new();
        while answers.len() < expected {
            let Ok(Some(message)) = tokio::time::timeout_at(deadline, subscriber.next()).await else { break };
            if message.status.is_some_and(|status| status == async_nats::StatusCode::NO_RESPONDERS) {
                break;
            }
            match DeliveryAnswer::decode(message.payload) {
                Ok(answer) => answers.push(answer),
                Err(error) => tracing::warn!(%error, "an answer of a delivery member cannot be read"),
            }
        }
        Ok(answers)
    }

    /// The questions about limits whose owner is the owner of `shard`.
    ///
    /// # Errors
    /// [`AskError::Unavailable`].
    pub async fn limit_questions(&self, shard: ShardId) -> Result<Questions, AskError> {
        self.questions(limit(shard)).await
    }

    /// Asks the owner of a limit.
    ///
    /// # Errors
    /// [`AskError::NoResponders`] if the shard has no owner now.
    pub async fn ask_limit(&self, shard: ShardId, payload: Bytes, timeout: Duration) -> Result<Bytes, AskError> {
        self.ask(limit(shard), payload, timeout).await
    }

    /// Asks for one answer.
    pub(crate) async fn ask(&self, subject: String, payload: Bytes, timeout: Duration) -> Result<Bytes, AskError> {
        let request = Request::new().payload(payload).timeout(Some(timeout));
        let asked = tokio::time::timeout(timeout, self.client().send_request(subject.clone(), request)).await;
        match asked {
            Ok(Ok(message)) => Ok(message.payload),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => AskError::NoResponders { subject },
                RequestErrorKind::TimedOut => AskError::TimedOut { subject, timeout },
                _ => AskError::Unavailable { subject, why: error.to_string() },
            }),
            Err(_) => Err(AskError::TimedOut { subject, timeout }),
        }
    }

    pub(crate) async fn questions(&self, subject: String) -> Result<Questions, AskError> {
        let client = self.client().clone();
        match client.subscribe(subject.clone()).await {
            Ok(subscriber) => Ok(Questions { client, subscriber }),
            Err(error) => Err(AskError::Unavailable { subject, why: error.to_string() }),
        }
    }
}

fn limit(shard: ShardId) -> String {
    format!("limit.{shard}")
}
